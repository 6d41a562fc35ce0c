/**
 * `init`: writes a small project that runs, or a transport with its conformance test.
 *
 * Room: the command line. Nothing that exists is overwritten.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { ConfigError } from '../core/errors.js'
import type { Arguments } from './arguments.js'
import { projectFiles, transportFiles } from './templates.js'

export function init({ operands, flags }: Arguments): number {
  const isTransport = operands[0] === 'transport'
  const [folderName = '.', ...more] = isTransport ? operands.slice(1) : operands
  if (more.length > 0) throw new ConfigError('BAD_USAGE', `init: one folder is enough, got ${operands.join(' ')}`)
  const folder = resolve(folderName)
  const name = typeof flags.name === 'string' ? flags.name : basename(folder)
  // What npm takes for a name (docs.npmjs.com, package.json, name), without a scope; a transport's is a scheme as well.
  const pattern = isTransport ? /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/ : /^[a-z0-9](?:[a-z0-9._-]{0,212}[a-z0-9])?$/
  if (!pattern.test(name)) {
    const between = isTransport ? 'dashes' : '`-`, `_` or `.`'
    throw new ConfigError(
      'BAD_USAGE',
      `init: \`${name}\` is no name for a package: lower case letters and digits, with ${between} between them; choose one with --name`,
    )
  }
  const files = isTransport ? transportFiles(name) : projectFiles(name)
  const present = Object.keys(files).filter((file) => existsSync(join(folder, file)))
  if (present.length > 0) {
    throw new ConfigError(
      'BAD_USAGE',
      `init: these exist already in ${folder} and are left alone: ${present.join(', ')}; nothing was written`,
    )
  }
  for (const [file, text] of Object.entries(files)) {
    const path = join(folder, file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text, { flag: 'wx' })
    process.stdout.write(`wrote ${relative(process.cwd(), path)}\n`)
  }
  const enter = folder === process.cwd() ? '' : `cd ${relative(process.cwd(), folder)} && `
  process.stdout.write(`\nnext: ${enter}npm install && npm ${isTransport ? 'test' : 'start'}\n`)
  return 0
}
