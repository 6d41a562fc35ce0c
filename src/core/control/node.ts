/**
 * What a node of a cluster answers at its control socket: how it is, and that it goes.
 *
 * Room: core, mechanism of the control socket. Its connections are held by servers; whoever wants to steer them asks there.
 */
import type { Control, ControlRequest } from '../control.js'
import { endBy } from '../control.js'
import type { Executor } from '../executor.js'
import { nearest } from '../nearest.js'
import { executorStatus, memoryNow, type NodeStatus, type Status } from './status.js'

export const nodeCommands = ['status', 'drain', 'stop'] as const

export interface NodeFacts {
  readonly version: string
  readonly state: string
  readonly uptimeMs: number
  readonly connections: number
  readonly node: NodeStatus
  /** Where its handlers run. */
  readonly executors: readonly Executor[]
}

/** @param facts - How it is now. @param stop - Ends it in order. */
export function nodeControl(
  facts: () => NodeFacts,
  stop: (options: { readonly timeoutMs?: number }) => Promise<unknown>,
): Pick<Control, 'ask'> {
  return {
    ask(request: ControlRequest): unknown {
      switch (request?.command) {
        case 'status':
          return statusOfNode(facts())
        case 'drain':
        case 'stop':
          return endBy(request, async (options) => void (await stop(options)))
        default:
          throw new Error(unknown(request?.command))
      }
    },
  }
}

function statusOfNode({ version, state, uptimeMs, connections, node, executors }: NodeFacts): Status {
  return {
    pid: process.pid,
    version,
    state,
    uptimeMs: Math.round(uptimeMs),
    connections,
    listeners: [],
    executors: executors.map((one) => executorStatus(one, [])),
    counters: {},
    memory: memoryNow(),
    limits: { serverConnections: 'unlimited', memoryBytes: 'unlimited' },
    alarms: [],
    kept: [],
    node,
  }
}

function unknown(command: unknown): string {
  const near = typeof command === 'string' ? nearest(command, nodeCommands) : undefined
  const hint = near === undefined ? '' : `; nearest: \`${near}\``
  return `a node does not know ${JSON.stringify(command)}${hint}; it knows: ${nodeCommands.join(', ')}. Connections are steered at the server that has them`
}
