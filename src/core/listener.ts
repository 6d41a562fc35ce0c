/**
 * One listener at run time: its bound endpoints, who is let in, and the sessions of those who were.
 *
 * Room: core, mechanism.
 */
import type { CloseReason } from './connection.js'
import type { Endpoint } from './endpoint.js'
import { AcceptError, BindError, GaidarosError, HandshakeError, ShutdownError, toError, WiringError } from './errors.js'
import { stack } from './layer-stack.js'
import type { ListenerHandle, ListenerState } from './lifecycle.js'
import type { Limits } from './options.js'
import type { Binding, ListenerPlan } from './plan.js'
import { Session, type SessionHost, type SessionScope } from './session.js'
import type { Link, LinkSink, Listener } from './transport.js'

/** A bound listener tells its server of sessions that ended. */
export interface ListenerOwner {
  readonly host: SessionHost
  /** Serve one message of one connection, then stop. */
  readonly once: boolean
  sessionClosed(session: Session, reason: CloseReason): void
}

interface Waiter {
  readonly isMet: (count: number) => boolean
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class ServerListener implements ListenerHandle {
  readonly name: string
  readonly plan: ListenerPlan
  readonly sessions = new Set<Session>()
  readonly #owner: ListenerOwner
  readonly #bound: Listener[] = []
  readonly #waiters = new Set<Waiter>()
  readonly #bySource = new Map<string, number>()
  #state: ListenerState = 'unbound'
  #endpoints: readonly Endpoint[]
  #connectionLimit: number
  #sourceLimit: number
  #isFull = false
  #drainBy: Date | undefined
  #patienceMs = 0
  /** `handle()` has its one connection. */
  #isTaken = false

  constructor(plan: ListenerPlan, owner: ListenerOwner) {
    this.name = plan.name
    this.plan = plan
    this.#owner = owner
    this.#endpoints = plan.bindings.map((binding) => binding.endpoint)
    this.#connectionLimit = plan.limits.connections
    this.#sourceLimit = plan.limits.connectionsPerSource
  }

  get endpoint(): Endpoint {
    return this.#endpoints[0] as Endpoint
  }
  get endpoints(): readonly Endpoint[] {
    return this.#endpoints
  }
  get state(): ListenerState {
    return this.#state
  }
  get connections(): number {
    return this.sessions.size
  }

  /** Binds all endpoints of the plan, or none. @throws {BindError} */
  async bind(): Promise<void> {
    const { events } = this.#owner.host
    try {
      for (const binding of this.plan.bindings) {
        const sink = new ListenerSink(this, binding, this.#owner)
        const listener = await binding.transport.listen(binding.endpoint, binding.options, this.#layered(sink, binding))
        this.#bound.push(listener)
        sink.bound(listener.endpoint)
      }
    } catch (thrown) {
      await this.unbind()
      throw thrown instanceof GaidarosError
        ? thrown
        : new BindError('BIND_FAILED', `listener ${this.name}: ${toError(thrown).message}`, {
            cause: thrown,
            listener: this.name,
          })
    }
    this.#endpoints = this.#bound.map((listener) => listener.endpoint)
    this.#state = 'listening'
    for (const endpoint of this.#endpoints) events.emit('listener.bound', { listener: this.name, endpoint })
  }

  #layered(sink: LinkSink, { layers, endpoint, capabilities, options }: Binding): LinkSink {
    if (layers.length === 0) return sink
    const { limits, timeouts } = this.plan
    const { kind } = capabilities
    return stack(layers, sink, {
      side: 'accepted',
      endpoint,
      listener: this.name,
      kind,
      limits,
      timeouts,
      tls: options.tls,
    })
  }

  /** Frees the addresses; connections stay. */
  async unbind(): Promise<void> {
    const wasBound = this.#state !== 'unbound' && this.#state !== 'closed'
    this.#state = 'closed'
    const failures: unknown[] = []
    await Promise.all(this.#bound.map((listener) => listener.unbind().catch((error) => failures.push(error))))
    for (const waiter of this.#waiters) waiter.reject(new ShutdownError('SHUTDOWN', `listener ${this.name} is closed`))
    this.#waiters.clear()
    if (!wasBound) return
    const { events } = this.#owner.host
    for (const endpoint of this.#endpoints) events.emit('listener.unbound', { listener: this.name, endpoint })
    for (const error of failures) this.fault(toError(error), undefined)
  }

  /** Ends each connection in order; newcomers that were in the kernel's queue too. */
  drain(deadline: Date, patienceMs = 0): void {
    this.#drainBy = deadline
    this.#patienceMs = patienceMs
    for (const session of this.sessions) session.drain(deadline, patienceMs)
  }

  forceClose(): number {
    const forced = this.sessions.size
    for (const session of this.sessions) session.forceClose()
    return forced
  }

  suspend(): void {
    if (this.#state !== 'listening') return
    this.#state = 'suspended'
    for (const listener of this.#bound) listener.pause()
    this.#owner.host.events.emit('listener.suspended', { listener: this.name })
  }

  resume(): void {
    if (this.#state !== 'suspended') return
    this.#state = 'listening'
    this.#owner.host.events.emit('listener.resumed', { listener: this.name })
    if (!this.#isFull || this.plan.limits.whenFull === 'refuse') for (const listener of this.#bound) listener.resume()
  }

  async reload(): Promise<boolean> {
    try {
      for (const listener of this.#bound) await listener.reload?.()
    } catch (thrown) {
      this.fault(toError(thrown), undefined)
      return false
    }
    this.reloaded()
    return true
  }

  /** By itself, because a file has changed. */
  reloaded(): void {
    this.#owner.host.events.emit('listener.reloaded', { listener: this.name })
  }

  setLimits(limits: Partial<Pick<Limits, 'connections' | 'connectionsPerSource'>>): void {
    for (const [key, value] of Object.entries(limits)) {
      const isKnown = key === 'connections' || key === 'connectionsPerSource'
      const isLimit =
        typeof value === 'number' && value >= 0 && (Number.isInteger(value) || value === Number.POSITIVE_INFINITY)
      if (!isKnown || !isLimit) {
        const expected = 'connections or connectionsPerSource, a whole number or Infinity'
        throw new WiringError(
          'BAD_OPTION',
          `listener ${this.name}: setLimits takes ${expected}; got ${key}: ${String(value)}`,
        )
      }
    }
    this.#connectionLimit = limits.connections ?? this.#connectionLimit
    this.#sourceLimit = limits.connectionsPerSource ?? this.#sourceLimit
    this.#watchLimit()
  }

  waitForConnections(count: number | ((count: number) => boolean)): Promise<void> {
    const isMet = typeof count === 'number' ? (now: number) => now === count : count
    if (isMet(this.sessions.size)) return Promise.resolve()
    return new Promise((resolve, reject) => this.#waiters.add({ isMet, resolve, reject }))
  }

  // ── called by the sink ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Lets a link in as a session, or aborts it. */
  admit(link: Link, scope: SessionScope): Session | undefined {
    const { host } = this.#owner
    host.count('accepted')
    const refusal = this.#refusal(link)
    if (refusal !== undefined) {
      host.count(`refused.${refusal}`)
      if (host.events.wants('connection.refused')) {
        host.events.emit('connection.refused', { listener: this.name, remote: link.remote, reason: refusal })
      }
      link.abort()
      return undefined
    }
    const session = new Session(link, scope)
    this.sessions.add(session)
    if (this.#sourceLimit !== Number.POSITIVE_INFINITY || this.#bySource.size > 0) this.#countSource(link, 1)
    this.#changed()
    return session
  }

  /** After `start`: one that comes during the drain is served what it sent, and ended. */
  opened(session: Session): void {
    if (this.#owner.once) {
      this.#isTaken = true
      for (const listener of this.#bound) listener.pause()
    }
    if (this.#drainBy !== undefined) session.drain(this.#drainBy, this.#patienceMs)
  }

  forget(session: Session, link: Link, reason: CloseReason): void {
    this.sessions.delete(session)
    if (this.#bySource.size > 0) this.#countSource(link, -1)
    this.#changed()
    this.#owner.sessionClosed(session, reason)
  }

  fault(error: Error, remote: Endpoint | undefined): void {
    const { host } = this.#owner
    host.count(`fault.${error instanceof GaidarosError ? error.code : 'UNKNOWN'}`)
    if (error instanceof AcceptError && error.code === 'OUT_OF_DESCRIPTORS') {
      host.events.emit('limit.reached', {
        listener: this.name,
        limit: 'descriptors',
        value: Number(error.fields.cap ?? 0),
      })
    }
    const isHandshake = error instanceof HandshakeError
    if (host.events.wants('listener.fault')) host.events.emit('listener.fault', { listener: this.name, error, remote })
    if (isHandshake) host.count('refused.handshake')
  }

  #refusal(link: Link): string | undefined {
    if (this.#isTaken) return 'connections'
    if (this.sessions.size >= this.#connectionLimit) return 'connections'
    if (this.#sourceLimit === Number.POSITIVE_INFINITY) return undefined
    const source = link.remote?.host
    return source !== undefined && (this.#bySource.get(source) ?? 0) >= this.#sourceLimit ? 'source' : undefined
  }

  #countSource(link: Link, by: 1 | -1): void {
    const source = link.remote?.host
    if (source === undefined) return
    const count = (this.#bySource.get(source) ?? 0) + by
    if (count > 0) this.#bySource.set(source, count)
    else this.#bySource.delete(source)
  }

  /** The number of connections is another one. */
  #changed(): void {
    this.#watchLimit()
    if (this.#waiters.size === 0) return
    for (const waiter of this.#waiters) {
      if (!waiter.isMet(this.sessions.size)) continue
      this.#waiters.delete(waiter)
      waiter.resolve()
    }
  }

  #watchLimit(): void {
    const isFull = this.sessions.size >= this.#connectionLimit
    if (isFull === this.#isFull) return
    this.#isFull = isFull
    const { events } = this.#owner.host
    const limit = 'connections'
    if (isFull) events.emit('limit.reached', { listener: this.name, limit, value: this.#connectionLimit })
    else events.emit('limit.cleared', { listener: this.name, limit })
    if (this.plan.limits.whenFull !== 'pause' || this.#state !== 'listening') return
    for (const listener of this.#bound) {
      if (isFull) listener.pause()
      else listener.resume()
    }
  }
}

type MutableScope = { -readonly [K in keyof SessionScope]: SessionScope[K] }

/** Core's side of one bound endpoint: hands each call on to the link's session. */
class ListenerSink implements LinkSink {
  readonly scope: MutableScope
  readonly #listener: ServerListener

  constructor(listener: ServerListener, binding: Binding, owner: ListenerOwner) {
    this.#listener = listener
    this.scope = {
      host: owner.host,
      plan: listener.plan,
      candidates: undefined,
      endpoint: binding.endpoint,
      listener: listener.name,
      transport: binding.name,
      capabilities: binding.capabilities,
      once: owner.once,
      closed: (session, reason) => listener.forget(session, session.link, reason),
    }
    const { candidates } = listener.plan
    if (candidates === undefined) return
    this.scope.candidates = candidates.map(({ protocol, plan }) => ({ protocol, scope: { ...this.scope, plan } }))
  }

  /** The endpoint really bound. */
  bound(endpoint: Endpoint): void {
    this.scope.endpoint = endpoint
    for (const { scope } of this.scope.candidates ?? []) (scope as MutableScope).endpoint = endpoint
  }

  open(link: Link): void {
    const session = this.#listener.admit(link, this.scope)
    link.state = session
    if (session === undefined) return
    session.start()
    this.#listener.opened(session)
  }

  data(link: Link, buffer: Uint8Array, start: number, end: number): void {
    ;(link.state as Session | undefined)?.data(toBuffer(buffer), start, end)
  }

  end(link: Link): void {
    ;(link.state as Session | undefined)?.peerEnded()
  }

  drain(link: Link): void {
    ;(link.state as Session | undefined)?.drained()
  }

  close(link: Link, error?: Error): void {
    ;(link.state as Session | undefined)?.linkClosed(error)
  }

  fault(error: Error, remote?: Endpoint): void {
    this.#listener.fault(error, remote)
  }

  reloaded(): void {
    this.#listener.reloaded()
  }
}

export function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
