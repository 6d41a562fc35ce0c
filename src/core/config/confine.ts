/**
 * From where modules may come that a file or the environment names: the project, or installed packages.
 *
 * Room: core, configuration. A file of settings must not reach code outside of the project it belongs to; whoever gives the
 * command, or writes code, may.
 */
import { existsSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { ConfigError } from '../errors.js'
import { isFileReference } from './load-module.js'
import { isBranch, type Path, type Tree } from './tree.js'

/** The nearest folder above with a `package.json`; undefined where there is none. */
export function projectOf(folder: string): string | undefined {
  for (let at = resolve(folder); ; at = dirname(at)) {
    if (existsSync(join(at, 'package.json'))) return at
    if (dirname(at) === at) return undefined
  }
}

export interface Confines {
  /** The configuration file; undefined: there is none. */
  readonly file: string | undefined
  readonly cwd: string
  /** Further folders, said by whoever gave the command. */
  readonly modulesFrom: readonly string[]
}

/** Where a reference of a file (or, without one, of the environment) may lead. */
export function foldersOf({ file, cwd, modulesFrom }: Confines): readonly string[] {
  const own = file === undefined ? cwd : dirname(file)
  return [projectOf(own) ?? own, ...modulesFrom.map((folder) => resolve(cwd, folder))]
}

export function isWithin(path: string, folders: readonly string[]): boolean {
  return folders.some((folder) => {
    const way = relative(folder, path)
    return way !== '..' && !way.startsWith(`..${sep}`)
  })
}

/** @throws {ConfigError} `BAD_VALUE` for the first module that is named from where it must not be. */
export function confine(tree: Tree, confines: Confines): void {
  for (const [path, reference] of references(tree)) {
    const origin = tree.origin(path)
    const kind = origin?.kind
    if (kind !== 'file' && kind !== 'import' && kind !== 'environment') continue
    const file = reference.split('#')[0] as string
    if (!isFileReference(file)) continue
    const folders = foldersOf(kind === 'environment' ? { ...confines, file: undefined } : confines)
    if (isWithin(resolve(confines.cwd, file), folders)) continue
    throw outside(path.join('.'), file, folders, origin?.name)
  }
}

export function outside(
  where: string,
  file: string,
  folders: readonly string[],
  origin: string | undefined,
): ConfigError {
  const from = origin === undefined ? '' : ` (${origin})`
  return new ConfigError(
    'BAD_VALUE',
    `${where}: ${file} is outside of the project ${folders[0]}, and a file or variable may name modules of the project and installed packages alone; move it, install it as a package, or start with --modules-from ${dirname(file)}${from}`,
    { path: where, file },
  )
}

/** Everything that names a module, and where it stands. */
function* references(tree: Tree): Iterable<[path: Path, reference: string]> {
  const { root } = tree
  for (const key of ['handlers', 'plugins'] as const) {
    for (const one of list(root[key])) {
      const name = Array.isArray(one) ? one[0] : one
      if (typeof name === 'string') yield [[key], name]
    }
  }
  if (isBranch(root.hooks) && typeof root.hooks.module === 'string') yield [['hooks', 'module'], root.hooks.module]
  yield* handlersOf(root, [])
  for (const [name, listener] of Object.entries(isBranch(root.listeners) ? root.listeners : {})) {
    if (isBranch(listener)) yield* handlersOf(listener, ['listeners', name])
  }
}

function* handlersOf(shared: Record<string, unknown>, at: Path): Iterable<[path: Path, reference: string]> {
  if (typeof shared.handler === 'string') yield [[...at, 'handler'], shared.handler]
  for (const one of list(shared.protocol)) {
    if (isBranch(one) && typeof one.handler === 'string') yield [[...at, 'protocol'], one.handler]
  }
}

function list(value: unknown): readonly unknown[] {
  return value === undefined ? [] : Array.isArray(value) ? value : [value]
}
