/**
 * The address by which a peer is counted.
 *
 * Room: plugins/middleware.
 */
import type { Connection } from '../../core/connection.js'

/** IPv4-mapped addresses as the IPv4 they are (RFC 4291, section 2.5.5.2). Undefined for peers without an address. */
export function addressOf(connection: Connection): string | undefined {
  const host = connection.remote?.host
  if (host === undefined) return undefined
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)?.[1] ?? host
}

/** The address, or its network where a household owns a whole one: IPv6 by prefix (RFC 6177: a /64 is one customer). */
export function sourceOf(connection: Connection, ipv6Prefix: number): string | undefined {
  const address = addressOf(connection)
  if (address === undefined || !address.includes(':')) return address
  const groups = expand(address.split('%')[0] as string)
  let bits = ipv6Prefix
  const kept = groups.map((group) => {
    const take = Math.max(0, Math.min(16, bits))
    bits -= 16
    return (group & (0xffff << (16 - take)) & 0xffff).toString(16)
  })
  return `${kept.join(':')}/${ipv6Prefix}`
}

function expand(address: string): number[] {
  const [head = '', tail] = address.split('::')
  const read = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)))
  const before = read(head)
  const after = tail === undefined ? [] : read(tail)
  return [...before, ...new Array<number>(Math.max(0, 8 - before.length - after.length)).fill(0), ...after]
}
