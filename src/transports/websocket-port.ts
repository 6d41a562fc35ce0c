/**
 * A port that WebSocket listeners listen at: one that has it alone, or several, told apart by their paths.
 *
 * Room: transports. Sockets, TLS and the request belong to the port, until the request's path says whose the connection is. The
 * port is bound by the first listener and closed with the last; a listener in a pause holds what is its own.
 */
import type { Socket } from 'node:net'
import { arrive } from '../core/arrive.js'
import type { Endpoint } from '../core/endpoint.js'
import { BindError } from '../core/errors.js'
import type { Link, LinkSink, Listener, TransportOptions } from '../core/transport.js'
import { type Before, SocketArrival } from './socket-arrival.js'
import { StreamListener, type StreamListenerParts } from './stream-listener.js'
import type { Preambles } from './stream-preamble.js'
import { type BoundTcp, bindTcp, handedServers } from './tcp-bind.js'
import type { TlsHandshakes } from './tls-handshakes.js'
import { type WsLibrary, wsOptions } from './websocket-library.js'
import { WebSocketLink } from './websocket-link.js'
import type { WebSocketOptions } from './websocket-options.js'
import { type WebSocketScope, webSocketScope } from './websocket-scope.js'
import { misfitOf } from './websocket-sharing.js'
import { UpgradeRules, WebSocketUpgrades } from './websocket-upgrades.js'

type Options = TransportOptions<WebSocketOptions>

const BACKLOG = 511

/** Where nobody listens any more. */
const unheard: LinkSink = { open() {}, data() {}, end() {}, drain() {}, close() {} }

/** Those of this process, by address. */
const ports = new Map<string, WebSocketPort>()

const addressOf = ({ host, port }: Endpoint): string => `${host?.toLowerCase()} ${port}`

/** What a port goes by, made ready before it is bound. */
export interface PortParts {
  readonly handshakes: TlsHandshakes | undefined
  readonly preamblesOf: (sink: LinkSink) => Promise<Preambles | undefined>
}

/** Listens at a path: of a port that is bound for others already, or of a new one. */
export async function listenAtPath(
  library: WsLibrary,
  endpoint: Endpoint,
  options: Options,
  sink: LinkSink,
  prepare: () => Promise<PortParts>,
): Promise<Listener> {
  const known = ports.get(addressOf(endpoint))
  // With reusePort the kernel itself lets several have the address.
  if (known !== undefined && !(options.reusePort && known.misfit(endpoint, options) !== undefined)) {
    return known.join(library, endpoint, options, sink)
  }
  const parts = await prepare()
  const port = new WebSocketPort(options, parts.handshakes)
  const preambles = await parts.preamblesOf(port.sink)
  const bound = await bindTcp(endpoint, options)
  return port.begin(library, bound, preambles, sink)
}

class WebSocketPort {
  /** For what belongs to no path yet: told to the listener that has been here longest. */
  readonly sink: LinkSink
  readonly #options: Options
  readonly #handshakes: TlsHandshakes | undefined
  readonly #paths = new Set<PathListener>()
  readonly #leaving = new WeakSet<PathListener>()
  /** Kept for requests that were under way when their path went. */
  readonly #byRules = new WeakMap<UpgradeRules, PathListener>()
  readonly #upgrades = new WebSocketUpgrades()
  readonly #servers: StreamListener[] = []
  #parts: Omit<StreamListenerParts, 'servers' | 'closing'> | undefined

