/**
 * `max-per-source`: so many connections at a time from one address.
 *
 * Room: plugins/middleware. IPv6 is counted by network, because one customer owns 2^64 addresses. Peers that have no
 * address by nature (Unix sockets, memory) are not counted; one whose address is not known is refused. Named at the top of a configuration it counts over all listeners together.
 */
import { ConnectionError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { sourceOf } from './source-of.js'

export interface MaxPerSourceOptions {
  max: number
  ipv6Prefix: number
}

/** Refuses connections as `REFUSED`, before a byte is read; those that are open are never touched. */
export const maxPerSource: Factory<MiddlewareSet, MaxPerSourceOptions> = {
  name: 'max-per-source',
  options: optionSchema<MaxPerSourceOptions>({
    max: { unit: 'count', min: 1, required: true, why: 'Connections at a time from one source.' },
    ipv6Prefix: {
      unit: 'count',
      min: 1,
      max: 128,
      default: 64,
      why: 'Bits of an IPv6 address that make a source; 64, because a customer is given at least that many addresses.',
    },
  }),
  create({ max, ipv6Prefix }) {
    // As many entries as there are sources connected: bounded by the connections themselves.
    const counts = new Map<string, number>()
    return {
      name: 'max-per-source',
      connection({ connection }, next) {
        const source = sourceOf(connection, ipv6Prefix)
        if (source === undefined) {
          if (connection.endpoint.host === undefined) return next()
          throw new ConnectionError('REFUSED', 'max-per-source does not let in a peer whose address is not known', {
            max,
          })
        }
        const count = counts.get(source) ?? 0
        if (count >= max) {
          throw new ConnectionError('REFUSED', `${source} has ${count} connections already, ${max} is the most`, {
            source,
            max,
          })
        }
        counts.set(source, count + 1)
        void connection.closed.then(() => {
          const left = (counts.get(source) ?? 1) - 1
          if (left > 0) counts.set(source, left)
          else counts.delete(source)
        })
        return next()
      },
    }
  },
}
