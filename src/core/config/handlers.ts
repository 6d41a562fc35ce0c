/**
 * Finds the handlers that a configuration names.
 *
 * Room: core, configuration. By decorated name, by `file#Export` or `package#Export`, by file, or the thing itself in code.
 */
import { type Dirent, readdirSync, statSync } from 'node:fs'
import { join, resolve, sep } from 'node:path'
import { ConfigError, WiringError } from '../errors.js'
import type { HandlerDefinition, HandlerLike } from '../handler.js'
import { nearest } from '../nearest.js'
import type { HandlerSource } from '../places/handler-source.js'
import type { LoadedConfiguration } from './index.js'
import { isFileReference, loadModule, type Module } from './load-module.js'
import type { ModuleDoor } from './modules.js'

type DefinitionOf = (value: unknown) => HandlerDefinition | undefined

/** A handler and where it was found. */
export interface FoundHandler {
  readonly definition: HandlerDefinition
  readonly from: string
}

/**
 * Loads what `handlers` names and collects the handlers in it.
 *
 * @throws {ConfigError} `NOT_FOUND`, `UNREADABLE`.
 * @throws {WiringError} `DUPLICATE` for two of one name.
 */
export async function findHandlers(
  loaded: LoadedConfiguration,
  { definitionOf }: { readonly definitionOf: DefinitionOf },
): Promise<ReadonlyMap<string, FoundHandler>> {
  const { handlers = [] } = loaded.values
  const list = (Array.isArray(handlers) ? handlers : [handlers]) as readonly (string | HandlerLike)[]
  const found = new Map<string, FoundHandler>()
  const add = (definition: HandlerDefinition, from: string) => {
    const present = found.get(definition.name)
    if (present !== undefined && present.definition.target !== definition.target) {
      const message = `two handlers are named ${definition.name}: one in ${present.from}, one in ${from}; give one a name with @Handler({ name })`
      throw new WiringError('DUPLICATE', message, { name: definition.name })
    }
    found.set(definition.name, { definition, from })
  }
  for (const one of list) {
    if (typeof one !== 'string') {
      const definition = definitionOf(one)
      if (definition === undefined)
        throw new WiringError('BAD_HANDLER', 'handlers: expected classes with @Handler() or defineHandler(…)')
      add(definition, 'code')
      continue
    }
    for (const reference of expand(one)) {
      const module = await loaded.modules.load(reference, 'handlers', one)
      for (const definition of handlersIn(module, definitionOf)) add(definition, reference)
    }
  }
  return found
}

/**
 * What a reference means.
 *
 * @returns undefined when nothing is named and nothing was found: the caller has a fallback.
 */
export async function resolveHandler(
  ref: string | HandlerLike | undefined,
  found: ReadonlyMap<string, FoundHandler>,
  context: { readonly definitionOf: DefinitionOf; readonly place: string; readonly loaded: LoadedConfiguration },
): Promise<{ readonly handler: HandlerLike; readonly source: HandlerSource | undefined } | undefined> {
  const { definitionOf, place, loaded } = context
  if (ref === undefined) {
    if (found.size === 0) return undefined
    if (found.size === 1) return foundAgain([...found.values()][0] as FoundHandler)
    const names = [...found.keys()].join(', ')
    throw new ConfigError(
      'BAD_VALUE',
      `${place}: ${found.size} handlers were found, and none is named; choose one of ${names}`,
      { place },
    )
  }
  if (typeof ref !== 'string') {
    const known = [...found.values()].find(
      ({ definition }) => definition.target !== undefined && definition.target === ref,
    )
    return known === undefined ? { handler: ref, source: undefined } : foundAgain(known)
  }
  const byName = found.get(ref)
  if (byName !== undefined) return foundAgain(byName)
  const [reference = '', exported] = ref.split('#')
  if (exported === undefined && !isFileReference(reference)) {
    const near = nearest(ref, found.keys())
    const known = [...found.keys()].join(', ') || 'none'
    const hint = near === undefined ? '' : `; nearest: \`${near}\``
    throw new ConfigError(
      'UNKNOWN_NAME',
      `${place}: unknown handler \`${ref}\`${hint}; found: ${known}; a file is named as ./file.ts or ./file.ts#Export`,
      { place, name: ref },
    )
  }
  const module = await loaded.modules.load(reference, place, ref)
  return { handler: pick(module, exported, { reference, place, definitionOf }), source: { reference: ref } }
}

function foundAgain({ definition, from }: FoundHandler): { handler: HandlerLike; source: HandlerSource | undefined } {
  const source = from === 'code' ? undefined : { reference: from, name: definition.name }
  return { handler: definition, source }
}

/** Finds a handler again, in another place: the server has let its module in. @returns undefined when it has none of that name. */
export async function loadHandler(
  { reference, name }: { readonly reference: string; readonly name?: string },
  directory: string,
  { definitionOf }: { readonly definitionOf: DefinitionOf },
): Promise<HandlerLike | undefined> {
  const [file = '', exported] = reference.split('#')
  const module = await loadModule(file, directory)
  if (name !== undefined) return handlersIn(module, definitionOf).find((one) => one.name === name)
  return pick(module, exported, { reference: file, place: reference, definitionOf })
}

