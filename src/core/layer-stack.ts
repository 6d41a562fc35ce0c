/**
 * Layers, stacked: which order makes sense, and the sink that is all of them.
 *
 * Room: core, mechanism. Bytes go through the first layer named first. A listener without layers has none of this.
 */
import { ConfigError, WiringError } from './errors.js'
import type { Layer, LayerScope, LayerStage } from './plugin.js'
import type { Capabilities, LinkSink } from './transport.js'

/** A layer and what it was called. */
export interface PlacedLayer {
  readonly name: string
  readonly layer: Layer
}

const ORDER: readonly LayerStage[] = ['preamble', 'security', 'content']

/**
 * Holds layers against each other and against what is below them.
 *
 * @param place - Where they stand, for errors: `listeners.public.layers`.
 * @returns what the session may expect of its links.
 * @throws {ConfigError} `BAD_VALUE`: two in the wrong order, or one that is there twice.
 * @throws {WiringError} `NEEDS_UNMET`: one that the transport cannot carry.
 */
export function checkStack(
  layers: readonly PlacedLayer[],
  below: Capabilities,
  transport: string,
  place: string,
): Capabilities {
  let upgrade = below.upgrade
  let highest: PlacedLayer | undefined
  layers.forEach((placed, index) => {
    const { name, layer } = placed
    if (below.kind === 'message' && !layer.carriesMessages) {
      const message = `${place}: layer ${name} needs a stream of bytes; transport ${transport} carries messages with bounds`
      throw new WiringError('NEEDS_UNMET', message, { layer: name, transport })
    }
    if (layers.findIndex((other) => other.name === name) < index && layer.stage !== undefined) {
      throw new ConfigError('BAD_VALUE', `${place}: layer ${name} stands there twice`, { layer: name })
    }
    if (layer.requires !== undefined && !upgrade.includes(layer.requires)) {
      const can = upgrade.length > 0 ? `can switch to ${upgrade.join(', ')}` : 'can switch to nothing'
      const what =
        index === 0 ? `transport ${transport}` : `what is below it (${transport}, ${layers[index - 1]?.name})`
      throw new WiringError(
        'NEEDS_UNMET',
        `${place}: layer ${name} needs links that switch to ${layer.requires}; ${what} ${can}`,
        { layer: name, transport },
      )
    }
    if (layer.stage !== undefined) {
      const before = highest?.layer.stage
      if (before !== undefined && ORDER.indexOf(before) > ORDER.indexOf(layer.stage)) {
        const message = `${place}: ${name} (${layer.stage}) has to stand before ${highest?.name} (${before}); from the wire inwards the order is ${ORDER.join(', ')}`
        throw new ConfigError('BAD_VALUE', message, { layer: name })
      }
      highest = placed
    }
    upgrade = layer.upgrade?.(upgrade) ?? upgrade
  })
  return upgrade === below.upgrade ? below : { ...below, upgrade }
}

/** The one sink for what is below all of them. */
export function stack(layers: readonly PlacedLayer[], above: LinkSink, scope: LayerScope): LinkSink {
  return layers.reduceRight((sink, { layer }) => layer.wrap(sink, scope), above)
}
