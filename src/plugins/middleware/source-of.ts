/**
 * The address by which a peer is counted and judged.
 *
 * Room: plugins/middleware. One peer has one spelling here, however its transport or a proxy in front wrote it.
 */
import type { Connection } from '../../core/connection.js'
import { networkOf, plainAddress } from '../../core/networks.js'

/**
 * The peer's address without its zone; undefined for peers that have none by nature (Unix sockets, memory), and for one whose
 * address is not known: that is so where the endpoint of its listener has a host, and nobody trusts it.
 */
export function addressOf(connection: Connection): string | undefined {
  const host = connection.remote?.host
  return host === undefined ? undefined : plainAddress(host)
}

/** The address, or its network where one customer owns a whole one. */
export function sourceOf(connection: Connection, ipv6Prefix: number): string | undefined {
  const host = connection.remote?.host
  return host === undefined ? undefined : networkOf(host, ipv6Prefix)
}