/**
 * What a module exports under the name behind `#`; its default export without one.
 *
 * @throws {ConfigError} `NOT_FOUND`, `UNREADABLE`, `UNKNOWN_NAME`.
 */
export async function loadExport(reference: string, place: string, modules: ModuleDoor): Promise<unknown> {
  const [file = '', name = 'default'] = reference.split('#')
  const module = exportsOf(await modules.load(file, place, reference))
  if (Object.hasOwn(module, name)) return module[name]
  const names = Object.keys(module)
  const near = nearest(name, names)
  const hint = near === undefined ? '' : `; nearest: \`${near}\``
  throw new ConfigError(
    'UNKNOWN_NAME',
    `${file} has no export \`${name}\`${hint}; it has: ${names.join(', ') || 'none'}`,
    { name },
  )
}

function pick(
  module: Module,
  exported: string | undefined,
  { reference, place, definitionOf }: { reference: string; place: string; definitionOf: DefinitionOf },
): HandlerLike {
  if (exported !== undefined) {
    const value = exportsOf(module)[exported]
    if (value !== undefined) return value as HandlerLike
    const names = Object.keys(exportsOf(module))
    const near = nearest(exported, names)
    const hint = near === undefined ? '' : `; nearest: \`${near}\``
    throw new ConfigError(
      'UNKNOWN_NAME',
      `${place}: ${reference} has no export \`${exported}\`${hint}; it has: ${names.join(', ') || 'none'}`,
      { place },
    )
  }
  const { default: standard } = module
  if (typeof standard === 'function' || definitionOf(standard) !== undefined) return standard as HandlerLike
  const inside = handlersIn(module, definitionOf)
  if (inside.length === 1) return inside[0] as HandlerLike
  const what =
    inside.length === 0 ? 'no handler' : `${inside.length} handlers (${inside.map(({ name }) => name).join(', ')})`
  throw new ConfigError(
    'UNKNOWN_NAME',
    `${place}: ${reference} has no default export and ${what} in it; write ${reference}#Export`,
    { place },
  )
}

function handlersIn(module: Module, definitionOf: DefinitionOf): HandlerDefinition[] {
  const found = new Set<HandlerDefinition>()
  for (const value of Object.values(exportsOf(module))) {
    const definition = definitionOf(value)
    if (definition !== undefined) found.add(definition)
  }
  return [...found]
}

/** CommonJS modules put their exports on `default`. */
function exportsOf(module: Module): Module {
  const { default: standard } = module
  const isCommon = typeof standard === 'object' && standard !== null && 'module.exports' in module
  return isCommon ? { ...(standard as Module), ...module } : module
}

/** A glob as its files, sorted; anything else as it is. @throws {ConfigError} `NOT_FOUND` for a glob without files. */
function expand(reference: string): readonly string[] {
  if (!isFileReference(reference) || !/[*?{]/.test(reference)) return [reference]
  const path = resolve(reference)
  const parts = path.split(sep)
  const first = parts.findIndex((part) => /[*?{]/.test(part))
  const folder = parts.slice(0, first).join(sep) || sep
  const matches = matcher(parts.slice(first))
  const files = walk(folder, parts.slice(first).includes('**') ? Number.POSITIVE_INFINITY : parts.length - first)
  const found = files.filter((file) => matches(file.slice(folder.length).split(sep).filter(Boolean))).sort()
  if (found.length > 0) return found
  throw new ConfigError('NOT_FOUND', `handlers: no file matches ${reference}`, { reference, place: 'handlers' })
}

function walk(folder: string, depth: number): string[] {
  if (depth === 0) return []
  let entries: Dirent[] = []
  try {
    entries = readdirSync(folder, { withFileTypes: true })
  } catch {
    return []
  }
  return entries.flatMap((entry) => {
    const { name } = entry
    const path = join(folder, name)
    if (name === 'node_modules' || name.startsWith('.')) return []
    // A link to a folder is not followed: it may lead round in a circle, or out of the project.
    if (entry.isDirectory()) return walk(path, depth - 1)
    return !name.endsWith('.d.ts') && (entry.isFile() || (entry.isSymbolicLink() && isFile(path))) ? [path] : []
  })
}

/** What a link leads to; nothing where that is gone. */
function isFile(path: string): boolean {
  try {
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** `*`, `?` and `{a,b}` within a name, `**` over folders. */
function matcher(pattern: readonly string[]): (path: readonly string[]) => boolean {
  const names = pattern.map((part) => (part === '**' ? undefined : namePattern(part)))
  const matches = (at: number, path: readonly string[]): boolean => {
    if (at === names.length) return path.length === 0
    const name = names[at]
    if (name === undefined) return matches(at + 1, path) || (path.length > 0 && matches(at, path.slice(1)))
    return path.length > 0 && name.test(path[0] as string) && matches(at + 1, path.slice(1))
  }
  return (path) => matches(0, path)
}

function namePattern(part: string): RegExp {
  const source = part
    .replace(/[.+^$()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '[^/]*')
    .replace(/\?/g, '[^/]')
    .replace(/\{([^}]*)\}/g, (_, inside: string) => `(?:${inside.split(',').join('|')})`)
  return new RegExp(`^${source}$`)
}
