/**
 * Bodies that do not fit a datagram: sent and received in blocks.
 *
 * Room: plugins/protocols. RFC 7959. What is under way belongs to one peer, is bounded in number and size, and goes with it.
 */

/** `NUM/M/SZX`. */
export interface Block {
  readonly number: number
  readonly isMore: boolean
  readonly bytes: number
}

/** Bodies of one peer that are under way, each way. */
const MOST_TRANSFERS = 4

/** @returns undefined for none; `bad` for a reserved size. */
export function readBlock(value: number | undefined): Block | 'bad' | undefined {
  if (value === undefined) return undefined
  const exponent = value & 7
  if (exponent === 7) return 'bad'
  return { number: value >>> 4, isMore: (value & 8) !== 0, bytes: 16 << exponent }
}

export function blockValue({ number, isMore, bytes }: Block): number {
  return number * 16 + (isMore ? 8 : 0) + (Math.log2(bytes) - 4)
}

/** A few things by key; the oldest goes first. */
class Few<T> {
  readonly #all = new Map<string, T>()
  get(key: string): T | undefined {
    return this.#all.get(key)
  }
  set(key: string, value: T): void {
    this.#all.delete(key)
    this.#all.set(key, value)
    if (this.#all.size > MOST_TRANSFERS) this.#all.delete(this.#all.keys().next().value as string)
  }
  delete(key: string): void {
    this.#all.delete(key)
  }
}

export interface Outgoing {
  readonly payload: Uint8Array
  readonly code: string
  readonly options: readonly { readonly name: string; readonly value: string | number | Uint8Array }[]
}

export class Transfers {
  readonly outgoing = new Few<Outgoing>()
  readonly #incoming = new Few<{ chunks: Buffer[]; size: number }>()

  /**
   * Takes a block of a request's body.
   *
   * @param most - Largest body.
   * @returns the body when it is whole; else the code to answer with: 2.31, 4.08 for a gap, 4.13.
   */
  take(
    key: string,
    { number, isMore, bytes }: Block,
    payload: Buffer,
    most: number,
  ): Buffer | '2.31' | '4.08' | '4.13' {
    const transfer = number === 0 ? { chunks: [], size: 0 } : this.#incoming.get(key)
    this.#incoming.delete(key)
    if (transfer === undefined || transfer.size !== number * bytes || (isMore && payload.length !== bytes))
      return '4.08'
    if (transfer.size + payload.length > most) return '4.13'
    transfer.chunks.push(Buffer.from(payload))
    transfer.size += payload.length
    if (!isMore) return Buffer.concat(transfer.chunks, transfer.size)
    this.#incoming.set(key, transfer)
    return '2.31'
  }
}