  constructor(options: Options, handshakes: TlsHandshakes | undefined) {
    this.#options = options
    this.#handshakes = handshakes
    const first = () => [...this.#paths][0]?.sink
    this.sink = {
      ...unheard,
      fault: (error, remote) => first()?.fault?.(error, remote),
      // Whose it is will be known by the path it asks for; until then it counts where faults are told.
      arrive: (arrival) => arrive(first() ?? unheard, arrival, undefined),
      reloaded: () => {
        for (const path of this.#paths) path.sink.reloaded?.()
      },
    }
  }

  /** Bound: its first listener. */
  begin(library: WsLibrary, bound: BoundTcp, preambles: Preambles | undefined, sink: LinkSink): Listener {
    const { backlog = BACKLOG, limits } = this.#options
    const path = this.#add(library, bound.endpoint, this.#options, sink)
    const scope = webSocketScope(bound.endpoint, 'accepted', this.#options, this.sink)
    const begin = (raw: Socket, front: Link | undefined) => this.#handshake(raw, front, scope)
    this.#parts = {
      endpoint: bound.endpoint,
      sink: this.sink,
      backlog,
      ...this.#handshakes?.parts(this.sink, limits?.handshakes),
      accept(raw) {
        if (preambles === undefined) begin(raw, undefined)
        else preambles.begin(raw, bound.endpoint, begin)
      },
    }
    this.#listen(bound)
    if (!ports.has(addressOf(bound.endpoint))) ports.set(addressOf(bound.endpoint), this)
    return path
  }

  /** Another listener. @throws {BindError} */
  async join(library: WsLibrary, endpoint: Endpoint, options: Options, sink: LinkSink): Promise<Listener> {
    const misfit = this.misfit(endpoint, options)
    if (misfit !== undefined) {
      throw new BindError('ADDRESS_IN_USE', `cannot listen on ${endpoint}: ${misfit}`, { endpoint })
    }
    // Somebody else binds: what comes for this listener is heard as well.
    const bound = await handedServers(options)
    const path = this.#add(library, endpoint.with({ port: this.#parts?.endpoint.port ?? endpoint.port }), options, sink)
    if (bound !== undefined) this.#listen(bound)
    this.settle()
    return path
  }

  /** @returns why another listener cannot have its address as well; undefined: it can. */
  misfit(endpoint: Endpoint, options: Options): string | undefined {
    for (const { endpoint: other, options: otherOptions } of this.#paths) {
      const misfit = misfitOf(endpoint, options, other, otherOptions)
      if (misfit !== undefined) return `${other} is there, and ${misfit}`
    }
    const isLayered = options.preamble !== undefined || this.#options.preamble !== undefined
    return isLayered ? 'layers before the upgrade are not shared by the paths of a port; take another port' : undefined
  }

  /** @internal It is in a pause while each of its paths is. */
  settle(): void {
    const isPaused = [...this.#paths].every((path) => path.isPaused)
    for (const listener of this.#servers) {
      if (isPaused) listener.pause()
      else listener.resume()
    }
  }

  /** @internal */
  async leave(path: PathListener): Promise<void> {
    this.#leaving.add(path)
    if (!this.#isOver) {
      await path.door.unbind()
      // The others go in the same turn, where a server stops: then whoever is on the way to it is still let in.
      if (this.#isOver) return
      this.#upgrades.remove(path.rules)
      this.#paths.delete(path)
      return this.settle()
    }
    for (const [address, port] of ports) if (port === this) ports.delete(address)
    await Promise.all([path.door.unbind(), ...this.#servers.map((listener) => listener.unbind())])
  }

  /** All that are there are about to go. */
  get #isOver(): boolean {
    return [...this.#paths].every((path) => this.#leaving.has(path))
  }

  /** @internal */
  get tls(): Pick<Listener, 'reload' | 'setCertificate'> {
    const { reload, setCertificate } = this.#parts ?? {}
    return { ...(reload === undefined ? {} : { reload }), setCertificate }
  }

  #add(library: WsLibrary, endpoint: Endpoint, options: Options, sink: LinkSink): PathListener {
    const rules = new UpgradeRules(library, wsOptions(options), endpoint, options)
    const path = new PathListener(this, endpoint, options, sink, rules)
    this.#paths.add(path)
    this.#byRules.set(rules, path)
    this.#upgrades.add(rules)
    return path
  }

  /** The first set of servers has the certificates' watch; others are more ways in. */
  #listen({ servers, closing }: BoundTcp): void {
    const parts = this.#parts as StreamListenerParts
    const { unbound, ...rest } = parts
    const own = this.#servers.length === 0 && unbound !== undefined ? { unbound } : {}
    this.#servers.push(new StreamListener({ ...rest, ...own, servers, ...(closing === undefined ? {} : { closing }) }))
  }

  #handshake(raw: Socket, front: Link | undefined, scope: WebSocketScope): void {
    const { handshakeMs } = scope
    const handshakes = this.#handshakes
    if (handshakes === undefined) return this.#upgrade(raw, raw, front, front, scope, handshakeMs)
    const arrival = SocketArrival.take(raw, scope, 'handshake', front)
    if (arrival === undefined) return
    const since = performance.now()
    handshakes.begin(raw, handshakeMs, (error, secured) => {
      if (arrival.isCut) return
      if (secured === undefined) return this.sink.fault?.(error, arrival.remote)
      const leftMs = Math.max(1, handshakeMs - (performance.now() - since))
      this.#upgrade(raw, secured, front, arrival, scope, leftMs)
    })
  }

  #upgrade(
    raw: Socket,
    socket: Socket,
    front: Link | undefined,
    before: Before | undefined,
    scope: WebSocketScope,
    upgradeMs: number,
  ): void {
    const first = [...this.#paths][0]
    const arrival = SocketArrival.take(raw, scope, 'upgrade', before)
    if (arrival === undefined) return
    this.#upgrades.begin(socket, upgradeMs, (error, accept, rules) => {
      if (arrival.isCut) return
      if (accept === undefined) return this.sink.fault?.(error, arrival.remote)
      const path = this.#byRules.get(rules) as PathListener
      const own = path === first ? arrival : move(arrival, raw, path.scope)
      if (own === undefined) return
      path.door.pass(raw, () => {
        accept((ws, facts) => {
          // The library turns it on.
          if (this.#options.noDelay === false) raw.setNoDelay(false)
          new WebSocketLink({ ws, socket, raw, facts, front, arrived: own.arrived }, path.scope).open()
        })
      })
    })
  }
}

/** Another listener's peer, as its path says: it takes a place there, and leaves the one it had. */
function move(arrival: SocketArrival, raw: Socket, scope: WebSocketScope): SocketArrival | undefined {
  const { local, remote } = arrival
  arrival.arrived?.left()
  return SocketArrival.take(raw, scope, 'upgrade', { local, remote })
}

/** One listener: what is its own of a port. */
class PathListener implements Listener {
  readonly endpoint: Endpoint
  readonly options: Options
  readonly sink: LinkSink
  readonly rules: UpgradeRules
  readonly scope: WebSocketScope
  /** Where those wait whose request was read in its pause. */
  readonly door: StreamListener
  readonly #port: WebSocketPort
  #unbound: Promise<void> | undefined
  isPaused = false

  constructor(port: WebSocketPort, endpoint: Endpoint, options: Options, sink: LinkSink, rules: UpgradeRules) {
    this.#port = port
    this.endpoint = endpoint
    this.options = options
    this.sink = sink
    this.rules = rules
    this.scope = webSocketScope(endpoint, 'accepted', options, sink)
    const { backlog = BACKLOG } = options
    this.door = new StreamListener({ endpoint, servers: [], sink, backlog, accept() {} })
  }

  pause(): void {
    this.isPaused = true
    this.door.pause()
    this.#port.settle()
  }

  resume(): void {
    this.isPaused = false
    this.#port.settle()
    this.door.resume()
  }

  async reload(): Promise<void> {
    await this.#port.tls.reload?.()
  }

  get setCertificate(): Listener['setCertificate'] {
    return this.#port.tls.setCertificate
  }

  unbind(): Promise<void> {
    this.#unbound ??= this.#port.leave(this)
    return this.#unbound
  }
}
