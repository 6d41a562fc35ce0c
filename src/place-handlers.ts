/**
 * The handlers of another place: found by name, and put together as at the server's own door.
 */
import { systemClock } from './core/clock.js'
import { loadHandler } from './core/config/handlers.js'
import { loadModule } from './core/config/index.js'
import type { HookOptions } from './core/configuration.js'
import { ServerContainer } from './core/container.js'
import { definitionOf, toDefinition } from './core/decorators.js'
import { WiringError } from './core/errors.js'
import { EventHub } from './core/events.js'
import type { HandlerPlan } from './core/handler.js'
import { evalHandler, hooksHandler } from './core/hooks.js'
import type { HandlerSource } from './core/places/handler-source.js'
import type { PlaceSeed } from './core/places/seed.js'
import { ServerRegistry } from './core/registry.js'
import { CLOCK, CONFIGURATION, EVENTS, REGISTRY } from './core/tokens.js'

export function openHandlers() {
  const events = new EventHub()
  let seed: PlaceSeed = { directory: process.cwd(), values: {} }
  let modules: Promise<unknown> = Promise.resolve()
  let injection: ServerContainer | undefined
  /** Made with the first handler, when it is known what they stand on. */
  const container = (): ServerContainer => {
    injection ??= new ServerContainer({
      failed: (name, error) => process.emitWarning(`disposal of ${name} failed: ${error.message}`, 'GaidarosWarning'),
      values: new Map<unknown, unknown>([
        [CLOCK, systemClock],
        [EVENTS, events],
        [REGISTRY, new ServerRegistry({ events, clock: systemClock })],
        [CONFIGURATION, seed.values],
      ]),
    })
    return injection
  }
  return {
    setUp(given: PlaceSeed): void {
      seed = given
      // Plugins may register what handlers ask for, by being loaded.
      const named = (given.values.plugins ?? []).map((one) => (Array.isArray(one) ? one[0] : one))
      modules = Promise.all(
        named.filter((one) => typeof one === 'string').map((one) => loadModule(one, given.directory)),
      )
      modules.catch(() => {})
    },

    async load(source: HandlerSource): Promise<HandlerPlan> {
      await modules
      const definition = await find(source, seed.directory)
      const plan = container().plan(definition)
      await plan.prepare?.()
      return plan
    },

    async dispose(): Promise<void> {
      await injection?.dispose()
    },
  }
}

async function find(source: HandlerSource, directory: string) {
  if ('eval' in source) return evalHandler(source.eval)
  if ('hooks' in source) return (await hooksHandler(source.hooks as HookOptions, { load: loadModule })).definition
  const found = await loadHandler(source, directory, { definitionOf })
  if (found === undefined) {
    throw new WiringError('BAD_HANDLER', `${source.reference}: there is no handler ${source.name ?? ''} here`)
  }
  return toDefinition(found)
}
