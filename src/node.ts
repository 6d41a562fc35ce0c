/**
 * A door of its own: a node of a cluster, which runs the handlers of its configuration for servers elsewhere.
 */
import type { NodeHandle, NodeInput, NodeState } from './open-node.js'

export type { NodeHandle, NodeInput, NodeState }

/**
 * Makes a node; `start()` joins.
 *
 * @throws {ConfigError | WiringError} as `createServer`.
 */
export async function createNode(input: NodeInput = {}): Promise<NodeHandle> {
  const { openNode } = await import('./open-node.js')
  return openNode(input)
}
