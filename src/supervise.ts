/**
 * The door of a supervisor: puts processes and sockets together with what conducts them.
 *
 * It runs no handler: those live in its workers. Of plugins it has what stands once (companions), and only where there are any.
 */
import { randomBytes } from 'node:crypto'
import { systemClock } from './core/clock.js'
import type { Control } from './core/control.js'
import { EventHub } from './core/events.js'
import { TICKETS_MS } from './core/ticket-secret.js'
import { Supervisor } from './core/workers/supervisor.js'
import { targetOf } from './supervisor-control.js'
import { proveByConnection } from './transports/probe.js'
import { ServerSockets } from './transports/socket-holder.js'
import { Processes } from './worker-processes.js'

/** Sockets that outlive whoever serves on them, and what is counted about them. */
export interface Foundation {
  readonly events: EventHub
  readonly counters: Record<string, number>
  readonly sockets: ServerSockets
}

/** @param inherited - Descriptors that another program has left, by the id of their address. */
export function lay(inherited?: ReadonlyMap<string, readonly number[]>): Foundation {
  const events = new EventHub()
  const counters: Record<string, number> = Object.create(null)
  const sockets = new ServerSockets({
    clock: systemClock,
    fault: (error) => events.emit('listener.fault', { listener: '', error, remote: undefined }),
    count: (name, by = 1) => {
      counters[name] = (counters[name] ?? 0) + by
    },
    ...(inherited === undefined ? {} : { inherited }),
  })
  return { events, counters, sockets }
}

export interface Supervision {
  readonly supervisor: Supervisor
  /** Answers for all workers together. */
  readonly target: Pick<Control, 'ask'>
  /** Ends its timers. */
  close(): void
}

export interface SupervisionOptions {
  /** To a server that is ready already: its own way there is no news. */
  readonly isSuccessor: boolean
  /** What workers print is written by this process, which sends it elsewhere. */
  readonly isRedirected: boolean
}

/** @param args - Of the command line; each worker reads them. */
export function supervise(
  args: readonly string[],
  { events, counters, sockets }: Foundation,
  { isSuccessor, isRedirected }: SupervisionOptions,
): Supervision {
  const began = performance.now()
  let keys: Uint8Array = randomBytes(48)
  const processes = new Processes(isRedirected)
  const supervisor = new Supervisor({
    spawn: (sink) => processes.spawn(sink),
    warm: (count) => processes.warm(count),
    holder: sockets,
    clock: systemClock,
    events,
    counters,
    args,
    isSuccessor,
    ticketKeys: () => keys,
    probe: async (worker, { wants }) => {
      const streams = wants.filter(({ kind }) => kind !== 'udp')
      await Promise.all(streams.map(({ key }) => proveByConnection(worker, key)))
    },
  })
  const rotation = setInterval(() => {
    keys = randomBytes(48)
    supervisor.rotateTickets()
  }, TICKETS_MS)
  rotation.unref()
  return {
    supervisor,
    target: targetOf(supervisor, counters, began),
    close() {
      clearInterval(rotation)
      processes.warm(0)
    },
  }
}
