/**
 * One listener at run time: its bound endpoints, who is let in, and the sessions of those who were.
 *
 * Room: core, mechanism.
 */
import { Admission, type AdmissionLimits, checkLive } from './admission.js'
import { type Alarms, Threshold } from './alarms.js'
import { Arrivals } from './arrivals.js'
import { ofListener } from './config/trace.js'
import type { CloseReason } from './connection.js'
import type { LatencyRecorder } from './control/latency.js'
import type { Endpoint } from './endpoint.js'
import {
  AcceptError,
  BindError,
  ConfigError,
  GaidarosError,
  HandshakeError,
  ShutdownError,
  toError,
  WiringError,
} from './errors.js'
import { stack } from './layer-stack.js'
import type { ListenerHandle, ListenerState } from './lifecycle.js'
import { type Doorkeeper, ListenerSink } from './listener-sink.js'
import type { Limits, TlsIdentity } from './options.js'
import type { Binding, ListenerPlan } from './plan.js'
import { Session, type SessionHost, type SessionScope, type Traffic } from './session.js'
import type { Arrival, Arrived, Link, LinkSink, Listener, TransportOptions } from './transport.js'

/** A bound listener tells its server of sessions that ended. */
export interface ListenerOwner {
  readonly host: SessionHost
  /** Serve one message of one connection, then stop. */
  readonly once: boolean
  readonly alarms: Alarms
  /** All listeners together have as many connections as they may. */
  readonly isFull: boolean
  /** One more is in: a session, or a peer that is to become one. */
  entered(): void
  left(): void
  sessionClosed(session: Session, reason: CloseReason): void
}

/** Why newcomers wait. */
const SUSPENDED = 1
const FULL = 2 // with whenFull `pause`
const OVER_RATE = 4 // likewise
const HELD = 8 // memory is short
const STARTING = 16 // not everything is bound, or somebody has something to do before the first is let in

