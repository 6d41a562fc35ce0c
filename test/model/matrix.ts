/**
 * The matrix: each transport, layer and executor that scripts are played over, and those that are left out, with the reason.
 */
import { type Setup, transports } from './groups.js'
import type { Message, Script } from './script.js'

export interface Cell extends Setup {
  readonly name: string
  /** How many scripts of a run of `npm test`. */
  readonly count: number
  /** Each script has a server of its own, which is stopped in the midst of it. */
  readonly isDrained?: boolean
  readonly leftOut?: LeftOut
}

/** What scripts of a cell do without, because it is known to end otherwise. Printed with each run. */
export interface LeftOut {
  readonly what: string
  readonly reason: string
  /** The script without it. */
  without(script: Script): Script
}

const isMixed = (message: Message): message is Exclude<Message, { refused: unknown }> =>
  !('refused' in message) && message.steps.some(([what]) => what === 'item')

/** `MODEL_ALL=1` plays them all the same. */
const aheadOfItems: LeftOut = {
  what: '`send` within an iterable that has items, with order `concurrent`',
  reason: 'elsewhere items are asked for 16 ahead, and of several handlers at work nobody knows which one sends',
  without: (script) =>
    script.order === 'serial'
      ? script
      : {
          ...script,
          messages: script.messages.map((message) =>
            isMixed(message) ? { ...message, steps: message.steps.filter(([what]) => what !== 'send') } : message,
          ),
        },
}
const stream = { transport: 'tcp' } as const
const elsewhere = { ...stream, leftOut: aheadOfItems } as const

export const overTransports: readonly Cell[] = transports.map((transport) => ({
  name: transport,
  transport,
  count: 30,
}))

export const overLayers: readonly Cell[] = [
  { ...stream, name: 'throttle', count: 15, layers: [{ name: 'throttle', read: 20_000_000, write: 20_000_000 }] },
  { ...stream, name: 'gzip', count: 20, layers: ['gzip'], layer: 'gzip' },
  {
    ...stream,
    name: 'proxy-protocol',
    count: 20,
    layers: [{ name: 'proxy-protocol', trusted: ['127.0.0.0/8'] }],
    layer: 'proxy-protocol',
  },
]

export const overExecutors: readonly Cell[] = [
  { ...stream, name: 'task', count: 30, executor: 'task' },
  { ...elsewhere, name: 'thread', count: 20, executor: 'thread' },
  { ...elsewhere, name: 'thread-pool', count: 20, executor: { type: 'thread-pool', size: 2 } },
  { ...elsewhere, name: 'process', count: 20, executor: 'process' },
  { ...elsewhere, name: 'process-pool', count: 20, executor: { type: 'process-pool', size: 2 } },
]

/** Its executor is named by who starts NATS and a node. */
export const overCluster: Cell = { ...elsewhere, name: 'cluster', count: 20 }

export const overDrains: readonly Cell[] = [
  { ...stream, name: 'drain of tcp', count: 30, isDrained: true },
  { name: 'drain of unix', count: 20, transport: 'unix', isDrained: true },
  { name: 'drain of memory', count: 20, transport: 'memory', isDrained: true },
]

export const cells: readonly Cell[] = [...overTransports, ...overLayers, ...overExecutors, ...overDrains]
