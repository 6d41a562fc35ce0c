/**
 * Core's side of one bound endpoint: what its transport tells, handed on to the listener and its sessions.
 *
 * Room: core, mechanism of the listener.
 */
import type { CloseReason } from './connection.js'
import type { LatencyRecorder } from './control/latency.js'
import type { Endpoint } from './endpoint.js'
import type { Binding, ListenerPlan, SessionPlan } from './plan.js'
import type { Session, SessionHost, SessionScope } from './session.js'
import type { Arrival, Arrived, Link, LinkSink } from './transport.js'
import { timedPlan } from './watched-plan.js'

/** The listener, as far as newcomers are concerned. */
export interface Doorkeeper {
  readonly name: string
  readonly plan: ListenerPlan
  /** Keeps a place for a peer that is no link yet. @returns undefined: refused. */
  arrive(arrival: Arrival, scope: SessionScope): Arrived | undefined
  /** Lets a link in as a session, or aborts it. */
  admit(link: Link, scope: SessionScope): Session | undefined
  /** After its start. */
  opened(session: Session): void
  forget(session: Session, reason: CloseReason): void
  fault(error: Error, remote: Endpoint | undefined): void
  reloaded(): void
}

type MutableScope = { -readonly [K in keyof SessionScope]: SessionScope[K] }

/** Core's side of one bound endpoint: hands each call on to the link's session. */
export class ListenerSink implements LinkSink {
  readonly scope: MutableScope
  readonly #listener: Doorkeeper

  constructor(listener: Doorkeeper, binding: Binding, host: SessionHost, once: boolean) {
    this.#listener = listener
    this.scope = {
      host,
      plan: listener.plan,
      candidates: undefined,
      endpoint: binding.endpoint,
      listener: listener.name,
      transport: binding.name,
      capabilities: binding.capabilities,
      once,
      closed: (session, reason) => listener.forget(session, reason),
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

  /** Sessions read their plan from here at each message. */
  measure(recorder: LatencyRecorder | undefined): void {
    const watched = (plan: SessionPlan) =>
      recorder === undefined ? plan : timedPlan(plan, recorder, this.scope.host.clock)
    const { plan } = this.#listener
    this.scope.plan = watched(plan)
    this.scope.candidates?.forEach(({ scope }, i) => {
      ;(scope as MutableScope).plan = watched(plan.candidates?.[i]?.plan ?? scope.plan)
    })
  }

  arrive(arrival: Arrival): Arrived | undefined {
    return this.#listener.arrive(arrival, this.scope)
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

  end(link: Link, reason?: string): void {
    ;(link.state as Session | undefined)?.peerEnded(reason)
  }

  heard(link: Link, part?: 'begun' | 'whole'): void {
    ;(link.state as Session | undefined)?.heard(part)
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