interface Waiter {
  readonly isMet: (count: number) => boolean
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class ServerListener implements ListenerHandle, Doorkeeper {
  readonly name: string
  readonly plan: ListenerPlan
  readonly sessions = new Set<Session>()
  readonly #owner: ListenerOwner
  readonly #bound: Listener[] = []
  readonly #sinks: ListenerSink[] = []
  /** Of connections that are gone. */
  readonly #past: Traffic = { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0 }
  readonly #waiters = new Set<Waiter>()
  readonly #admission: Admission
  readonly #arrivals: Arrivals
  readonly #nearlyFull = new Threshold(0.9, 0.8)
  readonly #accepted = new Map<string, number>()
  #state: ListenerState = 'unbound'
  #endpoints: readonly Endpoint[]
  #isFull = false
  #isRateWatched = false
  /** Zero: newcomers are taken at once. */
  #waits = 0
  #drainBy: Date | undefined
  #patienceMs = 0
  /** `handle()` has its one connection. */
  #isTaken = false

  constructor(plan: ListenerPlan, owner: ListenerOwner) {
    this.name = plan.name
    this.plan = plan
    this.#owner = owner
    this.#endpoints = plan.bindings.map((binding) => binding.endpoint)
    this.#admission = new Admission(plan.limits, owner.host.clock.now())
    this.#arrivals = new Arrivals({
      clock: owner.host.clock,
      admission: this.#admission,
      refused: (reason, remote) => this.#tellRefused(reason, remote),
      changed: (by) => {
        if (by === 1) owner.entered()
        else owner.left()
        this.#changed()
      },
    })
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
  get handshaking(): number {
    return this.#arrivals.size
  }
  /** Nobody is there, and nobody is on the way in. */
  get isEmpty(): boolean {
    return this.sessions.size === 0 && this.#arrivals.size === 0
  }
  get accepted(): ReadonlyMap<string, number> {
    return this.#accepted
  }
  get limits(): Readonly<Limits> {
    return { ...this.plan.limits, ...this.#admission.limits }
  }
  get traffic(): Readonly<Traffic> {
    const total = { ...this.#past }
    for (const session of this.sessions) session.addTraffic(total)
    return total
  }

  /** Binds all endpoints of the plan, or none. @throws {BindError} */
  async bind(): Promise<void> {
    const { events } = this.#owner.host
    try {
      for (const binding of this.plan.bindings) {
        const sink = new ListenerSink(this, binding, this.#owner.host, this.#owner.once)
        this.#sinks.push(sink)
        const listener = await binding.transport.listen(...this.#listening(sink, binding))
        this.#bound.push(listener)
        // In the very turn in which it was bound: nobody has been accepted yet.
        if (this.#waits !== 0) listener.pause()
        sink.bound(listener.endpoint)
      }
    } catch (thrown) {
      await this.unbind()
      // The transport knows its options by their names alone: `tls.cert`.
      if (thrown instanceof ConfigError) throw ofListener(thrown, this.name)
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

  /** Layers stand on what the transport opens; those of its preamble it puts beneath its own handshake. */
  #listening(sink: LinkSink, binding: Binding): [Endpoint, TransportOptions, LinkSink] {
    const { layers, preambles, endpoint, capabilities, options } = binding
    if (layers.length === 0) return [endpoint, options, sink]
    const { limits, timeouts } = this.plan
    const scope = { side: 'accepted', endpoint, listener: this.name, limits, timeouts, tls: options.tls } as const
    const above = stack(layers.slice(preambles), sink, { ...scope, kind: capabilities.kind })
    if (preambles === 0) return [endpoint, options, above]
    const preamble = (gate: LinkSink) => stack(layers.slice(0, preambles), gate, { ...scope, kind: 'stream' })
    return [endpoint, { ...options, preamble }, above]
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
    this.#arrivals.drain(deadline.getTime() - Date.now())
    for (const session of this.sessions) session.drain(deadline, patienceMs)
  }

  /** Resolves when it is empty. */
  async untilEmpty(): Promise<void> {
    while (!this.isEmpty) {
      await Promise.all([this.#arrivals.untilNone(), ...[...this.sessions].map((session) => session.ended)])
    }
  }

  /** From now on no session begins any more. @returns how many connections were cut. */
  forceClose(): number {
    this.#arrivals.close()
    const forced = this.sessions.size
    for (const session of this.sessions) session.forceClose()
    return forced
  }

  suspend(): void {
    if (this.#state !== 'listening') return
    this.#state = 'suspended'
    this.#wait(SUSPENDED, true)
    this.#owner.host.events.emit('listener.suspended', { listener: this.name })
  }

  resume(): void {
    if (this.#state !== 'suspended') return
    this.#state = 'listening'
    this.#owner.host.events.emit('listener.resumed', { listener: this.name })
    this.#wait(SUSPENDED, false)
  }

  /** Memory is short: newcomers wait, or no longer. */
  hold(isHeld: boolean): void {
    this.#wait(HELD, isHeld)
  }

  /** Newcomers wait, from before the bind on, until all is as it should be. */
  holdStart(isHeld: boolean): void {
    this.#wait(STARTING, isHeld)
  }

  #wait(reason: number, isOn: boolean): void {
    const before = this.#waits
    this.#waits = isOn ? before | reason : before & ~reason
    if (this.#state === 'unbound' || this.#state === 'closed' || (before === 0) === (this.#waits === 0)) return
    for (const listener of this.#bound) {
      if (this.#waits === 0) listener.resume()
      else listener.pause()
    }
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

  /** @internal Records how long messages take, from now on; undefined ends it. Costs nothing while it is off. */
  measure(recorder: LatencyRecorder | undefined): void {
    for (const sink of this.#sinks) sink.measure(recorder)
  }

  async setCertificate(name: string, identity: TlsIdentity | undefined): Promise<void> {
    const able = this.#bound.filter((listener) => listener.setCertificate !== undefined)
    if (able.length === 0) {
      const message = `listener ${this.name} shows no certificates: it is not bound, or began without \`tls.cert\`, \`tls.pfx\` and \`tls.sni\``
      throw new WiringError('NEEDS_UNMET', message, { listener: this.name })
    }
    for (const listener of able) await listener.setCertificate?.(name, identity)
    this.reloaded()
  }

  /** By itself, because a file has changed. */
  reloaded(): void {
    this.#owner.host.events.emit('listener.reloaded', { listener: this.name })
  }

  setLimits(limits: Partial<AdmissionLimits>): void {
    checkLive(`listener ${this.name}`, limits, ['connections', 'connectionsPerSource', 'acceptRate'])
    const sessions = [...this.sessions].map((session) => [session, session.remote?.host] as const)
    this.#admission.change(limits, [...sessions, ...this.#arrivals], this.#owner.host.clock.now())
    this.#watchRate()
    this.watchLimit()
  }

  waitForConnections(count: number | ((count: number) => boolean)): Promise<void> {
    const isMet = typeof count === 'number' ? (now: number) => now === count : count
    if (isMet(this.sessions.size)) return Promise.resolve()
    return new Promise((resolve, reject) => this.#waiters.add({ isMet, resolve, reject }))
  }

  // -- called by the sink --------------------------------------------------------------------------------------------

  /** Keeps a place for a peer that is no link yet. @returns undefined: refused. */
  arrive(arrival: Arrival, { transport, endpoint }: SessionScope): Arrived | undefined {
    this.#countAccepted(transport)
    const refusal = this.#refusal(arrival, endpoint, arrival.stage !== 'header')
    if (refusal !== undefined) {
      this.#tellRefused(refusal, arrival.remote)
      return undefined
    }
    const arrived = this.#arrivals.enter(arrival)
    this.#watchRate()
    return arrived
  }

  /** Lets a link in as a session, or aborts it. */
  admit(link: Link, scope: SessionScope): Session | undefined {
    const place = this.#arrivals.placeOf(link)
    if (place === undefined) this.#countAccepted(scope.transport)
    const refusal = place === undefined ? this.#refusal(link, scope.endpoint, true) : this.#lateRefusal(place, link)
    if (refusal !== undefined) {
      place?.left()
      this.#tellRefused(refusal, link.remote)
      link.abort()
      return undefined
    }
    const session = new Session(link, scope)
    this.sessions.add(session)
    if (place === undefined) {
      this.#admission.enter(session, () => link.remote?.host)
      this.#owner.entered()
    } else this.#arrivals.takeOver(place, session)
    this.#changed()
    this.#watchRate()
    return session
  }

  #countAccepted(transport: string): void {
    this.#owner.host.count('accepted')
    this.#accepted.set(transport, (this.#accepted.get(transport) ?? 0) + 1)
  }

  #tellRefused(reason: string, remote: Endpoint | undefined, count = 1): void {
    const { host } = this.#owner
    host.count(`refused.${reason}`, count)
    if (!host.events.wants('connection.refused')) return
    for (let i = 0; i < count; i++) {
      host.events.emit('connection.refused', { listener: this.name, remote, reason })
    }
  }

  /** After `start`: one that comes during the drain is served what it sent, and ended. */
  opened(session: Session): void {
    if (this.#owner.once) {
      this.#isTaken = true
      for (const listener of this.#bound) listener.pause()
    }
    if (this.#drainBy !== undefined) session.drain(this.#drainBy, this.#patienceMs)
  }

  forget(session: Session, reason: CloseReason): void {
    this.sessions.delete(session)
    this.#admission.left(session)
    session.addTraffic(this.#past)
    this.#owner.left()
    this.#owner.sessionClosed(session, reason)
    this.#changed()
  }

  fault(error: Error, remote: Endpoint | undefined): void {
    const { host } = this.#owner
    // Who looked in and was gone before it could be asked for its address is no fault of anything here.
    if (error instanceof AcceptError && error.code === 'UNKNOWN_ADDRESS') {
      return this.#tellRefused('unknown-address', remote, Number(error.fields.count ?? 1))
    }
    host.count(`fault.${error instanceof GaidarosError ? error.code : 'UNKNOWN'}`)
    // A report of a datagram listener stands for as many as it says.
    const { reason, count } = (error as { fields?: { reason?: unknown; count?: unknown } }).fields ?? {}
    if (typeof reason === 'string' && typeof count === 'number') host.count(`lost.${reason}`, count)
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

  /** @param isSourceKnown - False: a header will say for whom it comes. */
  #refusal(newcomer: Link | Arrival, endpoint: Endpoint, isSourceKnown: boolean): string | undefined {
    if (this.#arrivals.isClosed) return 'shutdown'
    if (this.#isTaken) return 'connections'
    if (this.#owner.isFull) return 'server'
    const isAddressed = endpoint.host !== undefined
    const host = () => newcomer.remote?.host
    return this.#admission.refusal(this.#present, host, this.#owner.host.clock.now(), isAddressed, isSourceKnown)
  }

  /** Of one that has its place: what was not known, or not so, as it arrived. */
  #lateRefusal(place: Arrived, link: Link): string | undefined {
    if (this.#isTaken) return 'connections'
    return this.#admission.move(place, () => link.remote?.host) ? undefined : 'source'
  }

  /** Who counts: sessions, and those that are to become one. */
  get #present(): number {
    return this.sessions.size + this.#arrivals.size
  }

  /** With `whenFull: 'pause'` the next newcomer waits until the rate lets it in. */
  #watchRate(): void {
    if (this.plan.limits.whenFull !== 'pause') return
    const { clock } = this.#owner.host
    const waitMs = this.#admission.waitMs(clock.now())
    this.#wait(OVER_RATE, waitMs > 0)
    if (waitMs === 0 || this.#isRateWatched) return
    this.#isRateWatched = true
    clock.after(waitMs, () => {
      this.#isRateWatched = false
      this.#watchRate()
    })
  }

  /** The number of connections is another one. */
  #changed(): void {
    this.watchLimit()
    if (this.#waiters.size === 0) return
    for (const waiter of this.#waiters) {
      if (!waiter.isMet(this.sessions.size)) continue
      this.#waiters.delete(waiter)
      waiter.resolve()
    }
  }

  /** Its own limit or the server's may be met, or no longer. */
  watchLimit(): void {
    const { alarms, host, isFull: isServerFull } = this.#owner
    const { connections: limit } = this.#admission.limits
    const present = this.#present
    const isFull = present >= limit
    alarms.set('connections', this.name, this.#nearlyFull.at(present, limit), present, limit)
    if (this.plan.limits.whenFull === 'pause') this.#wait(FULL, isFull || isServerFull)
    if (isFull === this.#isFull) return
    this.#isFull = isFull
    const facts = { listener: this.name, limit: 'connections' }
    if (isFull) host.events.emit('limit.reached', { ...facts, value: limit })
    else host.events.emit('limit.cleared', facts)
  }
}
