/**
 * Reads a configuration: defaults < imported files < file < environment < flags < code.
 *
 * Room: core, configuration. Where each value came from is kept, for errors, `gaidaros config` and `explain`.
 */
import type { Configuration, ListenerOptions } from '../configuration.js'
import { defaultDrain, defaultLimits, defaultServerLimits, defaultTimeouts } from '../options.js'
import { Secrets } from '../secrets.js'
import { type Assignment, fromEnvironment, hasSettings, parsePath, readText } from './assignments.js'
import { check, loadShape, placeOf } from './check.js'
import { Confinement } from './confine.js'
import { mergeFiles } from './find.js'
import { type ModuleDoor, moduleDoor } from './modules.js'
import { anchorPaths } from './paths.js'
import { isPlainlyRight } from './quick-check.js'
import { type Branch, isBranch, type Origin, type Path, refuseOdd, Tree } from './tree.js'

export type { Assignment } from './assignments.js'
export { loadModule, loadsNow } from './load-module.js'
export type { ModuleDoor } from './modules.js'
export { atKey, ofListener, withOrigin } from './trace.js'
export type { Origin } from './tree.js'

export interface ConfigurationInput {
  /** Where the search begins, and what relative paths of code, flags and variables are meant from. */
  readonly cwd: string
  /** A file; `false`: none; `true` or left out: searched for up to the package's root. */
  readonly config?: string | boolean
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly flags?: readonly Assignment[]
  readonly code?: Configuration
  /** Folders besides the project from which files and variables may name modules. */
  readonly modulesFrom?: readonly string[]
}

/** Checked; `listen` has become the listener `default`. */
export type Settled = Omit<Configuration, 'listen' | '$import'> & {
  readonly listeners: Readonly<Record<string, ListenerOptions>>
}

export interface Entry {
  readonly path: string
  /** The same, key by key. */
  readonly keys: Path
  readonly value: unknown
  readonly origin: Origin
}

export interface LoadedConfiguration {
  readonly values: Settled
  /** Where a value came from; undefined for what nobody set. */
  origin(path: Path | string): Origin | undefined
  /** Every value in effect, defaults of limits and deadlines included. */
  entries(): Entry[]
  /** The configuration file. */
  readonly file: string | undefined
  readonly directory: string
  /** By which everything is loaded that the configuration names. */
  readonly modules: ModuleDoor
}

const byDefault: Origin = { kind: 'default', name: 'default' }

/** @throws {ConfigError} with every fault on a line of its own. */
export async function loadConfiguration(input: ConfigurationInput): Promise<LoadedConfiguration> {
  const { cwd, config = true, env = {}, flags = [], code = {}, modulesFrom = [] } = input
  const tree = new Tree()
  const file = await mergeFiles(
    tree,
    typeof env.GAIDAROS_CONFIG === 'string' && config === true ? env.GAIDAROS_CONFIG : config,
    cwd,
    modulesFrom,
  )
  if (flags.length > 0 || hasSettings(env)) await mergeSingles(tree, input)
  refuseOdd(code, 'code')
  tree.merge(anchorPaths(code as Branch, cwd), { kind: 'code', name: 'code' })

  joinForms(tree)
  if (!isPlainlyRight(tree.root)) await checkByShape(tree)
  spreadShortForm(tree)
  return {
    values: unlimited(tree.root) as unknown as Settled,
    origin: (path) => tree.origin(typeof path === 'string' ? path.split('.') : path),
    entries: () => entriesOf(tree),
    file,
    directory: cwd,
    modules: moduleDoor(new Confinement(tree, { file, cwd, modulesFrom }), cwd),
  }
}

/** What the configuration's own schema says is secret; options of named things are added by whoever has loaded these. */
export async function ownSecrets(): Promise<Secrets> {
  return new Secrets().add([], (await loadShape()).jsonSchema())
}

async function checkByShape(tree: Tree): Promise<void> {
  check(tree, (await loadShape()).shape as never, await ownSecrets())
}

