/**
 * The matrix: each transport, layer and executor that scripts are played over, and those that are left out, with the reason.
 */
import { type Setup, transports } from './groups.js'

export interface Cell extends Setup {
  readonly name: string
  /** How many scripts of a run of `npm test`. */
  readonly count: number
  /** Each script has a server of its own, which is stopped in the midst of it. */
  readonly isDrained?: boolean
  readonly needsNats?: boolean
}

const stream = { transport: 'tcp' } as const

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
  { ...stream, name: 'thread', count: 20, executor: 'thread' },
  { ...stream, name: 'thread-pool', count: 20, executor: { type: 'thread-pool', size: 2 } },
  { ...stream, name: 'process', count: 20, executor: 'process' },
  { ...stream, name: 'process-pool', count: 20, executor: { type: 'process-pool', size: 2 } },
]

export const overDrains: readonly Cell[] = [
  { ...stream, name: 'drain of tcp', count: 30, isDrained: true },
  { name: 'drain of unix', count: 20, transport: 'unix', isDrained: true },
  { name: 'drain of memory', count: 20, transport: 'memory', isDrained: true },
]

export const cells: readonly Cell[] = [...overTransports, ...overLayers, ...overExecutors, ...overDrains]
