/**
 * The `workers` key: how many server processes, who gets which connection, and when one is given up.
 *
 * Room: core, contract. One table, as in core/options; the schema and the documentation are made from it.
 */
import { availableParallelism } from 'node:os'
import { ConfigError } from '../errors.js'
import { nearest } from '../nearest.js'
import type { OptionField } from '../option-schema.js'
import { hasReusePort } from '../reuse-port.js'

export type Balance = 'round-robin' | 'kernel' | 'source' | 'reuse-port'
export const balances: readonly Balance[] = ['round-robin', 'kernel', 'source', 'reuse-port']

export interface WorkerOptions {
  count: number | 'auto'
  balance: Balance
  readyMs: number
  heartbeatMs: number
  stuckMs: number
}

export const workerFields: { readonly [K in keyof WorkerOptions]: OptionField } = {
  count: {
    unit: 'any',
    default: 1,
    why: 'Server processes: a number, or `auto`, one for each processor. A plain `1` serves in the process itself; `{ "count": 1 }` has a supervisor and one worker.',
  },
  balance: {
    unit: 'choice',
    choices: balances,
    default: 'round-robin',
    why: 'Who gets a newcomer: each worker in turn (even, whatever comes); `kernel`, whichever wakes first (twice the rate of accepts, uneven); `source`, one worker for an address; `reuse-port`, a socket for each worker, by the hash of both addresses (Node 22.12 or newer).',
  },
  readyMs: {
    unit: 'ms',
    min: 1,
    default: 30_000,
    why: 'For a worker to load, and to prove that it takes connections. One that does not is ended: at the start the command ends with it, during a reload everything stays as it was. A server in the process itself has as long to load.',
  },
  heartbeatMs: { unit: 'ms', min: 10, default: 1_000, why: 'Between two questions to a worker whether it is alive.' },
  stuckMs: {
    unit: 'ms',
    min: 100,
    default: 5_000,
    why: 'A worker whose event loop gives no sign of life for so long is ended and replaced.',
  },
}

/** The key as it may be written. */
export type WorkersSetting = number | 'auto' | (Partial<Omit<WorkerOptions, 'count'>> & { count?: number | 'auto' })

const MOST = 1_024

/** @returns what is wrong with it; undefined: nothing. */
export function misfitOfWorkers(value: unknown): string | undefined {
  const isCount = (count: unknown) =>
    count === 'auto' || (Number.isSafeInteger(count) && (count as number) >= 1 && (count as number) <= MOST)
  if (isCount(value)) return undefined
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return `expected a number from 1 to ${MOST}, "auto", or { count, balance, … }`
  }
  const problems = Object.entries(value).flatMap(([key, one]) => misfitOfKey(key, one, isCount) ?? [])
  return problems.length === 0 ? undefined : `expected ${problems.join('; ')}`
}

function misfitOfKey(key: string, one: unknown, isCount: (value: unknown) => boolean): string | undefined {
  if (one === undefined) return undefined
  const got = ` (got ${JSON.stringify(one)})`
  if (!Object.hasOwn(workerFields, key)) {
    const known = Object.keys(workerFields)
    const near = nearest(key, known)
    const hint = near === undefined ? '' : `; nearest: \`${near}\``
    return `no key \`${key}\`${hint}; known: ${known.join(', ')}`
  }
  if (key === 'count' && !isCount(one)) return `count to be a number from 1 to ${MOST}, or "auto"${got}`
  const { choices, unit, min = 0 } = workerFields[key as keyof WorkerOptions] as OptionField & { min?: number }
  if (choices !== undefined && !choices.includes(one as string)) {
    return `${key} to be one of ${choices.join(', ')}${got}`
  }
  if (unit === 'ms' && !(Number.isSafeInteger(one) && (one as number) >= min)) {
    return `${key} to be milliseconds, a whole number of at least ${min}${got}`
  }
  return undefined
}

export interface SettledWorkers extends Omit<WorkerOptions, 'count'> {
  readonly count: number
}

/** Counted out, defaults filled in. @returns undefined: no supervisor is wanted, the process serves itself. */
export function settleWorkers(given: WorkersSetting | undefined): SettledWorkers | undefined {
  if (given === undefined || given === 1) return undefined
  const { count = 1, ...rest } = typeof given === 'object' ? given : { count: given }
  const defaults = Object.fromEntries(Object.entries(workerFields).map(([key, field]) => [key, field.default]))
  const settled = { ...(defaults as unknown as WorkerOptions), ...rest }
  return { ...settled, count: count === 'auto' ? availableParallelism() : count }
}

/** @throws {ConfigError} for what this Node has not; never silently something else. */
export function refuseUnsupported(balance: Balance, version = process.versions.node): void {
  if (balance !== 'reuse-port' || hasReusePort(version)) return
  const message = `workers.balance: \`reuse-port\` needs Node 22.12 or newer (23.1 among 23), this is ${version}; take \`kernel\` or \`round-robin\``
  throw new ConfigError('BAD_VALUE', message, { place: 'workers.balance' })
}
