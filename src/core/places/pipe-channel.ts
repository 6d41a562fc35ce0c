/**
 * A channel over a pipe: each batch behind its length, four bytes, little endian.
 *
 * Room: core, mechanism. Used on both ends; what a pipe is, is its owner's business.
 */
import type { Duplex } from 'node:stream'
import { ExecutorError, FrameError } from '../errors.js'
import type { ChannelSink } from './channel.js'

/** Nothing of ours is larger: messages have their own ceilings, and a batch is one turn's. */
const MOST_BYTES = 256 * 1024 * 1024

export interface PipeChannel {
  send(batch: Uint8Array): boolean
  end(): void
}

export function pipeChannel(pipe: Duplex, sink: ChannelSink): PipeChannel {
  let isOver = false
  const finish = (error: Error) => {
    if (isOver) return
    isOver = true
    pipe.destroy()
    sink.close(error)
  }
  let held: Buffer | undefined
  let size = 0
  const take = (chunk: Buffer) => {
    let at = 0
    while (at < chunk.length && !isOver) {
      if (held === undefined) {
        if (chunk.length - at >= 4) {
          const length = chunk.readUInt32LE(at)
          if (length > MOST_BYTES) return finish(tooLarge(length))
          if (chunk.length - at - 4 >= length) {
            sink.data(chunk.subarray(at + 4, at + 4 + length))
            at += 4 + length
            continue
          }
          held = Buffer.allocUnsafe(4 + length)
        } else held = Buffer.allocUnsafe(4)
        size = 0
      }
      const count = Math.min(held.length - size, chunk.length - at)
      chunk.copy(held, size, at, at + count)
      size += count
      at += count
      if (size < held.length) return
      const whole: Buffer = held
      const length = whole.readUInt32LE(0)
      if (whole.length === 4 && length > 0) {
        // The length itself came in two pieces.
        if (length > MOST_BYTES) return finish(tooLarge(length))
        held = Buffer.allocUnsafe(4 + length)
        held.writeUInt32LE(length, 0)
        size = 4
        continue
      }
      held = undefined
      sink.data(whole.subarray(4))
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

function tooLarge(length: number): FrameError {
  return new FrameError('TOO_LARGE', `a batch of ${length} bytes on the pipe; ${MOST_BYTES} is the most`, { length })
}
