/**
 * `report`: what an observer has seen, in each process that serves.
 *
 * Room: core, mechanism of the control socket. This is how what stands once (a companion) learns of what stands in each process
 * (an observer): plain data, asked over the way by which workers are steered. Who does not answer in time is named, not waited for.
 */
import type { Server } from '../lifecycle.js'
import { brief, type ControlRequest, textOf } from './ask.js'

/** What the observer of one process said. */
export interface ObserverReport {
  /** Of no other process that this server had; one that takes another's place has its own. */
  readonly process: string
  /** Its place among them, which the process that takes its place has too: `0`, `1`, ...; undefined where the server is one process. */
  readonly worker: string | undefined
  /** Of the process: `ready`, `draining`, ...; `ended`: its last words, which are told for a minute. */
  readonly state: string
  /** Undefined: it has not begun, has not answered in time, or has ended without a word. */
  readonly report: unknown
}

/** What `report` answers. */
export interface Reports {
  /** Of the server as a whole. */
  readonly state: string
  /** How many processes shall serve. */
  readonly expected: number
  readonly reports: readonly ObserverReport[]
  /** Of the supervisor, where there is one. */
  readonly counters: Readonly<Record<string, number>>
}

/** @throws {Error} for an observer that is not there, or does not report. */
export function reportsOf(server: Server, request: ControlRequest): Reports {
  const report = reportOf(server, request)
  const { state } = server
  return {
    state,
    expected: 1,
    counters: {},
    reports: [{ process: `${process.pid}`, worker: undefined, state, report }],
  }
}

export function reportOf(server: Server, request: ControlRequest): unknown {
  const name = textOf(request, 'observer')
  const observer = (server.observers ?? []).find((one) => one.name === name && one.report !== undefined)
  if (observer === undefined) throw new Error(`report: no observer ${brief(name)} that reports`)
  return observer.report?.()
}

/** The last words of all of them, for when nobody can ask any more. */
export function lastReportsOf(server: Server): Record<string, unknown> {
  const last: Record<string, unknown> = {}
  for (const observer of server.observers ?? []) {
    try {
      if (observer.report !== undefined) last[observer.name] = observer.report()
    } catch {
      // Whoever has nothing to say is left out.
    }
  }
  return last
}
