/**
 * `ip-filter`: who may connect, by address and network.
 *
 * Room: plugins/middleware. `deny` wins over `allow`; with an `allow` list everybody else stays out. IPv4-mapped IPv6
 * addresses are the IPv4 addresses they stand for. Node's BlockList does the arithmetic; it knows no hosts and no sockets.
 */
import { BlockList, isIP } from 'node:net'
import { ConfigError, ConnectionError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { addressOf, plainAddress } from './source-of.js'

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
      why: 'Peers without an address: Unix sockets, memory.',
    },
  }),
  create({ allow, deny, unknown }) {
    if (allow === undefined && deny === undefined) {
      throw new ConfigError('BAD_VALUE', 'ip-filter: expected `allow` or `deny`, got neither')
    }
    const allowed = allow === undefined ? undefined : new Networks(allow, 'allow')
    const denied = new Networks(deny ?? [], 'deny')
    const passes = (address: string | undefined): boolean => {
      if (address === undefined || isIP(address) === 0) return unknown === 'allow'
      if (denied.has(address)) return false
      return allowed === undefined || allowed.has(address)
    }
    return {
      name: 'ip-filter',
      connection({ connection }, next) {
        const address = addressOf(connection)
        if (passes(address)) return next()
        throw new ConnectionError('REFUSED', `ip-filter does not let ${address ?? 'a peer without an address'} in`, {
          address,
        })
      },
    }
  },
}

/** A list for each family, because Node's reads `::/0` as every IPv4 address too. */
class Networks {
  readonly #ipv4 = new BlockList()
  readonly #ipv6 = new BlockList()

  /** @throws {ConfigError} `BAD_VALUE` naming the entry. */
  constructor(entries: readonly string[], key: string) {
    for (const entry of entries) this.#add(String(entry), key)
  }

  has(address: string): boolean {
    return isIP(address) === 6 ? this.#ipv6.check(address, 'ipv6') : this.#ipv4.check(address, 'ipv4')
  }

  #add(entry: string, key: string): void {
    const [, given = '', prefix] = /^([^/%]*)(?:\/(\d{1,3}))?$/.exec(entry) ?? []
    const written = isIP(given)
    const address = written === 0 ? '' : plainAddress(given)
    const family = isIP(address)
    const most = family === 6 ? 128 : 32
    // The prefix of a mapped network counts the 96 bits that say it is one.
    const bits = prefix === undefined ? most : Number(prefix) - (written === 6 && family === 4 ? 96 : 0)
    if (family === 0 || bits < 0 || bits > most) {
      throw new ConfigError(
        'BAD_VALUE',
        `ip-filter.${key}: \`${entry}\` is no address or network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32`,
        { value: entry },
      )
    }
    if (family === 6) this.#ipv6.addSubnet(address, bits, 'ipv6')
    else this.#ipv4.addSubnet(address, bits, 'ipv4')
  }
}
