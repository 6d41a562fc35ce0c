/**
 * The session as a protocol sees it that has taken the connection over.
 *
 * Room: core, mechanism of the session.
 */
import type { Duplex } from 'node:stream'
import type { Connection } from './connection.js'
import type { SessionPlan } from './plan.js'
import type { ProtocolPort } from './plugin.js'

/** What the port needs of a session besides what everybody may see. */
export interface PortedSession extends Connection {
  readonly plan: SessionPlan
  lend(): Duplex | undefined
  handleFor(message: unknown, route: string | undefined, frameBytes: number): unknown
}

export class Port implements ProtocolPort {
  readonly connection: PortedSession
  readonly draining: Promise<void>
  #drain: () => void = () => {}

  constructor(session: PortedSession) {
    this.connection = session
    this.draining = new Promise((resolve) => {
      this.#drain = resolve
    })
  }

  get limits(): SessionPlan['limits'] {
    return this.connection.plan.limits
  }
  get timeouts(): SessionPlan['timeouts'] {
    return this.connection.plan.timeouts
  }
  stream(): Duplex {
    return this.connection.lend() ?? this.connection.stream()
  }
  handle(message: unknown, route: string | undefined, bytes: number): unknown {
    return this.connection.handleFor(message, route, bytes)
  }
  drain(): void {
    this.#drain()
  }
}
