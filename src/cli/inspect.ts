/**
 * `check` and `config`: what would be served, without serving it.
 *
 * Room: the command line.
 */
import { relative } from 'node:path'
import { type LoadedConfiguration, loadConfiguration, ofListener, withOrigin } from '../core/config/index.js'
import type { Secrets } from '../core/secrets.js'
import { refuseUnsupported, settleWorkers } from '../core/workers/options.js'
import { defaultEndpoint, openServer, readConfiguration } from '../gaidaros.js'
import { secretsOf } from '../secrets.js'
import type { Arguments } from './arguments.js'
import { optionsOf } from './serve-options.js'

export async function check(given: Arguments): Promise<number> {
  const options = optionsOf(given)
  const loaded = await readConfiguration(options)
  const server = await openServer(loaded, options, { place: 'command' })
  const workers = settleWorkers(loaded.values.workers)
  if (workers !== undefined) refuseUnsupported(workers.balance)
  for (const { plan } of server.listeners) {
    for (const { transport, endpoint, options } of plan.bindings) {
      try {
        await transport.check?.(endpoint, options)
      } catch (thrown) {
        throw withOrigin(ofListener(thrown, plan.name), server.configuration.origin)
      }
    }
  }
  const handlers = new Set([...server.listeners].map((listener) => listener.plan.handler.definition.name))
  const { file } = server.configuration
  process.stdout.write(
    `ok: ${count(server.listeners.size, 'listener')}, ${count(handlers.size, 'handler')} (${file ?? 'no configuration file'})\n`,
  )
  return 0
}

/** Reads no handler; a plugin only to ask what is secret, and a broken one keeps nothing back: it can be looked at all the same. */
export async function printConfiguration(given: Arguments): Promise<number> {
  const { config = true, flags = [], modulesFrom = [] } = optionsOf(given)
  const loaded = await loadConfiguration({ cwd: process.cwd(), config, env: process.env, flags, modulesFrom })
  const rows = rowsOf(loaded, await secretsOf(loaded))
  if (given.flags.json) {
    const all = Object.fromEntries(rows.map(({ path, value, origin, kind }) => [path, { value, origin, kind }]))
    process.stdout.write(`${JSON.stringify(all, null, 2)}\n`)
    return 0
  }
  const lines = rows.map(
    ({ path, value, origin }) => [`${path} = ${JSON.stringify(value)}`, originName(origin)] as const,
  )
  const width = Math.min(72, Math.max(...lines.map(([left]) => left.length)))
  process.stdout.write(lines.map(([left, origin]) => `${left.padEnd(width)}  # ${origin}\n`).join(''))
  return 0
}

function rowsOf(
  loaded: LoadedConfiguration,
  secrets: Secrets,
): { path: string; value: unknown; origin: string; kind: string }[] {
  const rows = loaded.entries().map(({ path, keys, value, origin }) => {
    return {
      path,
      value: secrets.hide(shown(value), keys),
      origin: origin.name,
      kind: origin.kind as string,
    }
  })
  if (Object.keys(loaded.values.listeners ?? {}).length === 0) {
    rows.push({ path: 'listeners.default.endpoint', value: defaultEndpoint, origin: 'default', kind: 'default' })
  }
  return rows.sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** Files as seen from here. */
export function originName(name: string): string {
  const near = name.startsWith('/') ? relative(process.cwd(), name) : name
  return near === '' || near.startsWith('..') ? name : near
}

/** What a value looks like in data; things of code by name. */
function shown(value: unknown): unknown {
  if (typeof value === 'function') return `[${value.name || 'function'}]`
  if (value instanceof Uint8Array) return `[${value.length} bytes]`
  if (Array.isArray(value)) return value.map(shown)
  if (typeof value === 'string' && value.trimStart().startsWith('-----BEGIN'))
    return `[PEM, ${value.length} characters]`
  if (typeof value === 'object' && value !== null && !(value instanceof String)) {
    const { name } = value as { name?: unknown }
    return typeof name === 'string' && !isData(value) ? `[${name}]` : value
  }
  return value === Number.POSITIVE_INFINITY ? 'unlimited' : value
}

/** What a file could hold, as opposed to a thing of code. */
function isData(value: unknown, depth = 8): boolean {
  if (typeof value !== 'object' || value === null) return typeof value !== 'function' && typeof value !== 'symbol'
  if (Array.isArray(value)) return depth > 0 && value.every((one) => isData(one, depth - 1))
  const prototype = Object.getPrototypeOf(value)
  const isPlain = prototype === null || prototype === Object.prototype
  return isPlain && depth > 0 && Object.values(value).every((one) => isData(one, depth - 1))
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`
}
