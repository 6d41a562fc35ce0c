/**
 * `check` and `config`: what would be served, without serving it.
 *
 * Room: the command line.
 */
import { createServer } from '../gaidaros.js'
import type { Arguments } from './arguments.js'
import { optionsOf } from './serve.js'

export async function check(given: Arguments): Promise<number> {
  const server = await createServer(optionsOf(given))
  const handlers = new Set([...server.listeners].map((listener) => listener.plan.handler.definition.name))
  const { file } = server.configuration
  process.stdout.write(
    `ok: ${count(server.listeners.size, 'listener')}, ${count(handlers.size, 'handler')} (${file ?? 'no configuration file'})\n`,
  )
  return 0
}

export async function printConfiguration(given: Arguments): Promise<number> {
  const server = await createServer(optionsOf(given))
  const entries = server.configuration.entries().map(({ path, value, origin, secret }) => {
    return { path, value: secret ? '(hidden)' : shown(value), origin: origin.name, kind: origin.kind }
  })
  if (given.flags.json) {
    const all = Object.fromEntries(entries.map(({ path, value, origin, kind }) => [path, { value, origin, kind }]))
    process.stdout.write(`${JSON.stringify(all, null, 2)}\n`)
    return 0
  }
  const lines = entries.map(({ path, value, origin }) => [`${path} = ${JSON.stringify(value)}`, origin] as const)
  const width = Math.min(72, Math.max(...lines.map(([left]) => left.length)))
  for (const [left, origin] of lines) process.stdout.write(`${left.padEnd(width)}  # ${origin}\n`)
  return 0
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
    return typeof name === 'string' &&
      Object.values(value).some((one) => typeof one === 'function' || typeof one === 'object')
      ? `[${name}]`
      : value
  }
  return value === Number.POSITIVE_INFINITY ? 'unlimited' : value
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`
}
