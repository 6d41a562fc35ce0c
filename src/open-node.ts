/**
 * What a node of a cluster is made of; behind the door in node.ts, which loads it when there is one.
 *
 * It binds nothing. What a server may ask of it is what its own configuration has: names come from the wire, code never.
 */

import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import type { LoadedConfiguration } from './core/config/index.js'
import type { Configuration, HandlerRef, ListenerOptions } from './core/configuration.js'
import type { Control } from './core/control.js'
import { ConfigError } from './core/errors.js'
import type { Executor } from './core/executor.js'
import { runPlan } from './core/executor-plan.js'
import type { HandlerDefinition, HandlerPlan, NamedExecutor } from './core/handler.js'
import { defaultLimits, defaultTimeouts, drainOf } from './core/options.js'
import { writePidFile } from './core/pid-file.js'
import { cameFrom, sourceOf } from './core/places/handler-source.js'
import type { PlacedConnection } from './core/places/placed-connection.js'
import { settle } from './core/planner.js'
import { controlOf, furnish, listenForControl, type ServerOptions } from './gaidaros.js'
import { chooseHandler, type NamedHandler, nameAbroad } from './plugins/executors/cluster/names.js'
import { ClusterNode } from './plugins/executors/cluster/node.js'
import { type ClusterOptions, checkCluster } from './plugins/executors/cluster/options.js'
import { version } from './version.js'

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

/** @throws {ConfigError | WiringError} as `createServer`. */
export async function openNode({ log = () => {}, ...options }: NodeInput = {}): Promise<NodeHandle> {
  const { loaded, clock, events, registry, places, injection, found, resolveRef, traced } = await furnish(options)
  const { values } = loaded
  const cluster = clusterOf(values)
  const executorOf = executorsOf(values, (ref, place) => registry.resolveExecutor(ref, place).executor)
  const limits = settle(defaultLimits, values.limits)
  const timeouts = settle(defaultTimeouts, values.timeouts)
  const handlers = await traced(collect(values, resolveRef, [...found.values()]))
  await registry.ready({
    executors: [
      values.node?.executor,
      ...handlers.flatMap(({ options, messages }) => [options.executor, ...messages.map((one) => one.executor)]),
    ],
  })
  const executors = new Set<Executor>()
  /** As `Planner` does it for a server. */
  const planned = (definition: HandlerDefinition): HandlerPlan => {
    const own = injection.plan(definition)
    const { executor, place } = executorOf(definition)
    if (executor === undefined) return own
    executors.add(executor)
    const placement = { place, source: sourceOf(definition), limits, timeouts }
    const whole = executor.place?.(own, { ...placement, hooks: true })
    if (whole === undefined) return runPlan(own, executor)
    const hasSingles = cluster.affinity === 'none' || definition.messages.some((one) => one.executor !== undefined)
    const single = hasSingles ? executor.place?.(own, { ...placement, hooks: false }) : undefined
    if (single === undefined) return whole
    return {
      ...whole,
      bind: (connection) => ((connection as PlacedConnection).hasHooks ? whole : single).bind(connection),
      async release(connection) {
        await whole.release(connection)
        await single.release(connection)
      },
    }
  }
  const named = handlers.map((definition): NamedHandler<HandlerPlan> => {
    const { name } = definition
    const source = sourceOf(definition)
    return { name, handler: planned(definition), abroad: source && nameAbroad(source, name, places.base) }
  })

  const name = values.node?.name ?? hostname().split('.')[0] ?? 'node'
  const node = new ClusterNode({
    options: cluster,
    clock,
    instance: `${name.replace(/[^A-Za-z0-9_-]/g, '-').slice(0, 40)}-${randomBytes(6).toString('base64url')}`,
    host: hostname(),
    version,
    load: async (source) => {
      const plan = chooseHandler(source, named)
      await plan.prepare?.()
      return plan
    },
    log,
  })
  events.on('executor.lost', ({ place, error, connections }) =>
    log(`${place} is lost: ${error.message}; ${connections} connections were there`),
  )
  let state: NodeState = 'created'
  let resolveStopped: (cut: number | Promise<number>) => void = () => {}
  const stopped = new Promise<number>((resolve) => {
    resolveStopped = resolve
  })
  // Whoever has called stop() is told as well.
  stopped.catch(() => {})
  const beside: (() => void | Promise<void>)[] = []
  const release = async () => {
    const deadline = clock.now() + 1_000
    await Promise.all([...executors].map((executor) => executor.drain(deadline)))
    await injection.dispose()
    state = 'stopped'
    // The control socket last: whoever waits there for the end sees it go.
    for (const end of beside.splice(0)) await end()
  }
  const began = performance.now()
  const control = async (): Promise<Pick<Control, 'ask'>> => {
    const { nodeControl } = await import('./core/control/node.js')
    const facts = () => ({
      version,
      state,
      uptimeMs: performance.now() - began,
      connections: node.connections,
      executors: [...executors],
      node: {
        cluster: cluster.name,
        instance: node.instance,
        servers: node.fronts,
        running: node.running,
        handled: node.handled,
        dropped: node.dropped,
        isConnected: node.isConnected,
      },
    })
    return nodeControl(facts, (given) => self.stop(given))
  }
  const self: NodeHandle = {
    cluster: cluster.name,
    instance: node.instance,
    configuration: loaded,
    stopped,
    get state() {
      return state
    },
    get connections() {
      return node.connections
    },
    async start() {
      const { path, pidFile } = controlOf(values.node?.control)
      state = 'starting'
      try {
        if (pidFile !== undefined) beside.push(writePidFile(pidFile))
        for (const { handler } of named) await handler.prepare?.()
        for (const executor of executors) await executor.start()
        await node.join()
        if (path !== undefined) {
          const server = await listenForControl(path, await control())
          beside.push(() => server.stop({ timeoutMs: 1_000 }))
        }
        // Somebody may have wanted the end meanwhile.
        if (self.state === 'starting') state = 'ready'
        else if (self.state === 'stopped') for (const end of beside.splice(0)) await end()
      } catch (error) {
        await node.leave(0)
        await release()
        throw error
      }
      return self
    },
    stop({ timeoutMs = drainOf(values.drain).timeoutMs } = {}) {
      const leaving = node.leave(timeoutMs)
      if (state === 'draining' || state === 'stopped') return stopped
      state = 'draining'
      resolveStopped(leaving.finally(release))
      return stopped
    },
  }
  return self
}

