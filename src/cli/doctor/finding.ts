/**
 * What `gaidaros doctor` looks at, and what it says.
 *
 * Room: the command line. Each check is a pure function from facts to findings, so that each can be tried with any facts.
 */
import type { LoadedConfiguration } from '../../core/config/index.js'
import type { ListenerPlan } from '../../core/plan.js'

/** `note`: worth knowing. `warning`: will hurt some day; `--strict` refuses it. `error`: does not work, or is a hole. */
export type Level = 'ok' | 'note' | 'warning' | 'error'

export interface Finding {
  readonly level: Level
  /** The check's name; `--accept` takes it. */
  readonly check: string
  /** `listeners.public`, or empty for the whole. */
  readonly where: string
  readonly found: string
  /** Empty where all is well. */
  readonly why: string
  /** What to do. */
  readonly remedy: string
}

export interface Facts {
  readonly configuration: LoadedConfiguration | undefined
  /** Planned, nothing bound; empty when the configuration is wrong. */
  readonly listeners: readonly ListenerPlan[]
  readonly now: Date
  readonly nodeVersion: string
  readonly isRoot: boolean
  /** `daemon.user`, by name or number; undefined when the process stays who it is. */
  readonly user: string | undefined
  /** Of some files those that are there and that user may not read; none unless root asks. */
  keptFromUser(files: readonly string[]): readonly string[]
  /** Soft limit of descriptors of this process; undefined where it is not known. */
  readonly descriptors: number | undefined
  /** Kernel settings by their name, such as `net.core.somaxconn`. */
  sysctl(name: string): number | undefined
  /** @throws when it cannot be read. */
  readFile(path: string): Buffer
  /** Permission bits and owner; undefined when there is nothing. */
  stat(path: string): { readonly mode: number; readonly uid: number; readonly isDirectory: boolean } | undefined
  hasPackage(name: string): boolean
  readonly uid: number
}

export type Check = (facts: Facts) => readonly Finding[] | Promise<readonly Finding[]>

/** Findings of one check. */
export function findingsOf(check: string) {
  const make = (level: Level) => (where: string, found: string, why: string, remedy: string) => ({
    level,
    check,
    where,
    found,
    why,
    remedy,
  })
  return {
    ok: (found: string, where = ''): Finding => ({ level: 'ok', check, where, found, why: '', remedy: '' }),
    note: make('note'),
    warning: make('warning'),
    error: make('error'),
  }
}

/** True when somebody has set it, rather than nobody. */
export function isSet({ configuration }: Facts, listener: string, ...path: readonly string[]): boolean {
  const own = configuration?.origin(['listeners', listener, ...path])
  const shared = configuration?.origin(path)
  return [own, shared].some((origin) => origin !== undefined && origin.kind !== 'default')
}
