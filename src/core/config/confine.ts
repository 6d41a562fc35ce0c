/**
 * From where modules may come that a file or the environment names: the project, or installed packages.
 *
 * Room: core, configuration. A file of settings must not reach code outside of the project it belongs to; whoever gives the
 * command, or writes code, may. What decides is who said the value, at whichever key it stands, and where the file really is.
 */
import { existsSync, realpathSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { ConfigError } from '../errors.js'
import { parsePath } from './assignments.js'
import { isBranch, type Origin, type Path, type Tree } from './tree.js'

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

/** By where both really are: a link inside of a folder may lead out of it, and a folder may be reached by a link. */
export function isWithin(path: string, folders: readonly string[]): boolean {
  const real = realOf(path)
  return folders.some((folder) => {
    const way = relative(realOf(folder), real)
    return way !== '..' && !way.startsWith(`..${sep}`)
  })
}

/** What is not there has no other place than its name says. */
function realOf(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return resolve(path)
  }
}

/** Says of each value of a configuration who said it, and which files it may name. */
export class Confinement {
  readonly #tree: Tree
  readonly #confines: Confines

  constructor(tree: Tree, confines: Confines) {
    this.#tree = tree
    this.#confines = confines
  }

  /**
   * The file or variable that a value was read from.
   *
   * @param place - Its key, as errors name it: `listeners.public.executor`, `plugins[0]`.
   * @param value - What was found there, where the place holds more than it. Left out: all of the place.
   * @returns undefined when code or the command line said it.
   */
  dataOrigin(place: string, value?: unknown): Origin | undefined {
    const path = this.#pathOf(place)
    if (path === undefined) return undefined
    const origins = [...this.#originsBelow(path, value)]
    if (origins.length === 0 && value !== undefined) origins.push(...this.#originsBelow(path, undefined))
    return origins.find(isData)
  }

  /** @throws {ConfigError} `BAD_VALUE` for a file that data names and that lies, or leads, outside of the project. */
  admit(file: string, place: string, reference: string = file): void {
    const origin = this.dataOrigin(place, reference)
    if (origin === undefined) return
    const isVariable = origin.kind === 'environment'
    const folders = foldersOf(isVariable ? { ...this.#confines, file: undefined } : this.#confines)
    if (!isWithin(file, folders)) throw outside(place, file, folders, origin.name)
  }

  /** What the configuration has at that place; a listener's value may be the one that stands at the top for all. */
  #pathOf(place: string): Path | undefined {
    let path: Path
    try {
      path = parsePath(place, { kind: 'code', name: 'code' })
    } catch {
      // No key of the configuration, such as `handler Greeter, executor`: code said it.
      return undefined
    }
    const [group, name, ...key] = path
    if (group !== 'listeners' || key.length === 0) return path
    // A listener that was added at run time is not there: code said all of it.
    const isKnown = this.#has([group, name as string]) || (name === 'default' && !this.#has([group]))
    return this.#has(path.slice(0, 3)) ? path : isKnown ? key : undefined
  }

  #has(path: Path): boolean {
    return this.#tree.get(path) !== undefined
  }

  /** Of every leaf below, or of what the place is a part of: a list is said as a whole. */
  *#originsBelow(path: Path, value: unknown): Iterable<Origin> {
    const found = this.#tree.get(path)
    if (isBranch(found)) {
      for (const key of Object.keys(found)) yield* this.#originsBelow([...path, key], value)
      return
    }
    if (value !== undefined && typeof found === 'string' && !isSame(found, value)) return
    const origin = this.#tree.origin(path)
    if (origin !== undefined) yield origin
  }
}

/** `./file.js#export` names the file too. */
function isSame(found: string, value: unknown): boolean {
  return found === value || found.split('#')[0] === value
}

function isData({ kind }: Origin): boolean {
  return kind === 'file' || kind === 'import' || kind === 'environment'
}

export function outside(
  where: string,
  file: string,
  folders: readonly string[],
  origin: string | undefined,
): ConfigError {
  const from = origin === undefined ? '' : ` (${origin})`
  const real = realOf(file)
  const led = real === resolve(file) ? '' : `, by a link to ${real}`
  return new ConfigError(
    'BAD_VALUE',
    `${where}: ${file} is outside of the project ${folders[0]}${led}, and a file or variable may name modules of the project and installed packages alone; move it, install it as a package, or start with --modules-from ${dirname(real)}${from}`,
    { path: where, file, place: where, origin },
  )
}
