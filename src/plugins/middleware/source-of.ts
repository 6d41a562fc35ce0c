/**
 * The address by which a peer is counted and judged.
 *
 * Room: plugins/middleware. One peer has one spelling here, however its transport or a proxy in front wrote it.
 */
import type { Connection } from '../../core/connection.js'
import { groupsOf, plainAddress } from '../../core/networks.js'

/** The peer's address without its zone; undefined for peers that have none (Unix sockets, memory). */
export function addressOf(connection: Connection): string | undefined {
  const host = connection.remote?.host
  return host === undefined ? undefined : plainAddress(host)
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
