/**
 * Values that plain JavaScript has no word for: simple strings, pushes, errors with a code.
 *
 * Room: plugins/protocols. Plain objects with a mark, so that they survive the way back from a thread or process.
 */

/** The key of the mark. */
export const MARK = 'gaidaros.resp'

/** A reply such as `+OK`. */
export interface RespSimple {
  readonly [MARK]: 'simple'
  readonly value: string
}

/** A message that answers no request: published, invalidated. */
export interface RespPush {
  readonly [MARK]: 'push'
  /** What it is first (`message`), then what belongs to it. */
  readonly items: readonly unknown[]
}

/** The reply to HELLO; it switches the connection, and so has to be what is written. */
export interface RespGreeting {
  readonly [MARK]: 'hello'
  readonly version: 2 | 3
  readonly facts: Readonly<Record<string, unknown>>
}

/**
 * A status, `+text`, where a plain string would be a bulk string.
 *
 * @param text - One line; line feeds become spaces.
 * @example
 * set({ args: [key, value] }) { this.store.set(key, value); return simple('OK') }
 */
export function simple(text: string): RespSimple {
  return Object.freeze({ [MARK]: 'simple', value: text } as const)
}

/**
 * A push (RESP3, type `>`); in RESP2 an array, as Redis does it.
 *
 * @example
 * connection.send(push(['message', channel, text]))
 */
export function push(items: readonly unknown[]): RespPush {
  return { [MARK]: 'push', items }
}

export function isPush(value: unknown): value is RespPush {
  return typeof value === 'object' && value !== null && (value as Partial<RespPush>)[MARK] === 'push'
}

/**
 * An error as RESP writes it: an upper-case code, then words. Thrown or returned by a handler it is told to the peer as
 * it is; requests of a client resolve with it.
 *
 * @example
 * throw new RespError('value is not an integer or out of range')
 * throw new RespError('Operation against a key holding the wrong kind of value', 'WRONGTYPE')
 */
export class RespError extends Error {
  /** Default: `ERR`. Empty on the client's side where the peer sent none. */
  readonly code: string

  constructor(message: string, code = 'ERR') {
    super(message)
    this.name = 'RespError'
    this.code = code
  }
}

/** A request as the handler sees it. */
export interface RespCommand<A = string> {
  /** In upper case: `GET`. */
  readonly command: string
  /** What stood behind the command: text, or bytes with `strings: 'bytes'`. */
  readonly args: readonly A[]
}
