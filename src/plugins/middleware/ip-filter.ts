/**
 * `ip-filter`: who may connect, by address and network.
 *
 * Room: plugins/middleware. `deny` wins over `allow`; with an `allow` list everybody else stays out. IPv4-mapped IPv6
 * addresses are the IPv4 addresses they stand for. Node's BlockList does the arithmetic.
 */
import { BlockList, isIP } from 'node:net'
import { ConfigError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { addressOf } from './source-of.js'

export interface IpFilterOptions {
  allow?: readonly string[]
  deny?: readonly string[]
  unknown: 'allow' | 'refuse'
}

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
    if (allow === undefined && deny === undefined)
      throw new ConfigError('BAD_VALUE', 'ip-filter: expected `allow` or `deny`, got neither')
    const allowed = allow === undefined ? undefined : listOf(allow, 'allow')
    const denied = listOf(deny ?? [], 'deny')
    const passes = (address: string | undefined): boolean => {
      if (address === undefined) return unknown === 'allow'
      const bare = address.split('%')[0] as string
      const family = isIP(bare) === 6 ? 'ipv6' : 'ipv4'
      if (denied.check(bare, family)) return false
      return allowed === undefined || allowed.check(bare, family)
    }
    return {
      name: 'ip-filter',
      // Not calling next() refuses.
      connection: (context, next) => (passes(addressOf(context.connection)) ? next() : undefined),
    }
  },
}

/** @throws {ConfigError} `BAD_VALUE` naming the entry. */
function listOf(entries: readonly string[], key: string): BlockList {
  const list = new BlockList()
  for (const entry of entries) {
    const [given = '', prefix] = String(entry).split('/')
    const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(given)
    const address = mapped?.[1] ?? given
    const family = isIP(address)
    const bits = prefix === undefined ? undefined : Number(prefix) - (mapped === null ? 0 : 96)
    const most = family === 6 ? 128 : 32
    if (family === 0 || (bits !== undefined && !(/^\d{1,3}$/.test(prefix as string) && bits >= 0 && bits <= most))) {
      throw new ConfigError(
        'BAD_VALUE',
        `ip-filter.${key}: \`${entry}\` is no address or network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32`,
      )
    }
    const type = family === 6 ? 'ipv6' : 'ipv4'
    if (bits === undefined) list.addAddress(address, type)
    else list.addSubnet(address, bits, type)
  }
  return list
}
