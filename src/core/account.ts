/**
 * Accounts in bytes: with them plugins say what they keep beside the sessions.
 *
 * Room: core, contract; the mechanism is in core/accounts.
 */

/**
 * What a plugin keeps for a peer, or for all of them, in bytes: messages that wait for an acknowledgement, what is retained,
 * bodies that are under way. Counts alone bound nothing, as long as peers choose the sizes.
 */
export interface PluginBudget {
  /** Opened once for each kind of thing that is kept, when the plugin is made. It ends with the listener. */
  open(options: AccountOptions): Account
}

export interface AccountOptions {
  /** `mqtt.retained`: stands in `status`, metrics and counters (`kept.mqtt.retained.dropped`, `kept.mqtt.retained.refused`). */
  readonly name: string
  /** Bytes of all holdings together: an option of the plugin. Holds whether or not there is `limits.memoryBytes`. */
  readonly limit: number
  /**
   * What happens to one byte more, and while the server is short of memory:
   * - `oldest`: the holding that was opened first is dropped, and so on until there is room;
   * - `largest`: whoever holds most is dropped, be it the one that asks;
   * - `refuse`: `take` says false, and nobody is dropped, but to save the server (`MEMORY_PRESSURE`, the largest first).
   */
  readonly whenFull: 'oldest' | 'largest' | 'refuse'
}

/** `FULL`: others need the room. `MEMORY_PRESSURE`: the server does (`limits.memoryBytes`). */
export type DropReason = 'FULL' | 'MEMORY_PRESSURE'

export interface Account {
  readonly name: string
  readonly limit: number
  /** Bytes of all holdings. */
  readonly used: number
  /**
   * What one peer has here, or one thing that goes as a whole.
   *
   * @param dropped - Gives up what it stands for (forgets the message, cuts the peer), at once and without throwing; the
   *   bytes are given back already.
   */
  hold(dropped: (reason: DropReason) => void): Holding
}

/** A part of an account. */
export interface Holding {
  readonly bytes: number
  /**
   * Before something is kept; count what it costs beside its bytes as well (256 bytes for an object with a few fields).
   *
   * @returns false: it must not be kept. With `oldest` and `largest` the holding itself may have been dropped.
   */
  take(bytes: number): boolean
  give(bytes: number): void
  /** Gives everything back, for good. */
  release(): void
}

/** An account as operators see it. */
export interface KeptFacts {
  /** Empty: of no listener alone, as middleware for all. */
  readonly listener: string
  /** `mqtt.retained` */
  readonly account: string
  readonly bytes: number
  readonly limit: number
}
