/**
 * A door of its own: a node of a cluster, which runs the handlers of its configuration for servers elsewhere.
 */
import type { LoadedConfiguration } from './core/config/index.js'
import type { ServerOptions } from './gaidaros.js'

/** A machine's part in a cluster. */
export interface NodeHandle {
  /** The cluster's name. */
  readonly cluster: string
  /** Its own: unlike any other's. */
  readonly instance: string
  readonly configuration: LoadedConfiguration
  /** Connections that have their handler here. */
  readonly connections: number
  /**
   * Finds its handlers, starts its executor and joins.
   *
   * @throws {ConfigError} `BAD_VALUE` for a login or TLS that NATS does not take.
   * @throws {ConnectionError} `REFUSED` when no NATS server is reached.
   */
  start(): Promise<this>
  /**
   * Takes no new connections, lets those it has finish or move on, and leaves.
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
