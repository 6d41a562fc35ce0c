/**
 * Which peer a datagram is of, told by its content.
 *
 * Room: transports. For protocols whose datagrams carry a connection identifier: a peer that gets another address (a phone
 * that changes networks, a router that forgets) stays the same connection, and several may share one address.
 */
import { ConfigError } from '../core/errors.js'
import type { Balance } from '../core/workers/options.js'

/**
 * The peer's key: text, or undefined where the datagram has none and its address decides. Called for every datagram, so it
 * must be quick. Keys have to be unguessable: whoever knows one is sent what its peer would be sent.
 */
export type SessionKey = (datagram: Buffer, address: string, port: number) => string | undefined

/** The same for data files: bytes of the datagram, where it is as long. */
export interface SessionKeyBytes {
  readonly offset?: number
  readonly length: number
}

export function sessionKeyOf(given: SessionKey | SessionKeyBytes): SessionKey {
  if (typeof given === 'function') return given
  const { offset = 0, length } = given
  return (datagram) =>
    datagram.length < offset + length ? undefined : datagram.toString('latin1', offset, offset + length)
}

/** How a worker names a function to its supervisor, who cannot have it. */
export const KEY_IN_CODE = 'function'

/**
 * The key by which a supervisor shares datagrams out to workers, from what it was told of a listener's `socket` key.
 *
 * @returns undefined: none, or one that only a worker knows; then the address decides.
 */
export function sharedSessionKey({ sessionKey }: Readonly<Record<string, unknown>>): SessionKey | undefined {
  return typeof sessionKey === 'object' && sessionKey !== null ? sessionKeyOf(sessionKey as SessionKeyBytes) : undefined
}

/**
 * Refuses keys that several workers cannot keep: a peer that moves would be another connection in another worker.
 *
 * @throws {ConfigError} `BAD_VALUE`, at the start.
 */
export function refuseUnsharedKey(
  listener: string,
  { sessionKey }: Readonly<Record<string, unknown>>,
  balance: Balance,
) {
  if (sessionKey === undefined) return
  const place = `listeners.${listener}.socket.sessionKey`
  const refuse = (problem: string) => new ConfigError('BAD_VALUE', `${place}: ${problem}`, { place })
  if (balance === 'reuse-port') {
    throw refuse(
      'the kernel shares datagrams out by address (workers.balance is `reuse-port`), so a peer that moves would meet another worker; take another balance, or one worker',
    )
  }
  if (sessionKey === KEY_IN_CODE) {
    throw refuse(
      'a function is known to workers alone, and their supervisor has to choose the worker; take `{ offset, length }`, or one worker',
    )
  }
}

/** @returns what was expected, where it is something else. */
export function misfitOfSessionKey(value: unknown): string | undefined {
  if (typeof value === 'function') return undefined
  const { offset = 0, length, ...others } = (value ?? {}) as Record<string, unknown>
  const isCount = (count: unknown, least: number) => Number.isSafeInteger(count) && (count as number) >= least
  const fits = Object.keys(others).length === 0 && isCount(offset, 0) && isCount(length, 1)
  return fits
    ? undefined
    : 'a function of (datagram, address, port) that gives text or undefined, or { offset, length } in bytes'
}
