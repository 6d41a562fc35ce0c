/**
 * The sockets of a supervisor: bound once, kept until its end, shared out to its workers.
 *
 * Room: transports. Four ways to share: each accepted connection goes to a worker in turn, or by its source; workers accept from
 * one socket; or each worker has a socket of its own on the same port. Datagrams go by their peer.
 */
import { closeSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import type { Clock } from '../core/clock.js'
import { Endpoint, type EndpointParts } from '../core/endpoint.js'
import { AcceptError, BindError, ConfigError } from '../core/errors.js'
import type { SocketKind, SocketSource } from '../core/transport.js'
import { Distribution, type Item, type Seat } from '../core/workers/distribution.js'
import type { HeldSet, SocketHolder, SocketPort, Want } from '../core/workers/holder.js'
import { type Balance, refuseUnsupported } from '../core/workers/options.js'
import { type DatagramSeat, HeldDatagrams } from './held-datagrams.js'
import { HeldStream, type NativeHandle } from './held-stream.js'
import { type OpenedSockets, openSockets } from './open-sockets.js'
import { reset } from './reset.js'
import { refuseUnsharedKey, sharedSessionKey } from './udp-session-key.js'

type Held = HeldStream | HeldDatagrams

/** Where a socket cannot be stopped, or not yet: beyond this newcomers are refused. */
const MOST_WAITING = 4_096
/** At the end: for the loop to accept what the kernel has completed, and for workers to take it. */
const LAST_TURNS = 3
const FINISH_MS = 1_000

/** One address, which outlives configurations that name it. */
interface Address {
  /** What makes it the same in another configuration. */
  readonly id: string
  readonly want: Want
  readonly endpoint: Endpoint
  /** One; with `reuse-port` one for each slot. */
  readonly held: Held[]
}

interface Newcomer extends Item<HeldStream> {
  readonly socket: Socket
  readonly address: string
}

export interface SocketHolderParts {
  readonly clock: Clock
  /** A socket failed to accept, or something was lost. */
  fault(error: Error): void
  /** Counts. */
  count(name: string, by?: number): void
  /** Descriptors that another program has left us, by the id of their address. */
  readonly inherited?: ReadonlyMap<string, readonly number[]>
}

export class ServerSockets implements SocketHolder {
  readonly #parts: SocketHolderParts
  readonly #addresses = new Map<string, Address>()
  readonly #distribution: Distribution<Newcomer>
  readonly #seats = new Map<SocketPort, { seat: Seat<Newcomer>; set: BoundSet }>()
  readonly #datagramSeats = new Map<HeldDatagrams, Map<SocketPort, DatagramSeat>>()
  readonly #suspended = new Map<string, boolean>()
  readonly #lent = new Map<string, Lent>()
  readonly #taken = new Set<string>()
  #isYielded = false

  constructor(parts: SocketHolderParts) {
    this.#parts = parts
    this.#distribution = new Distribution({ balance: 'round-robin', clock: parts.clock })
  }

  async bind(wants: readonly Want[], given: Balance, count: number, port: SocketPort): Promise<HeldSet> {
    refuseUnsupported(given)
    // One worker alone has nobody to share with.
    const balance = count === 1 && given !== 'reuse-port' ? 'kernel' : given
    const chosen = new Map<string, Address>()
    const made: Address[] = []
    const seen = new Map<string, number>()
    try {
      for (const want of wants) {
        if (count > 1) refuseUnsharedKey(want.listener, want.options, balance)
        const plain = idOf(want)
        const shared = wants.find((one) => chosen.has(one.key) && sharesAddress(one, want))
        if (shared !== undefined) {
          chosen.set(want.key, chosen.get(shared.key) as Address)
          continue
        }
        const times = (seen.get(plain) ?? 0) + 1
        seen.set(plain, times)
        const id = times === 1 ? plain : `${plain} ${times}`
        let address = this.#addresses.get(id)
        if (address !== undefined) refuseChange(address.want, want)
        else {
          address = { id, want, endpoint: new Endpoint(want.endpoint), held: [] }
          made.push(address)
        }
        await this.#fill(
          address,
          want,
          balance === 'reuse-port' && want.kind !== 'descriptor' ? count : 1,
          balance,
          port,
        )
        chosen.set(want.key, address)
      }
    } catch (error) {
      for (const { held } of made) for (const one of held) one.close()
      throw error
    }
    for (const address of made) this.#addresses.set(address.id, address)
    return new BoundSet(this, balance, chosen, new Map(wants.map((want) => [want.key, want])))
  }

  unseat(port: SocketPort): void {
    const found = this.#seats.get(port)
    if (found === undefined) return
    this.#seats.delete(port)
    this.#distribution.remove(found.seat)
    for (const [held, seats] of this.#datagramSeats) {
      if (seats.delete(port)) held.seats = [...seats.values()]
    }
    this.#settleCopies()
  }

  keepOnly(set: HeldSet | undefined): void {
    const kept = new Set(set === undefined ? [] : (set as BoundSet).addresses.values())
    for (const [id, address] of this.#addresses) {
      if (kept.has(address) || this.#lent.get(id)?.isHandedOn === false) continue
      this.#addresses.delete(id)
      for (const held of address.held) {
        if (held instanceof HeldDatagrams) this.#datagramSeats.delete(held)
        else for (const { socket } of this.#distribution.forget(held)) refuse(socket)
        held.close()
      }
    }
  }

  suspend(listener: string, isSuspended: boolean): void {
    this.#suspended.set(listener, isSuspended)
    for (const { set } of this.#seats.values()) this.#settleSuspension(set)
  }

  /** For a program that takes over: what is bound, and by which descriptors. */
  inventory(): { readonly id: string; readonly descriptors: readonly number[] }[] {
    this.recall()
    return [...this.#addresses.values()].map(({ id, held }) => ({
      id,
      descriptors: held.flatMap((one) =>
        one instanceof HeldDatagrams ? one.handles().map(({ fd }) => fd) : one.descriptors,
      ),
    }))
  }

  /** @internal A worker that gets connections from now on. */
  seat(port: SocketPort, set: BoundSet): void {
    const isAccepting = set.balance === 'round-robin' || set.balance === 'source'
    if (isAccepting) this.#distribution.balance = set.balance as 'round-robin' | 'source'
    // Whose a connection is, where listeners share an address, is known to the worker alone: it goes by the first one's name.
    const keys = new Map<Held, string>()
    const wants = new Map<Held, Want[]>()
    for (const [key, { held }] of set.addresses) {
      for (const one of held) {
        if (!keys.has(one)) keys.set(one, key)
        wants.set(one, [...(wants.get(one) ?? []), set.wantOf(key)])
      }
    }
    const seat: Seat<Newcomer> = {
      slot: port.slot,
      serves: ({ source }) => port.isReachable && keys.has(source),
      isFull: ({ source }) => (wants.get(source) ?? []).every(({ listener }) => port.isFull(listener)),
      waits: ({ source }) => (wants.get(source) ?? []).every(({ waits }) => waits),
      give: (item, done) => {
        const { source, socket } = item
        this.#parts.count('workers.handed')
        // One that left while it waited is handed over all the same: what it sent before is still to be read.
        port.give({ t: 'c', k: keys.get(source) }, socket, (fate) => {
          // Ours is one of two descriptors; with a worker that has gone it is the last.
          if (fate === 'unsent') this.#distribution.offer(item)
          else socket.destroy()
          done()
        })
      },
    }
    this.#seats.set(port, { seat, set })
    this.#distribution.add(seat)
    for (const [held, key] of keys) {
      if (!(held instanceof HeldDatagrams) || set.balance === 'reuse-port') continue
      held.keyOf = sharedSessionKey(set.wantOf(key).options)
      const seats = this.#datagramSeats.get(held) ?? new Map<SocketPort, DatagramSeat>()
      this.#datagramSeats.set(held, seats)
      seats.set(port, {
        slot: port.slot,
        give: (index, batch, done) => port.send({ t: 'u', k: key, i: index, d: batch }, undefined, done),
      })
      held.seats = [...seats.values()]
    }
    this.#settleCopies()
    for (const held of keys.keys()) {
      if (held instanceof HeldDatagrams) continue
      // Workers that accept for themselves: what was accepted here meanwhile has its way to them too.
      if (isAccepting) held.go('workers')
      else held.stop('workers')
    }
    this.#settleSuspension(set)
  }

  changed(): void {
    this.#distribution.check()
  }

  async finish(): Promise<void> {
    const until = performance.now() + FINISH_MS
    for (let turn = 0; turn < LAST_TURNS || (this.#distribution.waiting > 0 && this.#seats.size > 0); turn++) {
      if (performance.now() > until) return
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  /** Second descriptors come by way of any worker there is. */
  #settleCopies(): void {
    const port = [...this.#seats.keys()][0]
    const copy = port === undefined ? undefined : (handle: NativeHandle) => port.copy(handle) as Promise<NativeHandle>
    for (const { held } of this.#addresses.values())
      for (const one of held) if (one instanceof HeldStream) one.copier = copy
  }

  #settleSuspension(set: BoundSet): void {
    const listeners = new Map<Address, string[]>()
    for (const [key, address] of set.addresses) {
      listeners.set(address, [...(listeners.get(address) ?? []), set.wantOf(key).listener])
    }
    for (const [{ held }, names] of listeners) {
      if (!names.some((name) => this.#suspended.has(name))) continue
      const isSuspended = names.every((name) => this.#suspended.get(name) === true)
      for (const one of held) {
        if (one instanceof HeldDatagrams) continue
        if (isSuspended) one.stop('operator')
        else one.go('operator')
      }
    }
  }

  /** Binds as many sockets as are missing. */
  async #fill(address: Address, want: Want, count: number, balance: Balance, port: SocketPort): Promise<void> {
    const copy = (handle: NativeHandle) => port.copy(handle) as Promise<NativeHandle>
    const inherited = this.#inherited(address.id)
    while (address.held.length < count) {
      const first = address.held[0]
      const endpoint = first?.endpoint ?? address.endpoint
      const options = { ...want.options, ...(balance === 'reuse-port' ? { reusePort: true } : {}) }
      const held = await this.#open(want, endpoint, options, first === undefined ? inherited : undefined)
      address.held.push(held)
      if (held instanceof HeldDatagrams && balance === 'reuse-port') held.mute()
    }
    for (const held of address.held) {
      if (held instanceof HeldDatagrams) continue
      await held.hold(copy)
      if (balance === 'reuse-port') held.stop('workers')
    }
  }

  async #open(
    want: Want,
    endpoint: Endpoint,
    options: Record<string, unknown>,
    inherited: readonly number[] | undefined,
  ): Promise<Held> {
    const opened = await openSockets(want.kind, endpoint, options, inherited)
    for (const server of opened.servers) (server as Server & { pauseOnConnect: boolean }).pauseOnConnect = true
    return this.#hold(opened, options, false)
  }

  /** @param isLent - A server in this process takes what comes. */
  #hold(opened: OpenedSockets, options: { readonly backlog?: number }, isLent: boolean): Held {
    const { count, fault } = this.#parts
    const { endpoint, servers, datagrams } = opened
    if (datagrams.length > 0) {
      return new HeldDatagrams(endpoint, datagrams, (lost) => count('workers.lost-datagrams', lost), isLent)
    }
    const closing = (close: () => void) => this.#close(opened, close)
    return new HeldStream({
      ...opened,
      servers,
      closing,
      isLent,
      backlog: options.backlog ?? 511,
      accepted: (socket, held) => {
        count('workers.accepted')
        if (this.#distribution.waiting >= MOST_WAITING) {
          count('workers.refused')
          return refuse(socket)
        }
        // A Unix peer has no address; nor has one that left already.
        this.#distribution.offer({ source: held, socket, address: socket.remoteAddress ?? '' })
      },
      failed: (cause) => fault(new AcceptError('ACCEPT_FAILED', `${endpoint}: ${cause.message}`, { endpoint, cause })),
    })
  }

  #close({ closing }: OpenedSockets, close: () => void): void {
    if (closing === undefined || this.#isYielded) close()
    else closing(close)
  }

  /** Another program serves by them: files of Unix sockets are left where they are. */
  yieldNames(): void {
    this.#isYielded = true
  }

  /** What was inherited and is not in the configuration any more: nobody would take its connections. */
  closeUnused(): void {
    for (const [id, descriptors] of this.#parts.inherited ?? []) {
      if (this.#taken.has(id)) continue
      for (const descriptor of descriptors) closeSync(descriptor)
    }
  }

  #inherited(id: string): readonly number[] | undefined {
    this.#taken.add(id)
    return this.#parts.inherited?.get(id)
  }

  // -- a server in this process --------------------------------------------------------------------------------------

  /** Binds for a server in this process, which serves by itself until its sockets are handed on. */
  lend(key: string, kind: SocketKind, endpoint: Endpoint): SocketSource {
    return {
      take: async (given) => {
        const options = given as Record<string, unknown>
        const { scheme, host, port, path } = endpoint
        const listener = key.slice(0, key.lastIndexOf('/'))
        const want: Want = {
          key,
          listener,
          kind,
          endpoint: { scheme, host, port, path },
          options: bindingOf(options),
          waits: false,
        }
        const shared = [...this.#lent.values()].find((one) => !one.isHandedOn && sharesAddress(one.want, want))
        // One socket, which the listener that bound it gives back with the last of them.
        if (shared !== undefined) return { endpoint: shared.opened.endpoint, sockets: [] }
        let id = idOf(want)
        for (let times = 2; this.#lent.has(id); times++) id = `${idOf(want)} ${times}`
        const opened = await openSockets(kind, endpoint, options, this.#inherited(id))
        const lent: Lent = { id, want, opened, isHandedOn: false }
        this.#lent.set(id, lent)
        const closing = (close: () => void) => {
          this.#lent.delete(id)
          // Handed on, the file is the holder's, and stays.
          if (lent.isHandedOn) close()
          else this.#close(opened, close)
        }
        return { endpoint: opened.endpoint, sockets: [...opened.servers, ...opened.datagrams], closing }
      },
    }
  }

  /** Makes what was lent known, so that workers find it bound. */
  recall(): void {
    for (const { id, want, opened } of this.#lent.values()) {
      if (this.#addresses.has(id)) continue
      if (opened.isFixed) {
        const message = `${opened.endpoint}: its path leaves no room for a second name in that folder, so it cannot be handed on; take a shorter path`
        throw new BindError('PATH_TOO_LONG', message, { endpoint: opened.endpoint })
      }
      const held = this.#hold(opened, want.options, true)
      this.#addresses.set(id, { id, want, endpoint: new Endpoint(want.endpoint), held: [held] })
    }
  }

  /** Workers serve: what was lent is the holder's alone, and the server in this process may end. */
  handOn(): void {
    for (const lent of this.#lent.values()) {
      lent.isHandedOn = true
      for (const held of this.#addresses.get(lent.id)?.held ?? []) held.release()
    }
  }
}

/** Of a server in this process. */
interface Lent {
  readonly id: string
  readonly want: Want
  readonly opened: OpenedSockets
  isHandedOn: boolean
}

/** What one configuration has bound. */
class BoundSet implements HeldSet {
  readonly balance: Balance
  readonly addresses: ReadonlyMap<string, Address>
  readonly #owner: ServerSockets
  readonly #wants: ReadonlyMap<string, Want>

  constructor(
    owner: ServerSockets,
    balance: Balance,
    addresses: ReadonlyMap<string, Address>,
    wants: ReadonlyMap<string, Want>,
  ) {
    this.#owner = owner
    this.balance = balance
    this.addresses = addresses
    this.#wants = wants
  }

  wantOf(key: string): Want {
    return this.#wants.get(key) as Want
  }

  get endpoints(): ReadonlyMap<string, EndpointParts> {
    return new Map([...this.addresses].map(([key, { held }]) => [key, this.#boundFor(key, held[0] as Held)]))
  }

  async equip(port: SocketPort): Promise<void> {
    const list: object[] = []
    const isAccepting = this.balance === 'round-robin' || this.balance === 'source'
    for (const [key, { held }] of this.addresses) {
      const own = held[port.slot % held.length] as Held
      const isDatagram = own instanceof HeldDatagrams
      const handles = isDatagram || !isAccepting ? own.handles() : []
      const types = isDatagram ? own.types : []
      handles.forEach((handle, index) => port.send({ t: 'handle', k: key, i: index }, handle))
      // Without a descriptor to share it is accepted for them.
      const isOwn = isDatagram ? this.balance === 'reuse-port' : handles.length > 0
      list.push({
        key,
        endpoint: this.#boundFor(key, own),
        mode: isOwn ? 'own' : 'given',
        types,
        handles: handles.length,
      })
    }
    port.send({ t: 'bound', sockets: list })
  }

  seat(port: SocketPort): void {
    this.#owner.seat(port, this)
  }

  /** In the words of this configuration: another one may have said tcp:// where this one says tls://. */
  #boundFor(key: string, { endpoint }: Held): EndpointParts {
    const { kind, endpoint: wanted } = this.wantOf(key)
    const { scheme, host, port, path } = endpoint
    if (kind === 'descriptor') return { scheme, host, port, path }
    return { ...wanted, host, port }
  }
}

/** Two configurations mean the same address when they say the same; port 0 is another one for each listener. */
function idOf({ kind, endpoint, key }: Want): string {
  const text = String(new Endpoint({ ...endpoint, ...(kind === 'tcp' ? { scheme: 'tcp', path: undefined } : {}) }))
  return endpoint.port === 0 ? `${kind} ${text} ${key}` : `${kind} ${text}`
}

/** Paths of one port: the same address, and something behind it that tells them apart (`Transport.shares`). */
function sharesAddress(one: Want, other: Want): boolean {
  const isSame = one.endpoint.scheme === other.endpoint.scheme && one.endpoint.path !== other.endpoint.path
  return isSame && one.kind === 'tcp' && other.kind === 'tcp' && idOf(one) === idOf(other)
}

/** Of a socket's options, what another process may be told. */
function bindingOf(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([key]) => fixed.includes(key) || key === 'backlog'))
}

/** What a socket is bound with stays. */
const fixed = ['ipv6Only', 'mode', 'receiveBuffer', 'sendBuffer', 'broadcast', 'multicast']

function refuseChange(old: Want, now: Want): void {
  for (const option of fixed) {
    if (JSON.stringify(old.options[option]) === JSON.stringify(now.options[option])) continue
    const place = `listeners.${now.listener}.socket.${option}`
    const message = `${place}: is ${JSON.stringify(old.options[option])} where ${new Endpoint(now.endpoint)} is bound, and cannot become ${JSON.stringify(now.options[option])} by a reload; restart, or take another address`
    throw new ConfigError('BAD_VALUE', message, { place })
  }
}

/** Its listener is gone. */
function refuse(socket: Socket): void {
  if (socket.remoteAddress === undefined) socket.destroy()
  else reset(socket, socket)
}
