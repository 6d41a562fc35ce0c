/** Room: plugins/protocols. What is registered at the door. */
import type { Factory, Protocol } from '../../core/plugin.js'

export const protocols: readonly Factory<Protocol, never>[] = [] as never
