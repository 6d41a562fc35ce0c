/**
 * Handlers by names that mean the same on every machine: relative to the configuration, because folders differ.
 *
 * Room: plugins/executors. A server says such a name, a node looks it up among those its own configuration has.
 */
import { isAbsolute, relative, sep } from 'node:path'
import { WiringError } from '../../../core/errors.js'
import type { HandlerSource } from '../../../core/places/handler-source.js'

/** @param base - The folder of the configuration. */
export function nameAbroad(source: HandlerSource, handler: string, base: string): HandlerSource {
  const near = (path: string) => (isAbsolute(path) ? relative(base, path).split(sep).join('/') : path)
  if ('eval' in source) return source
  if ('hooks' in source) {
    const { module, ...hooks } = source.hooks as { module?: string }
    return { hooks: module === undefined ? hooks : { ...hooks, module: near(module) } }
  }
  const [file = '', ...exported] = source.reference.split('#')
  return { reference: [near(file), ...exported].join('#'), name: source.name ?? handler }
}

/** A handler of a node, and what it is called abroad; undefined when it was given as a value in code. */
export interface NamedHandler<T> {
  readonly handler: T
  readonly name: string
  readonly abroad: HandlerSource | undefined
}

/**
 * The one that is meant: by file and name, else by its name, where only one has it.
 *
 * @throws {WiringError} `BAD_HANDLER`.
 */
export function chooseHandler<T>(wanted: HandlerSource, handlers: readonly NamedHandler<T>[]): T {
  const text = JSON.stringify(wanted)
  const exact = handlers.find(({ abroad }) => JSON.stringify(abroad) === text)
  if (exact !== undefined) return exact.handler
  const name = (wanted as { name?: unknown } | null)?.name
  const [only, ...others] = handlers.filter((one) => one.name === name)
  if (only !== undefined && others.length === 0) return only.handler
  const known = handlers.map((one) => one.name).join(', ') || 'none'
  throw new WiringError('BAD_HANDLER', `this node's configuration has no handler ${shown(wanted)}; it has: ${known}`)
}

function shown(wanted: HandlerSource): string {
  const given = (typeof wanted === 'object' && wanted !== null ? wanted : {}) as Record<string, unknown>
  if ('eval' in given) return '--eval with this text'
  if ('hooks' in given) return 'of these hooks'
  return `${String(given.name).slice(0, 100)} (${String(given.reference).slice(0, 300)})`
}
