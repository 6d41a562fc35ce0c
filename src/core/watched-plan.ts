/**
 * A session's plan with an ear in it: what was decoded and what will be encoded, or how long messages took.
 *
 * Room: core, mechanism. Whoever watches swaps the plan of one session (a tap) or of a listener (latencies) while it
 * watches: sessions that nobody watches have no check, no branch and no hook for it.
 */

import type { Duplex } from 'node:stream'
import type { Clock } from './clock.js'
import type { Codec } from './codec.js'
import type { MessageContext } from './context.js'
import type { LatencyRecorder } from './control/latency.js'
import { joinProbes, type Probe } from './observer.js'
import type { Pipeline } from './pipeline.js'
import type { SessionPlan } from './plan.js'
import { isThenable } from './thenable.js'

/** Hears of messages as they pass. It must be quick; what it throws is dropped. */
export interface Watcher {
  /** `message`: as the codec or protocol knows it; `chunk`: bytes of a connection that a library reads as a stream. */
  passed(direction: 'in' | 'out', kind: 'message' | 'chunk', what: unknown): void
}

/** @param isServed - A protocol reads the connection by itself: messages pass the pipeline, not the codec. */
export function tappedPlan(plan: SessionPlan, watcher: Watcher, isServed: boolean): SessionPlan {
  if (!isServed) return { ...plan, codec: tappedCodec(plan.codec, watcher) }
  return throughEach(plan, (pipeline) => (context, last) => {
    tell(watcher, 'in', context.message)
    const reply = pipeline === undefined ? last(context) : pipeline(context, last)
    if (!isThenable(reply)) {
      if (reply !== undefined) tell(watcher, 'out', reply)
      return reply
    }
    return reply.then((value) => {
      if (value !== undefined) tell(watcher, 'out', value)
      return value
    })
  })
}

/** From the message's turn to its reply, the reply's own promise included. */
export function timedPlan(plan: SessionPlan, recorder: LatencyRecorder, clock: Clock): SessionPlan {
  const probe: Probe = {
    handled(since) {
      const now = clock.now()
      recorder.record(now - since)
      return now
    },
  }
  return { ...plan, probe: joinProbes(plan.probe === undefined ? [probe] : [plan.probe, probe]) }
}

type MessagePipeline = Pipeline<MessageContext>

function throughEach(plan: SessionPlan, around: (pipeline: MessagePipeline | undefined) => MessagePipeline) {
  const { messagePipeline, methodPipelines } = plan
  return {
    ...plan,
    messagePipeline: around(messagePipeline),
    methodPipelines:
      methodPipelines &&
      new Map([...methodPipelines].map(([route, pipeline]) => [route, around(pipeline ?? undefined)] as const)),
  }
}

function tappedCodec(codec: Codec, watcher: Watcher): Codec {
  const heard = <T>(message: T): T => {
    tell(watcher, 'in', message)
    return message
  }
  const { framer, decodeAt, encodePieces, isMessage, route, correlate } = codec
  return {
    ...(framer && { framer }),
    decode: (frame, context) => heard(codec.decode(frame, context)),
    ...(decodeAt && {
      decodeAt: (buffer, start, end, context) => heard(decodeAt.call(codec, buffer, start, end, context)),
    }),
    encode: (message, context) => {
      tell(watcher, 'out', message)
      return codec.encode(message, context)
    },
    ...(encodePieces && {
      encodePieces: (message, context) => {
        tell(watcher, 'out', message)
        return encodePieces.call(codec, message, context)
      },
    }),
    ...(isMessage && { isMessage: (value) => isMessage.call(codec, value) }),
    ...(route && { route: (message) => route.call(codec, message) }),
    ...(correlate && { correlate: (message) => correlate.call(codec, message) }),
  }
}

function tell(watcher: Watcher, direction: 'in' | 'out', message: unknown): void {
  try {
    watcher.passed(direction, 'message', message)
  } catch {
    // Looking must not change what is looked at.
  }
}

/** The bytes of a stream that somebody else reads and writes. @returns what ends it. */
export function overhear(stream: Duplex, watcher: Watcher): () => void {
  const hear = (chunk: Buffer) => watcher.passed('in', 'chunk', chunk)
  stream.on('data', hear)
  // Of this one object; what it shadows is its class's.
  stream.write = function (this: Duplex, chunk: Uint8Array | string, ...rest: unknown[]) {
    const encoding = typeof rest[0] === 'string' ? (rest[0] as BufferEncoding) : 'utf8'
    watcher.passed('out', 'chunk', typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk)
    return Object.getPrototypeOf(this).write.call(this, chunk, ...rest)
  }
  return () => {
    stream.off('data', hear)
    Reflect.deleteProperty(stream, 'write')
  }
}
