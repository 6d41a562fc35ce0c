/**
 * Addresses and networks: who is in a list of them.
 *
 * Room: core, mechanism. Node's BlockList does the arithmetic; it knows no hosts and no sockets, and is all that core takes
 * from `node:net`. IPv4-mapped IPv6 addresses are the IPv4 addresses they stand for.
 */
import { BlockList, isIP } from 'node:net'
import { ConfigError } from './errors.js'

export function isAddress(text: string): boolean {
  return isIP(text) !== 0
}

/** A list for each family, because Node's reads `::/0` as every IPv4 address too. */
export class Networks {
  readonly #ipv4 = new BlockList()
  readonly #ipv6 = new BlockList()

  /**
   * @throws {ConfigError} `BAD_VALUE` naming the entry.
   * @param key - Where the list stands, for errors.
   */
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
        `${key}: \`${entry}\` is no address or network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32`,
        { value: entry },
      )
    }
    if (family === 6) this.#ipv6.addSubnet(address, bits, 'ipv6')
    else this.#ipv4.addSubnet(address, bits, 'ipv4')
  }
}

/**
 * An address without its zone (`fe80::1%eth0`), and an IPv4-mapped one, in whichever spelling, as the IPv4 it stands for
 * (RFC 4291, section 2.5.5.2).
 */
export function plainAddress(address: string): string {
  if (!address.includes(':')) return address
  const zone = address.indexOf('%')
  const bare = zone < 0 ? address : address.slice(0, zone)
  // Every mapped address says ffff; most others need not be taken apart.
  if (!/ffff/i.test(bare)) return bare
  const groups = groupsOf(bare)
  const isMapped = groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0)
  if (!isMapped) return bare
  const [high, low] = [groups[6] as number, groups[7] as number]
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}

/**
 * What counts as one source: an IPv4 address, or the network of an IPv6 one, because one customer is given a whole network
 * of 2^64 addresses (RFC 6177, section 2).
 *
 * @param ipv6Prefix - Bits of an IPv6 address that are kept.
 */
export function networkOf(address: string, ipv6Prefix: number): string {
  const plain = plainAddress(address)
  if (!plain.includes(':')) return plain
  let bits = ipv6Prefix
  const kept = groupsOf(plain).map((group) => {
    const take = Math.max(0, Math.min(16, bits))
    bits -= 16
    return (group & (0xffff << (16 - take)) & 0xffff).toString(16)
  })
  return `${kept.join(':')}/${ipv6Prefix}`
}

/** The eight groups of an IPv6 address, whose tail may be written as IPv4 (`64:ff9b::192.0.2.1`). */
export function groupsOf(address: string): number[] {
  const [head = '', tail] = address.split('::')
  const before = groupsOfPart(head)
  const after = tail === undefined ? [] : groupsOfPart(tail)
  return [...before, ...new Array<number>(Math.max(0, 8 - before.length - after.length)).fill(0), ...after]
}

function groupsOfPart(part: string): number[] {
  if (part === '') return []
  return part.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [(a << 8) | b, (c << 8) | d]
  })
}
