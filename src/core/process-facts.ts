/**
 * Whether a process id is still the process that wrote it down.
 *
 * Room: core, mechanism. Numbers are given again: after a reboot, and at once in a container that starts again, where the server
 * or its init is process 1 each time (proc_pid_stat(5)).
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'

/** USER_HZ, which is 100 wherever Node runs (time(7)). */
const TICKS_PER_SECOND = 100
/** Both times are rounded, and the clock may have been set by a little between them. */
const SLACK_MS = 5_000

/**
 * @param pid - Of a process that runs.
 * @param writtenMs - When it was written down, in ms since 1970.
 * @returns why it is not the process that was written down; undefined when it may well be; `unknown` where nobody tells, which
 *   is everywhere but on Linux.
 */
export function otherProgram(pid: number, writtenMs: number): string | undefined {
  const line = readOr(`/proc/${pid}/stat`)
  if (line === undefined) return 'unknown'
  // The name in parentheses may hold anything, parentheses too.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ')
  const [state] = fields
  if (state === 'Z' || state === 'X') return 'it has ended'
  if (readOr(`/proc/${pid}/cmdline`) === '') return 'it is a thread of the kernel'
  const bootSeconds = Number(/^btime (\d+)$/m.exec(readOr('/proc/stat') ?? '')?.[1])
  const startedMs = (bootSeconds + Number(fields[19]) / TICKS_PER_SECOND) * 1_000
  if (startedMs > writtenMs + SLACK_MS) return 'it was started later'
  const program = programOf(pid)
  if (program === undefined) return sharesThreadName(pid) ? undefined : 'it does not run Node'
  return program === programOf(process.pid) ? undefined : `it is ${program}`
}

/** @returns undefined where we may not look: a process of another user, or one with more capabilities (ptrace(2)). */
function programOf(pid: number): string | undefined {
  try {
    // A program that was replaced while it runs, as by an update.
    return basename(readlinkSync(`/proc/${pid}/exe`)).replace(/ \(deleted\)$/, '')
  } catch {
    return undefined
  }
}

/** The names of threads are everybody's to read, and `process.title` changes the first one's alone. */
function sharesThreadName(pid: number): boolean {
  const own = new Set(['node', 'MainThread', ...threadNames(process.pid)])
  const names = threadNames(pid)
  return names.length === 0 || names.some((name) => own.has(name))
}

function threadNames(pid: number): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) => readOr(`/proc/${pid}/task/${task}/comm`)?.trim() ?? [])
  } catch {
    return []
  }
}

function readOr(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
