/**
 * A door of its own: a node of a cluster, which runs the handlers of its configuration for servers elsewhere.
 */
import type { LoadedConfiguration } from './core/config/index.js'
import type { ServerOptions } from './gaidaros.js'

export type NodeState = 'created' | 'starting' | 'ready' | 'draining' | 'stopped'

/** A machine's part in a cluster. */
export interface NodeHandle {
  /** The cluster's name. */
  readonly cluster: string
  /** Its own: unlike any other's. */
  readonly instance: string
  readonly configuration: LoadedConfiguration
  readonly state: NodeState
  /** Connections that have their handler here. */
  readonly connections: number
  /** Resolves when it has left, whoever wanted it: with how many connections were cut at the deadline. */
  readonly stopped: Promise<number>
  /**
   * Finds its handlers, starts its executor and joins.
   *
   * @throws {ConfigError} `BAD_VALUE` for a login or TLS that NATS does not take.
   * @throws {ConnectionError} `REFUSED` when no NATS server is reached.
   * @throws {BindError} when its control socket or pid file (`node.control`) cannot be.
   */
  start(): Promise<this>
  /**
   * Takes no new connections, lets those it has finish or move on, and leaves. A second call with a shorter time shortens it.
   *
   * @returns how many were cut at the deadline.
   */
  stop(options?: { readonly timeoutMs?: number }): Promise<number>
}

/** What `createNode` takes: a configuration, and what only code can give. */
export interface NodeInput extends ServerOptions {
  /** Told of what an operator should know: NATS is away, is back. */
  readonly log?: (what: string) => void
}

/**
 * Makes a node; `start()` joins.
 *
 * @throws {ConfigError | WiringError} as `createServer`.
 */
export async function createNode(input: NodeInput = {}): Promise<NodeHandle> {
  const { openNode } = await import('./open-node.js')
  return openNode(input)
}
