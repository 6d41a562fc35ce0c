/**
 * `ip-filter`: who may connect, by address and network.
 *
 * Room: plugins/middleware. `deny` wins over `allow`; with an `allow` list everybody else stays out. IPv4-mapped IPv6
 * addresses are the IPv4 addresses they stand for.
 */
import { ConfigError, ConnectionError } from '../../core/errors.js'
import { isAddress, Networks } from '../../core/networks.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { addressOf } from './source-of.js'

export interface IpFilterOptions {
  allow?: readonly string[]
  deny?: readonly string[]
  unknown: 'allow' | 'refuse'
}

/**
 * Refuses connections as `REFUSED`, before a byte is read.
 *
 * @throws {ConfigError} `BAD_VALUE` at the start, for an entry that is no address or network, or with neither list.
 */
export const ipFilter: Factory<MiddlewareSet, IpFilterOptions> = {
  name: 'ip-filter',
  options: optionSchema<IpFilterOptions>({
    allow: {
      unit: 'list',
      why: 'Addresses and networks (10.0.0.0/8, 2001:db8::/32) that may connect; left out: everybody.',
    },
    deny: { unit: 'list', why: 'Those that may not, even where `allow` has them.' },
    unknown: {
      unit: 'choice',
      choices: ['allow', 'refuse'],
      default: 'allow',
      why: 'Peers that have no address by nature: Unix sockets, memory. One whose address is not known, where others have one, is refused.',
    },
  }),
  create({ allow, deny, unknown }) {
    if (allow === undefined && deny === undefined) {
      throw new ConfigError('BAD_VALUE', 'ip-filter: expected `allow` or `deny`, got neither')
    }
    const allowed = allow === undefined ? undefined : new Networks(allow, 'ip-filter.allow')
    const denied = new Networks(deny ?? [], 'ip-filter.deny')
    const passes = (address: string | undefined, isAddressed: boolean): boolean => {
      if (address === undefined) return !isAddressed && unknown === 'allow'
      if (!isAddress(address)) return unknown === 'allow'
      if (denied.has(address)) return false
      return allowed === undefined || allowed.has(address)
    }
    return {
      name: 'ip-filter',
      connection({ connection }, next) {
        const address = addressOf(connection)
        if (passes(address, connection.endpoint.host !== undefined)) return next()
        throw new ConnectionError('REFUSED', `ip-filter does not let ${address ?? 'a peer without an address'} in`, {
          address,
        })
      },
    }
  },
}
