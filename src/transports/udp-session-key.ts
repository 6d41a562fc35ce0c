/**
 * Which peer a datagram is of, told by its content.
 *
 * Room: transports. For protocols whose datagrams carry a connection identifier: a peer that gets another address (a phone
 * that changes networks, a router that forgets) stays the same connection, and several may share one address.
 */

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

/** Where datagrams carry no key of their own. */
export function addressKey(address: string, port: number): string {
  return `${address} ${port}`
}
