/** Room: plugins/layers. What is registered at the door, from the wire inwards. */
import type { Factory, Layer } from '../../core/plugin.js'
import { tls } from './tls.js'

export const layers: readonly Factory<Layer, never>[] = [tls] as never
