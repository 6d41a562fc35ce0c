/**
 * Records between a connection's process and its handler's place: one format for threads, processes and machines.
 *
 * Room: core, mechanism. A record is a head of 16 bytes and a value; a batch is records one after another, made once a turn.
 * Text and bytes go as they are, because that is what most messages are; everything else by V8's structured clone.
 *
 *   op u8 | kind u8 | method u16 | seat u32 | number u32 | length u32 | value ...      (little endian)
 */
import { deserialize, serialize } from 'node:v8'
import { ExecutorError, FrameError, toError } from '../errors.js'

/** What a record says. From the connection's side: */
export const DEFINE = 1 // a handler that will be asked for: number = key
export const OPEN = 2 // a connection takes a seat: method = key of its handler
export const MESSAGE = 3 // method = 0 for @OnMessage(), else the route's number
export const HOOK = 4 // method = index into hookNames
export const CLOSE = 5 // the connection is gone; answered when what it had is released
export const CREDIT = 6 // number = bytes of sends that are done
export const ATTRIBUTES = 7 // the application's own, as they are now
export const PULL = 8 // items of an iterable reply: method = how many more, STOP for none
export const PING = 9
export const END = 10 // no more seats; leave when all are gone
export const SETUP = 11 // once, first: what handlers there stand on
export const CANCEL = 12 // number = a request whose answer nobody waits for any more
// From the handler's side:
export const REPLY = 20
export const ITEM = 21
export const ITEMS_END = 22
export const FAILED = 23
export const SEND = 24
export const WRITE = 25
export const END_SIDE = 26
export const ASK_CLOSE = 27
export const ABORT = 28
export const PAUSE = 29
export const RESUME = 30
export const PONG = 31
export const BROKEN = 32 // the place cannot serve at all
// Either side:
export const ASK = 40 // a request of the handler's side: value = [what, …arguments]
export const ANSWER = 41
export const ANSWER_FAILED = 42

/** In `method` of REPLY: an iterable; items come when they are pulled. */
export const ITERABLE = 1
/** In `method` of PULL: nobody wants the rest. */
export const STOP = 0xffff

const UNDEFINED = 0
const TEXT = 1
const BYTES = 2
const CLONED = 3
export const HEAD = 16
const FIRST_BYTES = 8 * 1024
/** Largest value of one record where nobody says otherwise: messages have their own ceilings, well below. */
export const MOST_RECORD_BYTES = 64 * 1024 * 1024
/** A batch that has grown to this leaves at once: no turn may make it any larger than this and one record. */
export const BATCH_BYTES = 1024 * 1024

/** The largest batch that can come of records of at most so many bytes. */
export function mostBatchBytes(mostRecordBytes: number): number {
  return BATCH_BYTES + HEAD + mostRecordBytes
}

/** Where a record is read to. */
export interface RecordSink {
  record(op: number, method: number, seat: number, number: number, value: unknown, bytes: number): void
}

/** Gathers records into a batch. */
export class RecordWriter {
  readonly #mostBytes: number
  #buffer: Buffer | undefined
  #end = 0
  #lastSize = FIRST_BYTES

  /** @param mostBytes - Largest value of a record. */
  constructor(mostBytes = MOST_RECORD_BYTES) {
    this.#mostBytes = mostBytes
  }

  get size(): number {
    return this.#end
  }

