/**
 * The channel between a connection's process and the place where its handler runs.
 *
 * Room: core, contract. Carriers are a worker thread's port, a forked process's pipe, and a pair of NATS subjects; all carry
 * batches of records (`wire.ts`), whole and in order, or close.
 */

export interface Channel {
  /** The name shown by `status` and in errors: `thread 3`, `process 4711`. */
  readonly name: string
  /**
   * Sends a batch.
   *
   * @param batch - Its own memory: the carrier keeps or transfers it.
   * @returns false when more waits than it likes; `drain` follows.
   */
  send(batch: Uint8Array): boolean
  /** Ends it, at once. `close` follows. */
  close(reason: Error): void
}

export interface ChannelSink {
  /** A batch; valid only during the call. */
  data(batch: Buffer): void
  drain(): void
  /** Something came that is no batch; it was dropped. */
  refused?(error: Error): void
  /** Exactly once, last: the other side is gone, and why. */
  close(error: Error): void
}

/** Opens channels to new places: what a pool needs of threads or processes. */
export interface Carrier {
  /** `thread`, `process`. */
  readonly kind: string
  /** @param sink - Told of everything that comes, from the first byte on. */
  open(sink: ChannelSink): Channel
}
