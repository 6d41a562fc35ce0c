/**
 * Where a thread or process begins that runs handlers for connections held elsewhere.
 *
 * A second door: it finds the handlers, puts together what they stand on, and answers whoever started it.
 */
import 'reflect-metadata'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { toError } from './core/errors.js'
import type { Channel, ChannelSink } from './core/places/channel.js'
import { pipeChannel } from './core/places/pipe-channel.js'
import { Place } from './core/places/place.js'
import type { PlaceSeed } from './core/places/seed.js'
import { MOST_RECORD_BYTES, mostBatchBytes } from './core/places/wire.js'
import { dropPrivileges } from './core/privileges.js'
import { profileDirectory, startProfile } from './core/profile.js'
import { processMemory, residentMemory } from './core/usage.js'
import { openHandlers } from './place-handlers.js'
import { inheritedPipe } from './transports/inherited-pipe.js'

const given = (isMainThread ? null : workerData) as { gaidaros?: string; messageBytes?: number } | null
const isThread = given?.gaidaros === 'place'
/** `DESCRIPTOR:BYTES`. */
const [descriptor, messageBytes = MOST_RECORD_BYTES] = process.env.GAIDAROS_PLACE?.split(':').map(Number) ?? []
const mostRecordBytes = isThread ? (given?.messageBytes ?? MOST_RECORD_BYTES) : messageBytes

const handlers = openHandlers()
const place = new Place({
  setUp(given) {
    const seed = given as PlaceSeed
    const { daemon, profile } = seed.values
    // A process that was started by root before the server became somebody else does the same, before it loads anything.
    if (!isThread && typeof daemon === 'object' && process.geteuid?.() === 0) dropPrivileges(daemon)
    if (profile !== undefined && profile !== false)
      endProfile = startProfile(profile === true ? profileDirectory : profile, isThread ? 'thread' : 'process')
    handlers.setUp(seed)
  },
  load: (source) => handlers.load(source),
  report: () => ({ memoryBytes: isThread ? memoryOfThread() : residentMemory() }),
  finished: () => void leave(),
  mostRecordBytes,
})

/** What is its own: the resident size is that of the whole process. Buffers lie outside of the heap. */
function memoryOfThread(): number {
  const { heapUsed, external } = processMemory()
  return heapUsed + external
}

let endProfile = () => {}
let isLeaving = false
async function leave(): Promise<void> {
  if (isLeaving) return
  isLeaving = true
  await handlers.dispose()
  endProfile()
  place.flush()
  if (isThread) parentPort?.close()
  else pipe?.end()
}

/** What a handler throws from nowhere ends the place, and is said before. */
process.on('uncaughtException', (error) => {
  place.break(toError(error))
  // Written, then gone: the pool puts a new one in its place.
  setImmediate(() => setImmediate(() => process.exit(1)))
})

let pipe: { end(): void } | undefined
if (isThread && parentPort !== null) {
  const port = parentPort
  const channel: Channel = {
    name: 'the server',
    send(batch) {
      const { buffer } = batch
      port.postMessage(batch, buffer instanceof ArrayBuffer ? [buffer] : [])
      return true
    },
    close: () => port.close(),
  }
  place.attach(channel)
  port.on('message', (batch: Uint8Array) => place.data(Buffer.from(batch.buffer, batch.byteOffset, batch.byteLength)))
} else if (descriptor !== undefined) {
  delete process.env.GAIDAROS_PLACE
  const sink: ChannelSink = {
    data: (batch) => place.data(batch),
    drain: () => {},
    close(error) {
      // Whoever started this process is gone, or has ended it.
      place.close(error)
      setTimeout(() => process.exit(isLeaving ? 0 : 1), 1_000).unref()
      void leave().then(() => process.exit(0))
    },
  }
  const opened = pipeChannel(inheritedPipe(descriptor), sink, mostBatchBytes(mostRecordBytes))
  pipe = opened
  place.attach({ name: 'the server', send: (batch) => opened.send(batch), close: () => opened.end() })
  // A signal to the group is the server's business: it drains, and tells.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
} else {
  throw new Error('this module runs in a thread or process that Gaidaros has started')
}
