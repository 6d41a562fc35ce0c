/**
 * Packages that something named needs, and the loader of TypeScript.
 *
 * Room: the command line.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadModule } from '../../core/config/index.js'
import { toError } from '../../core/errors.js'
import { type Facts, type Finding, findingsOf } from './finding.js'

/** By what names them in a configuration. */
const needed: Readonly<Record<string, string>> = {
  msgpack: 'msgpackr',
  cbor: 'cbor-x',
  mqtt: 'mqtt-packet',
  dns: 'dns-packet',
  coap: 'coap-packet',
  ws: 'ws',
  wss: 'ws',
  cluster: '@nats-io/transport-node',
  'gaidaros/plugins/tracing': '@opentelemetry/api',
  'gaidaros/plugins/logger': 'pino',
}

export function peerPackages({ configuration, hasPackage }: Facts): Finding[] {
  const { ok, error } = findingsOf('packages')
  const values = configuration?.values
  if (values === undefined) return []
  const findings: Finding[] = []
  const present: string[] = []
  const look = (where: string, name: string) => {
    const wanted = Object.hasOwn(needed, name) ? needed[name] : undefined
    if (wanted === undefined) return
    if (hasPackage(wanted)) present.push(wanted)
    else
      findings.push(
        error(
          where,
          `${name} needs the package ${wanted}, which is not installed`,
          'it does not start',
          `npm install ${wanted}`,
        ),
      )
  }
  const lookAt = (
    where: string,
    one: {
      readonly codec?: unknown
      readonly protocol?: unknown
      readonly executor?: unknown
      readonly endpoint?: unknown
    },
  ) => {
    for (const ref of [one.codec, one.protocol, one.executor].flat()) {
      const { name: own, type } = (typeof ref === 'object' && ref !== null ? ref : {}) as Record<string, unknown>
      const name = typeof ref === 'string' ? ref : (own ?? type)
      if (typeof name === 'string') look(where, name)
      const payload = (ref as { payload?: unknown } | undefined)?.payload
      if (typeof payload === 'string') look(where, payload)
    }
    const { executor } = one
    const type = typeof executor === 'string' ? executor : (executor as { type?: unknown } | undefined)?.type
    if (typeof type === 'string') look(where, type)
    for (const endpoint of [one.endpoint].flat()) look(where, String(endpoint ?? '').split(':')[0] as string)
  }
  lookAt('', values)
  for (const [name, one] of Object.entries(values.listeners ?? {})) lookAt(`listeners.${name}`, one)
  for (const plugin of values.plugins ?? []) {
    const name = Array.isArray(plugin) ? plugin[0] : plugin
    if (typeof name === 'string') look('plugins', name)
  }
  if (findings.length > 0 || present.length === 0) return findings
  return [ok(`what is named is installed: ${[...new Set(present)].join(', ')}`)]
}

const fixture = `import { Handler, OnMessage } from 'gaidaros'
class Greeting { constructor(readonly word: string = 'hello') {} }
@Handler({ codec: 'line' })
export class Greeter {
  constructor(private readonly greeting: Greeting) {}
  @OnMessage() greet(name: string): string { return this.greeting.word + name }
}
export { Greeting }
`

/** A decorated class in TypeScript, with what injection needs to know of it. */
export async function loader(): Promise<Finding[]> {
  const { ok, note, error } = findingsOf('loader')
  let folder: string
  try {
    folder = mkdtempSync(join(tmpdir(), 'gaidaros-'))
  } catch (thrown) {
    return [
      note(
        '',
        `the loader was not tried: ${toError(thrown).message}`,
        '',
        'give it a folder for temporary files (TMPDIR)',
      ),
    ]
  }
  const why = 'handlers and configuration in TypeScript cannot be loaded'
  try {
    const file = join(folder, 'greeter.ts')
    writeFileSync(file, fixture)
    const { Greeter, Greeting } = await loadModule(file)
    const read = (Reflect as { getMetadata?(key: string, target: object): unknown }).getMetadata
    const types = read?.('design:paramtypes', Greeter as object) as unknown[] | undefined
    if (types?.[0] === Greeting && Greeting !== undefined)
      return [ok('TypeScript with decorators and their metadata loads')]
    return [
      error(
        '',
        'TypeScript loads without the metadata of its decorators',
        'injection does not work',
        'reinstall gaidaros and jiti',
      ),
    ]
  } catch (thrown) {
    return [
      error(
        '',
        toError(thrown).message,
        why,
        'reinstall gaidaros and jiti; see that no NODE_OPTIONS stands in the way',
      ),
    ]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