/** What an executor of the configuration says, under the top-level `cluster`, which `--cluster` sets. */
function clusterOf(values: Configuration): ClusterOptions {
  const said = [values.executor, ...Object.values(values.listeners ?? {}).map(({ executor }) => executor)].filter(
    (one): one is NamedExecutor & object => typeof one === 'object' && (one as { type?: unknown }).type === 'cluster',
  )
  const own = said.map(({ type: _, ...options }: { type?: unknown }) => options)
  const different = new Set(own.map((one) => JSON.stringify(one)))
  const base = values.cluster
  if (different.size > 1 && base === undefined) {
    const message = `${different.size} executors of this configuration belong to clusters of different options; say in \`cluster\` which one the node joins`
    throw new ConfigError('BAD_VALUE', message)
  }
  const under = typeof base === 'string' || Array.isArray(base) ? { servers: base } : base
  return checkCluster({ ...(different.size === 1 ? own[0] : {}), ...(under as object | undefined) })
}

/** Where a handler runs here. What the configuration says of servers (`executor: cluster`) is not meant for a node. */
function executorsOf(
  { node }: Configuration,
  resolve: (ref: NamedExecutor, place: string) => Executor | undefined,
): (definition: HandlerDefinition) => Chosen {
  const made = new Map<object, Chosen>()
  const make = (owner: object, ref: NamedExecutor, place: string): Chosen => {
    const known = made.get(owner)
    if (known !== undefined) return known
    const chosen = { place, executor: resolve(ref, place) }
    made.set(owner, chosen)
    return chosen
  }
  const isCluster = (ref: NamedExecutor) => (typeof ref === 'string' ? ref : ref.type) === 'cluster'
  if (node?.executor !== undefined && isCluster(node.executor)) {
    const message = 'node.executor: a node runs handlers itself; expected inline, task, thread-pool, process-pool …'
    throw new ConfigError('BAD_VALUE', message)
  }
  return (definition) => {
    if (node?.executor !== undefined) return make(made, node.executor, 'node.executor')
    const { executor: own } = definition.options
    if (own === undefined || isCluster(own)) return { place: 'node.executor', executor: undefined }
    return make(definition, own, `handler ${definition.name}, executor`)
  }
}

interface Chosen {
  readonly place: string
  readonly executor: Executor | undefined
}

/** Every handler that a server with this configuration could ask for. */
async function collect(
  values: Configuration,
  resolve: (ref: HandlerRef | undefined, place: string) => Promise<HandlerDefinition>,
  found: readonly { readonly definition: HandlerDefinition; readonly from: string }[],
): Promise<HandlerDefinition[]> {
  const all = new Set<HandlerDefinition>()
  for (const { definition, from } of found)
    all.add(from === 'code' ? definition : cameFrom(definition, { reference: from, name: definition.name }))
  const refs = new Map<HandlerRef | undefined, string>()
  const add = ({ handler, protocol }: Partial<ListenerOptions>, place: string) => {
    const own = handler ?? values.handler
    if (own !== undefined || found.length < 2) refs.set(own, `${place}.handler`)
    for (const one of Array.isArray(protocol ?? values.protocol) ? ((protocol ?? values.protocol) as unknown[]) : []) {
      const { handler: other } = (typeof one === 'object' && one !== null ? one : {}) as { handler?: HandlerRef }
      if (other !== undefined) refs.set(other, `${place}.protocol`)
    }
  }
  for (const [name, listener] of Object.entries(values.listeners ?? {})) add(listener, `listeners.${name}`)
  if (Object.keys(values.listeners ?? {}).length === 0) add({}, 'node')
  for (const [ref, place] of refs) all.add(await resolve(ref, place))
  return [...all]
}