/** Variables, then flags. */
async function mergeSingles(tree: Tree, { env = {}, flags = [], cwd }: ConfigurationInput): Promise<void> {
  const top = placeOf((await loadShape()).shape as never)
  const names = (path: Path) => {
    const here = tree.get(path)
    return isBranch(here) ? Object.keys(here) : []
  }
  for (const { path, value, origin } of fromEnvironment(env, top, names)) assign(tree, path as Path, value, origin, cwd)
  for (const { path: given, value, origin } of flags) {
    const path = typeof given === 'string' ? parsePath(given, origin) : given
    let place: ReturnType<typeof top.at> = top
    for (const key of path) place = place?.at(key)
    assign(tree, path, typeof value === 'string' ? readText(value, place) : value, origin, cwd)
  }
}

/** A single setting; a place in a list is replaced within a copy of the list. */
function assign(tree: Tree, path: Path, value: unknown, origin: Origin, cwd: string): void {
  const at = path.findIndex((_, i) => Array.isArray(tree.get(path.slice(0, i))))
  if (at > 0) {
    const list = [...(tree.get(path.slice(0, at)) as unknown[])]
    list[Number(path[at])] = value
    tree.set(path.slice(0, at), list, origin)
    return
  }
  const source: Branch = Object.create(null)
  let branch = source
  for (const key of path.slice(0, -1)) branch = branch[key] = Object.create(null) as Branch
  branch[path.at(-1) as string] = value
  refuseOdd(source, origin.name)
  // Through the same anchoring as a file's: `--handler ./greeter.ts`.
  tree.merge(anchorPaths(source, cwd), origin)
}

const order: readonly Origin['kind'][] = ['default', 'import', 'file', 'environment', 'flag', 'code']

/** `listen` beside `listeners.default` without an endpoint: what was said of the listener in two places is one listener. */
function joinForms(tree: Tree): void {
  const listener = tree.get(['listeners', 'default'])
  if (tree.root.listen === undefined || !isBranch(listener) || listener.endpoint !== undefined) return
  tree.set(['listeners', 'default', 'endpoint'], tree.root.listen, tree.origin(['listen']) ?? byDefault)
}

/** `listen` is the endpoint of the listener `default`. */
function spreadShortForm(tree: Tree): void {
  const { listen } = tree.root
  if (listen === undefined) return
  const origin = tree.origin(['listen']) ?? byDefault
  const other = tree.origin(['listeners', 'default', 'endpoint'])
  if (other === undefined || order.indexOf(origin.kind) >= order.indexOf(other.kind))
    tree.set(['listeners', 'default', 'endpoint'], listen, origin)
  delete tree.root.listen
}

/** The word as the number it means. */
function unlimited(value: Branch): Branch {
  const result: Branch = {}
  for (const [key, one] of Object.entries(value)) {
    if (isBranch(one, key))
      result[key] =
        key === 'listeners' || key === 'limits' || key === 'timeouts' || isListener(value, key)
          ? unlimited(one)
          : plain(one)
    else result[key] = one === 'unlimited' ? Number.POSITIVE_INFINITY : one
  }
  return result
}

function isListener(parent: Branch, key: string): boolean {
  return isBranch(parent[key]) && 'endpoint' in (parent[key] as Branch)
}

/** With a prototype again: options go to schemas of any library. */
function plain(value: Branch): Branch {
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, isBranch(one, key) ? plain(one) : one]))
}

function entriesOf(tree: Tree): Entry[] {
  const entries = new Map<string, Entry>()
  const add = (path: Path, value: unknown, origin: Origin) => {
    const name = path.map((key) => (/[.[\]"]/.test(key) ? `"${key}"` : key)).join('.')
    entries.set(name, { path: name, keys: path, value, origin })
  }
  const tables = {
    limits: { ...defaultLimits, ...defaultServerLimits },
    timeouts: defaultTimeouts,
    drain: defaultDrain,
  }
  for (const [group, table] of Object.entries(tables)) {
    for (const [key, value] of Object.entries(table)) {
      if (value === undefined) continue
      add([group, key], value === Number.POSITIVE_INFINITY ? 'unlimited' : value, byDefault)
    }
  }
  const walk = (branch: Branch, path: Path) => {
    for (const [key, value] of Object.entries(branch)) {
      const at = [...path, key]
      if (isBranch(value, key)) walk(value, at)
      else add(at, value, tree.origin(at) ?? byDefault)
    }
  }
  walk(tree.root, [])
  return [...entries.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
}
