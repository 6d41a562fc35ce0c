/**
 * The side of the control socket that asks.
 *
 * Room: the command line.
 */

import { connect } from '../connect.js'
import type { ClientConnection } from '../core/client.js'
import type { ControlRequest } from '../core/control.js'
import { ConfigError, ConnectionError, FrameError, GaidarosError, toError } from '../core/errors.js'
import type { Arguments } from './arguments.js'

const ANSWER_MS = 10_000
/** A reload starts workers, one after another. */
const RELOAD_MS = 600_000

/** What the server did not want to do; it goes on. */
export class Refusal extends GaidarosError<'REFUSED'> {
  constructor(message: string) {
    super('REFUSED', message)
  }
}

interface Answer {
  readonly ok: boolean
  readonly result?: unknown
  readonly error?: string
  readonly code?: string
}

/** @throws {ConnectionError} `REFUSED` when no server answers there. */
export async function openControl(given: Arguments): Promise<ClientConnection> {
  const path = socketOf(given)
  try {
    // `stop` waits for as long as the server drains, `tap` for as long as nothing is said.
    const timeouts = { idleMs: 'unlimited' } as const
    return await connect(`unix:${path}`, {
      codec: 'json-lines',
      timeouts,
      limits: { frameBytes: 8 * 1024 * 1024, lineBytes: 8 * 1024 * 1024 },
    })
  } catch (thrown) {
    const cause = toError(thrown)
    throw new ConnectionError(
      'REFUSED',
      `no server answers at the control socket ${path}; start one with --control ${path}, or name its socket with --control or --pid-file`,
      { cause },
    )
  }
}

/** @throws {Refusal} in the server's words. */
export async function ask<T>(connection: ClientConnection, request: ControlRequest): Promise<T> {
  const answer = await connection.request<Answer>(
    { id: 1, ...request },
    { timeoutMs: request.command === 'reload' ? RELOAD_MS : ANSWER_MS },
  )
  if (typeof answer?.ok !== 'boolean') {
    const message = `${connection.endpoint} is no control socket: the answer has no \`ok\``
    throw new FrameError('MALFORMED', message)
  }
  if (!answer.ok) throw new Refusal(`${answer.error}${answer.code === undefined ? '' : ` [${answer.code}]`}`)
  const command = String(request.command)
  const fits = Object.hasOwn(expected, command) ? expected[command] : undefined
  if (fits !== undefined && !fits((answer.result ?? {}) as Record<string, unknown>)) {
    const message = `${connection.endpoint} is no control socket of gaidaros: it answers \`${command}\` with something else`
    throw new FrameError('MALFORMED', message)
  }
  return answer.result as T
}

/** What is read of an answer before anything is made of it: whoever is there speaks JSON, and may be anybody. */
const expected: Readonly<Record<string, (result: Readonly<Record<string, unknown>>) => boolean>> = {
  status: ({ listeners, executors, alarms, counters, memory }) =>
    [listeners, executors, alarms].every(Array.isArray) && [counters, memory].every((one) => isObject(one)),
  connections: ({ connections }) => Array.isArray(connections),
  kill: ({ connections }) => Array.isArray(connections),
  limit: Array.isArray,
  suspend: isTexts,
  resume: isTexts,
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === 'string')
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

function socketOf({ flags }: Arguments): string {
  if (typeof flags.control === 'string') return flags.control
  const pidFile = flags['pid-file']
  return typeof pidFile === 'string' ? pidFile.replace(/(\.pid)?$/, '.sock') : './gaidaros.sock'
}

/** @throws {ConfigError} `BAD_USAGE`. @param what - Such as `milliseconds`. */
export function wholeFlag({ flags }: Arguments, name: string, what = ''): number | undefined {
  const text = flags[name] as string | undefined
  if (text === undefined) return undefined
  if (/^\d{1,15}$/.test(text)) return Number(text)
  const of = what === '' ? '' : ` of ${what}`
  throw new ConfigError('BAD_USAGE', `--${name}: expected a whole number${of}, got \`${text}\``)
}
