/**
 * The address by which a peer is counted and judged.
 *
 * Room: plugins/middleware. One peer has one spelling here, however its transport or a proxy in front wrote it.
 */
import type { Connection } from '../../core/connection.js'

/** The peer's address without its zone; undefined for peers that have none (Unix sockets, memory). */
export function addressOf(connection: Connection): string | undefined {
  const host = connection.remote?.host
  return host === undefined ? undefined : plainAddress(host)
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

/** The address, or its network where one customer owns a whole one: IPv6 by prefix (RFC 6177, section 2). */
export function sourceOf(connection: Connection, ipv6Prefix: number): string | undefined {
  const address = addressOf(connection)
  if (address === undefined || !address.includes(':')) return address
  let bits = ipv6Prefix
  const kept = groupsOf(address).map((group) => {
    const take = Math.max(0, Math.min(16, bits))
    bits -= 16
    return (group & (0xffff << (16 - take)) & 0xffff).toString(16)
  })
  return `${kept.join(':')}/${ipv6Prefix}`
}

/** The eight groups of an IPv6 address, whose tail may be written as IPv4 (`64:ff9b::192.0.2.1`). */
function groupsOf(address: string): number[] {
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
