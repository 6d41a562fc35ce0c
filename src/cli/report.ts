/**
 * Events of a server as lines on standard error.
 *
 * Room: the command line. One kind of line is written at most 20 times a second; what was left out is counted and said.
 */
import type { LoadedConfiguration } from '../core/config/index.js'
import { toError } from '../core/errors.js'
import { type EventName, type EventSource, type Events, eventNames } from '../core/events.js'
import { pairs } from '../core/printable.js'
import type { Arguments } from './arguments.js'
import { logLine } from './output.js'

const MOST_A_SECOND = 20

/** From which level on an event is written: 0 errors, 1 the life of the server, 2 connections, 3 messages. */
const levels: Readonly<Record<EventName, number>> = {
  'handler.failed': 0,
  'disposal.failed': 0,
  'listener.fault': 0,
  'limit.reached': 0,
  'limit.cleared': 1,
  'alarm.raised': 0,
  'alarm.cleared': 1,
  'watch.failed': 0,
  'plugin.bound': 1,
  'companion.failed': 0,
  'executor.lost': 0,
  'worker.started': 2,
  'worker.ready': 1,
  'worker.ended': 1,
  'workers.crashing': 0,
  'workers.recovered': 1,
  'reload.started': 1,
  'reload.finished': 1,
  'reload.failed': 0,
  'upgrade.started': 1,
  'upgrade.finished': 1,
  'upgrade.failed': 0,
  'executor.refused': 0,
  'message.dropped': 1,
  'server.state': 1,
  'listener.bound': 1,
  'listener.unbound': 1,
  'listener.reloaded': 1,
  'listener.suspended': 1,
  'listener.resumed': 1,
  'drain.started': 1,
  'drain.finished': 1,
  'connection.refused': 2,
  'connection.opened': 2,
  'connection.closed': 2,
  'connection.expired': 2,
  'frame.refused': 2,
  'connection.paused': 3,
  'connection.resumed': 3,
}

/**
 * @param worker - Whose server it is, where there are several.
 * @returns ends it.
 */
export function report(server: EventSource, level: number, worker?: number): () => void {
  const ends: (() => void)[] = []
  const who = worker === undefined ? {} : { worker }
  for (const name of eventNames) {
    if (levels[name] > level) continue
    const write = limited(name)
    const listen = (event: Events[EventName]) =>
      write(`${new Date().toISOString()} ${name} ${pairs({ ...who, ...factsOf(event) })}`)
    server.on(name, listen)
    ends.push(() => server.off(name, listen))
  }
  return () => {
    for (const end of ends) end()
  }
}

/** The fields of an event as text. */
function factsOf(event: Events[EventName]): Record<string, unknown> {
  const facts: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(event)) {
    if (key === 'connection') {
      const { id, remote, listener } = value as { id: string; remote?: unknown; listener?: string }
      Object.assign(facts, { connection: id, listener, remote: remote === undefined ? undefined : String(remote) })
    } else if (value instanceof Error) {
      facts.error = toError(value).message
      facts.code = (value as { code?: string }).code
    } else if (key === 'reason' && typeof value === 'object') {
      const { code, by, error } = value as { code: string; by: string; error?: Error }
      Object.assign(facts, { code, by, error: error?.message })
    } else facts[key] = value instanceof Date ? value.toISOString() : value
  }
  return facts
}

function limited(name: string): (line: string) => void {
  let second = 0
  let written = 0
  let left = 0
  const sayLeft = () => {
    if (left > 0) logLine(`${name}: ${left} more lines of this kind were left out`)
    left = 0
  }
  return (line) => {
    const now = Math.floor(performance.now() / 1_000)
    if (now !== second) {
      sayLeft()
      second = now
      written = 0
    }
    if (++written <= MOST_A_SECOND) logLine(line)
    // Said even if no further line comes.
    else if (left++ === 0) setTimeout(sayLeft, 1_000).unref()
  }
}

/** How much is logged. */
export function levelOf({ flags }: Arguments, configuration: LoadedConfiguration): number {
  if (flags.quiet) return 0
  const times = (flags.verbose as readonly boolean[] | undefined)?.length ?? 0
  return times > 0 ? 1 + times : (configuration.values.verbose ?? 1)
}
