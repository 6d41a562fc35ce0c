/**
 * Configuration files: found by cosmiconfig, or named; their imports beneath them.
 *
 * Room: core, configuration; the only importer of cosmiconfig.
 */
import { existsSync } from 'node:fs'
import { basename, dirname, isAbsolute, resolve } from 'node:path'
import { ConfigError, GaidarosError, toError } from '../errors.js'
import { foldersOf, isWithin, outside, projectOf } from './confine.js'
import { loadModule } from './load-module.js'
import { anchorPaths } from './paths.js'
import { plainText, refuseRepeatedKeys } from './text.js'
import { type Branch, isBranch, refuseOdd, type Tree } from './tree.js'

const name = 'gaidaros'
const endings = ['', '.json', '.yaml', '.yml', '.js', '.ts', '.mjs', '.cjs']
const rcs = endings.map((ending) => `.${name}rc${ending}`)
const configs = ['.js', '.ts', '.mjs', '.cjs', '.json'].map((ending) => `${name}.config${ending}`)
const searchPlaces = [
  'package.json',
  ...rcs,
  // In the folder `.config` with and without the dot: there the folder hides the file already.
  ...endings.map((ending) => `.config/${name}rc${ending}`),
  ...rcs.map((file) => `.config/${file}`),
  ...configs,
  ...configs.map((file) => `.config/${file}`),
]

interface Found {
  readonly path: string
  readonly content: unknown
}

/**
 * Merges the configuration file, if there is one, into the tree; what it imports first.
 *
 * @param config - A path, or true to search from `cwd` up to the package's root.
 * @returns its path.
 */
export async function mergeFiles(
  tree: Tree,
  config: string | boolean,
  cwd: string,
  modulesFrom: readonly string[],
): Promise<string | undefined> {
  if (config === false) return undefined
  const found = typeof config === 'string' ? await read(resolve(cwd, config)) : await search(cwd)
  if (found === undefined) return undefined
  const files: File[] = []
  await collect(files, found, [], foldersOf({ file: found.path, cwd, modulesFrom }))
  for (const { path, own } of files.reverse()) {
    tree.merge(anchorPaths(own, dirname(path)), { kind: path === found.path ? 'file' : 'import', name: path })
  }
  return found.path
}

interface File {
  readonly path: string
  readonly own: Branch
}

/**
 * The files, from the one on top down to what lies beneath all. One that several import is read once, and stands where the
 * last of them puts it: there it would have covered what it said before.
 */
async function collect(
  files: File[],
  { path, content }: Found,
  chain: readonly string[],
  /** Where code may come from. */
  folders: readonly string[],
): Promise<void> {
  if (content === undefined) return
  refuseOdd(content, path)
  const { [IMPORTS]: imports, $schema: _, ...own } = content as Branch & { [IMPORTS]?: unknown }
  files.push({ path, own })
  const listed = imports === undefined ? [] : Array.isArray(imports) ? imports : [imports]
  for (const one of listed.toReversed()) {
    if (typeof one !== 'string')
      throw new ConfigError('BAD_VALUE', `$import: expected a path or a list of paths (${path})`, { path })
    const file = resolve(dirname(path), one)
    if (isCode.test(file) && !isWithin(file, folders)) throw outside('$import', file, folders, path)
    const way = [...chain, path]
    if (way.includes(file))
      throw new ConfigError('BAD_VALUE', `$import goes round in a circle: ${[...way, file].join(' → ')}`, {
        chain: way,
      })
    if (!files.some((one) => one.path === file)) await collect(files, await read(file), way, folders)
  }
}

/** Where the imports of a file stand once it is loaded: cosmiconfig's own merge forgets where a value came from. */
const IMPORTS = Symbol('imports')

const isCode = /\.[cm]?[jt]s$/

type Loader = (path: string, content: string) => unknown

async function explorer(searchStrategy: 'project' | 'none' = 'none') {
  const { cosmiconfig, defaultLoaders } = await import('cosmiconfig')
  const byEnding: Record<string, Loader> = { ...defaultLoaders }
  for (const ending of ['.js', '.mjs', '.cjs', '.ts']) byEnding[ending] = loadCode
  const loaders = Object.fromEntries(
    Object.entries(byEnding).map(([ending, load]) => {
      const own: Loader = async (path, content) => {
        const text = plainText(path, content)
        const loaded = await load(path, text)
        const isPackage = basename(path) === 'package.json'
        if (ending === '.json' && !isPackage) refuseRepeatedKeys(path, text)
        // An empty document of YAML is null too, and no mistake.
        if (loaded === null && /null|~/.test(text)) refuseOdd(loaded, path)
        return isPackage && isBranch(loaded) ? { [name]: await hideImports(loaded[name]) } : hideImports(loaded)
      }
      return [ending, own]
    }),
  )
  return cosmiconfig(name, { searchPlaces, loaders, searchStrategy, cache: false })
}

async function hideImports(loaded: unknown): Promise<unknown> {
  const content = typeof loaded === 'function' ? await loaded() : loaded
  if (!isBranch(content) || !Object.hasOwn(content, '$import')) return content
  const { $import: imports, ...own } = content
  return { ...own, [IMPORTS]: imports }
}

async function loadCode(path: string): Promise<unknown> {
  const module = await loadModule(path)
  const { default: exported } = module
  // CommonJS through import() may stand one default deeper.
  return isBranch(exported) && 'default' in exported && Object.keys(exported).length <= 2
    ? exported.default
    : (exported ?? module)
}

async function search(cwd: string): Promise<Found | undefined> {
  try {
    // Outside of any project nothing above is ours: it might be anybody's, as in /tmp.
    const strategy = projectOf(cwd) === undefined ? 'none' : 'project'
    const result = await (await explorer(strategy)).search(cwd)
    if (result === null || result.isEmpty) return undefined
    return { path: result.filepath, content: result.config }
  } catch (error) {
    throw unreadable(error, cwd)
  }
}

async function read(path: string): Promise<Found> {
  if (!isAbsolute(path) || !existsSync(path))
    throw new ConfigError('NOT_FOUND', `there is no configuration file ${path}`, { path })
  try {
    const result = await (await explorer()).load(path)
    return { path, content: result?.isEmpty ? {} : result?.config }
  } catch (error) {
    throw unreadable(error, path)
  }
}

function unreadable(thrown: unknown, path: string): Error {
  if (thrown instanceof GaidarosError) return thrown
  const cause = toError(thrown)
  return new ConfigError('UNREADABLE', `${path}: the configuration does not parse: ${cause.message}`, { path, cause })
}
