/**
 * Modules that users name: handlers, plugins, hooks, configuration in TypeScript.
 *
 * Room: core, configuration. TypeScript goes through jiti, which needs no native code and keeps decorator metadata; it is
 * loaded only when there is something for it. Modules get the package that is running, not a second copy of it.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, extname, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { ConfigError, toError } from '../errors.js'
import { nearest } from '../nearest.js'

export type Module = Readonly<Record<string, unknown>>

/** True for what names a file rather than a package. */
export function isFileReference(reference: string): boolean {
  return (
    reference.startsWith('.') ||
    isAbsolute(reference) ||
    (!/^[a-z][a-z0-9+.-]*:/i.test(reference) && (/\.[cm]?[jt]s$/.test(reference) || /[*?{]/.test(reference)))
  )
}

/** Modules that are being loaded, by path or package, and since when (`performance.now()`). */
const loading = new Map<string, number>()

export function loadsNow(): ReadonlyMap<string, number> {
  return loading
}

/**
 * Loads a file or a package.
 *
 * @param from - The folder from which packages are looked up. Default: the process's.
 * @throws {ConfigError} `NOT_FOUND`, `UNREADABLE` with what the module threw; `BAD_VALUE` for what is neither, such as a `data:`
 *   URL, whose text would be run, or a package's name that leads out of the package.
 */
export async function loadModule(reference: string, from = process.cwd()): Promise<Module> {
  if (
    /^[a-z][a-z0-9+.-]*:/i.test(reference) ||
    (!isFileReference(reference) && /(^|[\\/])\.\.([\\/]|$)/.test(reference))
  ) {
    const shown = reference.length > 80 ? `${reference.slice(0, 77)}…` : reference
    throw new ConfigError(
      'BAD_VALUE',
      `\`${shown}\` names no module; expected a file such as ./handlers.ts, or an installed package`,
      {
        reference: shown,
      },
    )
  }
  const isFile = isFileReference(reference)
  const path = isFile ? resolve(from, reference) : undefined
  if (path !== undefined && !existsSync(path)) {
    const near = nearest(basename(path), filesIn(dirname(path)))
    const hint = near === undefined ? '' : `; nearest: \`${near}\``
    throw new ConfigError('NOT_FOUND', `there is no file ${path}${hint}`, { path, ...(near && { nearest: near }) })
  }
  const module = path ?? reference
  if (!loading.has(module)) loading.set(module, performance.now())
  try {
    if (path === undefined) return await importPackage(reference, from)
    return await (/\.[cm]?ts$/.test(extname(path)) ? importTypeScript(path) : import(pathToFileURL(path).href))
  } catch (thrown) {
    if (thrown instanceof ConfigError) throw thrown
    const cause = toError(thrown)
    const code = (cause as { code?: string }).code
    if (
      path === undefined &&
      (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') &&
      cause.message.includes(reference)
    ) {
      throw new ConfigError(
        'NOT_FOUND',
        `there is no package ${reference} to be found from ${from}; is it installed?`,
        { reference, cause },
      )
    }
    if (path === undefined && code === 'ERR_PACKAGE_PATH_NOT_EXPORTED') throw noSuchEntry(reference, cause)
    // A GaidarosError of the module itself (a decorator's, say) speaks for itself.
    if (/^(WiringError)$/.test(cause.name)) throw cause
    const where = cause.stack
      ?.split('\n')
      .find((line) => /^\s+at /.test(line))
      ?.trim()
    throw new ConfigError(
      'UNREADABLE',
      `${path ?? reference} could not be loaded: ${cause.message}${where ? ` (${where})` : ''}`,
      { cause },
    )
  } finally {
    loading.delete(module)
  }
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** A package is there, and has no such part: `gaidaros/plugins/metric`. */
function noSuchEntry(reference: string, cause: Error): ConfigError {
  const own = Object.keys(entriesOf(packageFolder)).filter((entry) => entry.startsWith('gaidaros/plugins/'))
  const known = reference.startsWith('gaidaros/') ? own : []
  const near = nearest(reference, known)
  const names = known.map((entry) => entry.slice('gaidaros/plugins/'.length)).join(', ')
  const hint = near !== undefined ? `; nearest: \`${near}\`` : names === '' ? '' : `; known: ${names}`
  const message = `package ${reference.split('/')[0]} has no part \`${reference}\`${hint}`
  return new ConfigError('NOT_FOUND', message, { reference, cause, ...(near && { nearest: near }) })
}

async function importPackage(name: string, from: string): Promise<Module> {
  let resolved: string | undefined
  try {
    resolved = createRequire(join(from, 'package.json')).resolve(name)
  } catch {
    // Not from there; perhaps from here: our own plugins are named without being installed beside the configuration.
  }
  return resolved === undefined ? import(name) : import(pathToFileURL(resolved).href)
}

let loader: Promise<{ import(path: string): Promise<unknown> }> | undefined

async function importTypeScript(path: string): Promise<Module> {
  loader ??= makeLoader()
  return (await (await loader).import(path)) as Module
}

/** The running copy of this package, whatever lies beside the user's file. */
const packageFolder = fileURLToPath(new URL('../../../', import.meta.url))

/** Every entry point of the package at hand, by the name users import. */
function entriesOf(folder: string): Record<string, string> {
  const { name, exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    name: string
    exports: Record<string, string | { default: string }>
  }
  const entries = Object.entries(exports).map(([path, target]) => [
    path.replace('.', name),
    join(folder, typeof target === 'string' ? target : target.default),
  ])
  return Object.fromEntries(entries)
}

async function makeLoader(): Promise<{ import(path: string): Promise<unknown> }> {
  const { createJiti } = await import('jiti')
  return createJiti(import.meta.url, {
    interopDefault: false,
    fsCache: false,
    alias: entriesOf(packageFolder),
    nativeModules: ['typescript', 'tsyringe', 'reflect-metadata', 'gaidaros'],
  })
}
