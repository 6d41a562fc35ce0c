/**
 * Which settings of a configuration are secret, options of the things that it names included.
 *
 * Room: the door. It loads the things that are named, to ask their schemas, and makes none of them.
 */
import { registerBuiltIns } from './built-ins.js'
import { systemClock } from './core/clock.js'
import { type LoadedConfiguration, ownSecrets } from './core/config/index.js'
import { EventHub } from './core/events.js'
import { type NamedKind, ServerRegistry } from './core/registry.js'
import type { Secrets } from './core/secrets.js'
import { plug } from './gaidaros.js'

type Shared = Readonly<Record<string, unknown>>

/** A plugin that takes longer to load is left out: names alone say what is secret among its options. */
const PLUGIN_MS = 5_000
const kinds: readonly NamedKind[] = ['codec', 'protocol', 'layers', 'middleware', 'executor']

/** Never rejects for what a plugin does: a configuration can be looked at while its plugins are broken. */
export async function secretsOf({ values, modules }: LoadedConfiguration): Promise<Secrets> {
  const secrets = await ownSecrets()
  const registry = registerBuiltIns(new ServerRegistry({ events: new EventHub(), clock: systemClock }))
  for (const [index, entry] of (values.plugins ?? []).entries()) {
    const place = `plugins[${index}]`
    const plugged = plug(registry, entry, place, modules, (schema) => secrets.add(['plugins', `${index}`, '1'], schema))
    await Promise.race([plugged.catch(() => {}), after(PLUGIN_MS)])
  }
  const shared: [at: readonly string[], options: Shared][] = [
    [[], values as unknown as Shared],
    [['node'], (values.node ?? {}) as Shared],
    ...Object.entries(values.listeners ?? {}).map(([name, options]): [string[], Shared] => [
      ['listeners', name],
      options as unknown as Shared,
    ]),
  ]
  for (const [at, options] of shared) {
    for (const kind of kinds) {
      const isList = Array.isArray(options[kind])
      for (const [index, ref] of (isList ? (options[kind] as unknown[]) : [options[kind]]).entries()) {
        const path = isList ? [...at, kind, `${index}`] : [...at, kind]
        for (const [below, schema] of await registry.schemasOf(kind, ref)) secrets.add([...path, ...below], schema)
      }
    }
  }
  for (const [, schema] of await registry.schemasOf('executor', { type: 'cluster' })) secrets.add(['cluster'], schema)
  return secrets
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref())
}
