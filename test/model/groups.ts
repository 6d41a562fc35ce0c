/**
 * What scripts are played over: each transport, layer and executor, a drain, a reload.
 */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConfiguredServer, createServer, type NamedExecutor, type ServerOptions } from 'gaidaros'
import { generate } from 'selfsigned'
import { iterables } from '../fixtures/model-handlers.js'
import { root } from '../support/command.js'
import { eventually } from '../support/faults.js'
import type { Cell } from './matrix.js'
import type { Where } from './peers.js'
import { type Failure, failureText, type Group, playMany, type Target } from './play.js'
import { FRAME_BYTES, type Script } from './script.js'

export const handlers = join(root, 'test/fixtures/model-handlers.ts')
export const folder = mkdtempSync(join(tmpdir(), 'gm-'))
export const SEED = process.env.MODEL_SEED ?? process.env.SEED ?? '20'
/** More than the suite's: `MODEL_TIMES=10 node build/model/executors.test.js`. */
export const times = Number(process.env.MODEL_TIMES ?? 1)

const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], {
  extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] }],
} as never)
export const tls = { cert, key }

export const transports = ['tcp', 'tls', 'unix', 'memory', 'ws'] as const
export type Transport = (typeof transports)[number]

/** The name of the listener, and of the handler's class, for a script. */
export const classOf = ({ isCareful, order }: Script): string =>
  `${isCareful ? 'Careful' : 'Plain'}${order === 'concurrent' ? 'Concurrent' : ''}`
export const classes = ['Plain', 'PlainConcurrent', 'Careful', 'CarefulConcurrent']

function endpointOf(transport: Transport): string {
  if (transport === 'unix') return `unix:${join(folder, `${randomUUID().slice(0, 8)}.sock`)}`
  if (transport === 'memory') return `memory:${randomUUID()}`
  return `${transport}://127.0.0.1:0`
}

/** A listener for each class of the handler. */
export function listenersOf(transport: Transport, layers: readonly unknown[] = []): Record<string, object> {
  return Object.fromEntries(
    classes.map((name) => [
      name,
      {
        endpoint: endpointOf(transport),
        handler: `${handlers}#${name}`,
        codec: { name: 'length-field', payload: 'json' },
        ...(transport === 'tls' ? { tls } : {}),
        ...(layers.length > 0 ? { layers } : {}),
      },
    ]),
  )
}

export const common = {
  limits: { frameBytes: FRAME_BYTES },
  // A machine with too much to do is no peer that is gone.
  timeouts: { lingerMs: 20_000, handlerMs: 60_000 },
} satisfies Pick<ServerOptions, 'limits' | 'timeouts'>

export interface Setup {
  readonly transport: Transport
  readonly layers?: readonly unknown[]
  readonly layer?: Where['layer']
  readonly executor?: NamedExecutor
  readonly cluster?: object
}

/** A server in this process. */
export async function serving(setup: Setup): Promise<Target & { readonly server: ConfiguredServer }> {
  const { transport, layers, layer, executor = 'inline', cluster } = setup
  const server = await createServer({
    config: false,
    ...common,
    listeners: listenersOf(transport, layers),
    executor,
    ...(cluster === undefined ? {} : { cluster }),
  } as ServerOptions)
  const unplanned: string[] = []
  server.on('handler.failed', ({ error }) => {
    // What a handler elsewhere sends late is told as lost where the connection has ended.
    if (!/planned|JSON|a send of a handler in .* is (ending|closed)/.test(error.message)) unplanned.push(error.message)
  })
  await server.start()
  let stopping: Promise<void> | undefined
  return {
    server,
    isStream: transport !== 'ws',
    where: (script) => ({
      endpoint: String(server.listeners.get(classOf(script))?.endpoint),
      ca: transport === 'tls' ? cert : undefined,
      layer,
    }),
    event() {
      const received = [...server.connections].reduce((sum, { stats }) => sum + stats.bytesIn, 0)
      stopping = server.stop()
      return received
    },
    async stop() {
      if (stopping === undefined)
        await eventually(() => server.connections.size === 0, 'all connections are over', 30_000)
      await (stopping ?? server.stop())
      if (unplanned.length > 0) throw new Error(`the handler failed as it was not to: ${unplanned[0]}`)
      // An iterator is ended when its peer goes.
      if (executor === 'inline') await eventually(() => iterables.open === 0, 'every iterable was ended')
    },
  }
}

/** Plays so many scripts of a cell: over one server, or each with a server of its own that is stopped in the midst of it. */
export async function playCell(
  cell: Cell,
  count: number,
  seed = SEED,
  progress?: (done: number) => void,
): Promise<readonly Failure[]> {
  const isStream = cell.transport !== 'ws'
  const own = `${seed}/${cell.name}`
  const leftOut = process.env.MODEL_ALL === undefined ? cell.leftOut : undefined
  if (leftOut !== undefined) console.log(`# ${cell.name}: left out: ${leftOut.what}: ${leftOut.reason}`)
  const shared = { name: cell.name, ...(leftOut === undefined ? {} : { without: leftOut.without }) }
  if (cell.isDrained) {
    const fresh = () => serving(cell)
    const group: Group = { ...shared, drawing: { isStream, event: 'drain' }, atOnce: 3, fresh }
    return playMany(group, own, count, undefined, progress)
  }
  const target = await serving(cell)
  const failures = await playMany({ ...shared, drawing: { isStream } }, own, count, target, progress)
  // What is stuck would hold the stop up.
  await (failures.length > 0 ? target.server.stop({ timeoutMs: 0 }) : target.stop())
  return failures
}

/** A case of `npm test`. @throws {Error} with seed and shortest script. */
export async function runCell(cell: Cell): Promise<void> {
  const began = performance.now()
  const count = cell.count * times
  refuse(await playCell(cell, count))
  console.log(`# ${cell.name}: ${count} scripts in ${((performance.now() - began) / 1_000).toFixed(1)} s`)
}

export function refuse(failures: readonly Failure[]): void {
  if (failures.length > 0) throw new Error(failures.map(failureText).join('\n\n'))
}

export const removeFolder = () => rmSync(folder, { recursive: true, force: true })
