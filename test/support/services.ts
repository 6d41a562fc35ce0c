/** What a plugin is given when it is made, for plugins that a test makes by itself. */
import { Accounts } from '#src/core/accounts.js'
import type { Clock } from '#src/core/clock.js'
import { EventHub } from '#src/core/events.js'
import type { PluginServices } from '#src/core/plugin.js'
import { SharedTurns } from '#src/core/turns.js'

export function servicesOf(clock: Clock, events = new EventHub()): PluginServices {
  return { clock, events, budget: new Accounts().at(''), turns: new SharedTurns(clock) }
}
