/**
 * Packages that only some users need: optional peers, loaded when what needs them is named.
 *
 * Room: core, mechanism.
 */
import { createRequire } from 'node:module'
import { toError, WiringError } from './errors.js'

const require = createRequire(import.meta.url)

/**
 * @param who - What needs it, for the error: `codec msgpack`.
 * @throws {WiringError} `BAD_PLUGIN` that says what to install.
 */
export function peerPackage<T>(name: string, who: string): T {
  try {
    return require(name) as T
  } catch (thrown) {
    const cause = toError(thrown)
    const isMissing = (cause as { code?: string }).code === 'MODULE_NOT_FOUND' && cause.message.includes(`'${name}'`)
    const what = isMissing ? `is not installed; run: npm install ${name}` : `could not be loaded: ${cause.message}`
    throw new WiringError('BAD_PLUGIN', `${who} needs the package ${name}, which ${what}`, { package: name, cause })
  }
}
