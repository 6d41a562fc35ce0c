/**
 * A channel over a pipe: each batch behind its length, four bytes, little endian.
 *
 * Room: core, mechanism. Used on both ends; what a pipe is, is its owner's business.
 */
import type { Duplex } from 'node:stream'
import { ExecutorError, FrameError } from '../errors.js'
import type { ChannelSink } from './channel.js'
import { MOST_RECORD_BYTES, mostBatchBytes } from './wire.js'

/** No more than this is allocated on the word of the other side; from there on memory grows with what has come. */
const CLAIMED_BYTES = 1024 * 1024

export interface PipeChannel {
  send(batch: Uint8Array): boolean
  end(): void
}

/** @param mostBytes - Largest batch that is taken; one that claims to be larger ends the channel. */
export function pipeChannel(
  pipe: Duplex,
  sink: ChannelSink,
  mostBytes = mostBatchBytes(MOST_RECORD_BYTES),
): PipeChannel {
  let isOver = false
  const finish = (error: Error) => {
    if (isOver) return
    isOver = true
    pipe.destroy()
    sink.close(error)
  }
  /** A batch that comes in pieces: its length is `need`; 0 while not even that has come whole. */
  let held: Buffer | undefined
  let size = 0
  let need = 0
  const head = Buffer.allocUnsafe(4)
  const take = (chunk: Buffer) => {
    let at = 0
    while (at < chunk.length && !isOver) {
      if (held === undefined) {
        if (size === 0 && chunk.length - at >= 4) {
          need = chunk.readUInt32LE(at)
          at += 4
        } else {
          // The length itself came in pieces.
          while (size < 4 && at < chunk.length) head[size++] = chunk[at++] as number
          if (size < 4) return
          need = head.readUInt32LE(0)
        }
        size = 0
        if (need > mostBytes) return finish(tooLarge(need, mostBytes))
        if (chunk.length - at >= need) {
          sink.data(chunk.subarray(at, at + need))
          at += need
          continue
        }
        held = Buffer.allocUnsafe(Math.min(need, CLAIMED_BYTES))
      }
      const count = Math.min(need - size, chunk.length - at)
      if (size + count > held.length) {
        const larger = Buffer.allocUnsafe(Math.min(need, Math.max(held.length * 2, size + count)))
        held.copy(larger, 0, 0, size)
        held = larger
      }
      chunk.copy(held, size, at, at + count)
      size += count
      at += count
      if (size < need) return
      const whole = held
      held = undefined
      size = 0
      sink.data(whole)
    }
  }
  pipe.on('data', take)
  pipe.on('drain', () => sink.drain())
  pipe.on('error', (cause) => finish(new ExecutorError('LOST', `the pipe broke: ${cause.message}`, { cause })))
  pipe.on('end', () => finish(new ExecutorError('LOST', 'the other side closed the pipe')))
  pipe.on('close', () => finish(new ExecutorError('LOST', 'the pipe is closed')))
  return {
    send(batch) {
      if (isOver) return false
      const head = Buffer.allocUnsafe(4)
      head.writeUInt32LE(batch.length, 0)
      pipe.cork()
      pipe.write(head)
      const isFree = pipe.write(batch)
      pipe.uncork()
      return isFree
    },
    end: () => void pipe.end(),
  }
}

function tooLarge(length: number, most: number): FrameError {
  return new FrameError('TOO_LARGE', `a batch of ${length} bytes on the pipe; ${most} is the most`, { length })
}
