/**
 * Bodies that do not fit a datagram: sent and received in blocks.
 *
 * Room: plugins/protocols. RFC 7959. What is under way belongs to one peer, is bounded in number, and goes with it; its bytes
 * are counted by an account of all peers of the listener, whose oldest body goes first.
 */
import type { Account, Holding } from '../../../core/account.js'

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

/** Beside its bytes a body has an object, a key and a place in two maps. */
const BODY_BYTES = 512

interface Kept {
  readonly holding: Holding
}

/** A few things by key; the oldest goes first. */
class Few<T extends Kept> {
  readonly #all = new Map<string, T>()
  get(key: string): T | undefined {
    return this.#all.get(key)
  }
  set(key: string, value: T): void {
    this.release(key)
    this.#all.set(key, value)
    if (this.#all.size > MOST_TRANSFERS) this.release(this.#all.keys().next().value as string)
  }
  /** @param holding - Only where this is what is there. */
  release(key: string, holding?: Holding): void {
    const value = this.#all.get(key)
    if (value === undefined || (holding !== undefined && value.holding !== holding)) return
    this.#all.delete(key)
    value.holding.release()
  }
  clear(): void {
    for (const { holding } of this.#all.values()) holding.release()
    this.#all.clear()
  }
}

export interface Outgoing {
  readonly payload: Uint8Array
  readonly code: string
  readonly options: readonly { readonly name: string; readonly value: string | number | Uint8Array }[]
}

interface Incoming extends Kept {
  readonly chunks: Buffer[]
  size: number
}

/** What becomes of a block that is not the last one that was missing. */
export type Refusal = '2.31' | '4.08' | '4.13' | '5.03'

export class Transfers {
  readonly #account: Account
  readonly #outgoing = new Few<Kept & { readonly body: Outgoing }>()
  readonly #incoming = new Few<Incoming>()

  constructor(account: Account) {
    this.#account = account
  }

  /** A body whose first block is on its way. Where the account has no room for it, later blocks are asked for anew. */
  keep(key: string, body: Outgoing): void {
    const holding = this.#account.hold(() => this.#outgoing.release(key, holding))
    this.#outgoing.release(key)
    if (holding.take(BODY_BYTES + key.length + body.payload.length)) this.#outgoing.set(key, { holding, body })
    else holding.release()
  }

  kept(key: string): Outgoing | undefined {
    return this.#outgoing.get(key)?.body
  }

  /** The last block is out. A client that did not get it asks under the same message id. */
  sent(key: string): void {
    this.#outgoing.release(key)
  }

  /** The peer is gone. */
  clear(): void {
    this.#outgoing.clear()
    this.#incoming.clear()
  }

  /**
   * Takes a block of a request's body.
   *
   * @param most - Largest body.
   * @returns the body when it is whole; else the code to answer with: 2.31, 4.08 for a gap (of what was dropped, too), 4.13, and
   *   5.03 where the account has no room.
   */
  take(key: string, { number, isMore, bytes }: Block, payload: Buffer, most: number): Buffer | Refusal {
    if (number === 0) this.#incoming.release(key)
    const known = this.#incoming.get(key)
    const size = known?.size ?? 0
    const isGap = number > 0 && known === undefined
    if (isGap || size !== number * bytes || (isMore && payload.length !== bytes)) return this.#refuse(key, '4.08')
    if (size + payload.length > most) return this.#refuse(key, '4.13')
    const transfer = known ?? this.#begin(key)
    // Within `take` the transfer itself may be the oldest that goes.
    if (!transfer.holding.take(payload.length + (known === undefined ? BODY_BYTES + key.length : 0)))
      return this.#refuse(key, '5.03')
    transfer.chunks.push(Buffer.from(payload))
    transfer.size += payload.length
    if (isMore) return '2.31'
    this.#incoming.release(key)
    return Buffer.concat(transfer.chunks, transfer.size)
  }

  #begin(key: string): Incoming {
    const holding = this.#account.hold(() => this.#incoming.release(key, holding))
    const transfer = { holding, chunks: [], size: 0 }
    this.#incoming.set(key, transfer)
    return transfer
  }

  #refuse(key: string, code: Refusal): Refusal {
    this.#incoming.release(key)
    return code
  }
}