  /**
   * @returns the record's size.
   * @throws {ExecutorError} `NOT_PORTABLE` for a value with functions or other things that stay in their process, or one that
   *   is too large; nothing was written.
   */
  add(op: number, method: number, seat: number, number: number, value: unknown): number {
    const start = this.#end
    let kind = UNDEFINED
    if (typeof value === 'string') {
      kind = TEXT
      // A UTF-16 unit is one byte at least.
      if (value.length > this.#mostBytes) throw tooLarge(value.length, this.#mostBytes)
      // Three bytes a UTF-16 unit at most (RFC 3629); asking for the exact length would read the text twice.
      const room = this.#room(start + HEAD + value.length * 3)
      const written = room.write(value, start + HEAD, 'utf8')
      if (written > this.#mostBytes) throw tooLarge(written, this.#mostBytes)
      this.#end = start + HEAD + written
    } else if (value === undefined) {
      this.#room(start + HEAD)
      this.#end = start + HEAD
    } else {
      kind = value instanceof Uint8Array ? BYTES : CLONED
      const bytes = value instanceof Uint8Array ? value : clone(value)
      if (bytes.length > this.#mostBytes) throw tooLarge(bytes.length, this.#mostBytes)
      const room = this.#room(start + HEAD + bytes.length)
      room.set(bytes, start + HEAD)
      this.#end = start + HEAD + bytes.length
    }
    const buffer = this.#buffer as Buffer
    buffer[start] = op
    buffer[start + 1] = kind
    buffer.writeUInt16LE(method, start + 2)
    buffer.writeUInt32LE(seat, start + 4)
    buffer.writeUInt32LE(number, start + 8)
    buffer.writeUInt32LE(this.#end - start - HEAD, start + 12)
    return this.#end - start
  }

  /** The batch, in memory of its own. */
  take(): Buffer {
    const batch = (this.#buffer as Buffer).subarray(0, this.#end)
    this.#lastSize = Math.max(FIRST_BYTES, Math.min(this.#end * 2, 1024 * 1024))
    this.#buffer = undefined
    this.#end = 0
    return batch
  }

  #room(size: number): Buffer {
    const present = this.#buffer
    if (present !== undefined && present.length >= size) return present
    // Not from the pool: a thread's batch is transferred, memory and all.
    const larger = Buffer.allocUnsafeSlow(Math.max(size, (present?.length ?? this.#lastSize / 2) * 2))
    present?.copy(larger, 0, 0, this.#end)
    this.#buffer = larger
    return larger
  }
}

/**
 * Reads a batch.
 *
 * @throws {FrameError} `MALFORMED` when it is no batch. Reach: the channel, which is closed.
 */
export function readRecords(batch: Buffer, sink: RecordSink): void {
  let at = 0
  while (at < batch.length) {
    if (batch.length - at < HEAD) throw malformed(`${batch.length - at} bytes where a record's head has ${HEAD}`)
    const length = batch.readUInt32LE(at + 12)
    const start = at + HEAD
    if (length > batch.length - start)
      throw malformed(`a record of ${length} bytes, and ${batch.length - start} are there`)
    const value = readValue(batch[at + 1] as number, batch, start, start + length)
    sink.record(
      batch[at] as number,
      batch.readUInt16LE(at + 2),
      batch.readUInt32LE(at + 4),
      batch.readUInt32LE(at + 8),
      value,
      length,
    )
    at = start + length
  }
}

function readValue(kind: number, batch: Buffer, start: number, end: number): unknown {
  if (kind === TEXT) return batch.toString('utf8', start, end)
  if (kind === UNDEFINED && start === end) return undefined
  if (kind === BYTES) return Buffer.from(batch.subarray(start, end))
  if (kind !== CLONED) throw malformed(`a value of kind ${kind} and ${end - start} bytes`)
  try {
    return deserialize(batch.subarray(start, end))
  } catch (cause) {
    throw malformed(`a value that cannot be read: ${toError(cause).message}`)
  }
}

function clone(value: unknown): Buffer {
  try {
    return serialize(value)
  } catch (cause) {
    const message = `a value that cannot leave its process: ${toError(cause).message}; send data, not functions or sockets`
    throw new ExecutorError('NOT_PORTABLE', message, { cause })
  }
}

function tooLarge(bytes: number, most: number): ExecutorError {
  const message = `a value of ${bytes} bytes is too large to travel between a connection and its handler; ${most} is the most (executor.messageBytes)`
  return new ExecutorError('NOT_PORTABLE', message, { bytes, most })
}

function malformed(what: string): FrameError {
  return new FrameError('MALFORMED', `a batch between a connection and its handler's place: ${what}`)
}

/** True for what survives the way as it is. */
export function isPortable(value: unknown): boolean {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return typeof value !== 'symbol'
  try {
    serialize(value)
    return true
  } catch {
    return false
  }
}

/** What `method` of HOOK means. */
export const hooks = ['open', 'idle', 'peerEnd', 'drain', 'error'] as const
