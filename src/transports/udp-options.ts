/**
 * What the `socket` key of a UDP listener may hold.
 *
 * Room: transports. Checked before anything is bound; the rows also make the documentation.
 */
import { isIP } from 'node:net'
import { nearest } from '../core/nearest.js'
import { type OptionSchema, optionSchema } from '../core/option-schema.js'
import { type MulticastOptions, type SocketOptions, socketRows } from '../core/options.js'
import { misfitOfSessionKey, type SessionKey, type SessionKeyBytes } from './udp-session-key.js'

export type UdpOptions = {
  refusePorts?: readonly number[]
  sessionKey?: SessionKey | SessionKeyBytes
  sendRate?: number
  watchDrops?: boolean
} & Partial<Pick<SocketOptions, 'ipv6Only' | 'reusePort' | 'receiveBuffer' | 'sendBuffer' | 'broadcast' | 'multicast'>>

/** Asked for, in bytes; the kernel cuts it to `net.core.rmem_max` without a word (socket(7)). */
export const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024

/** echo, daytime, qotd, chargen, time, domain (IANA): forged as a source, each makes a loop. */
export const REFUSED_PORTS: readonly number[] = [7, 13, 17, 19, 37, 53]

const MOST_BUFFER_BYTES = 2 ** 31 - 1

export const udpOptions: OptionSchema<UdpOptions> = optionSchema<UdpOptions>({
  ipv6Only: { unit: 'switch', why: socketRows.ipv6Only.why, default: false },
  reusePort: { unit: 'switch', why: socketRows.reusePort.why, default: false },
  receiveBuffer: {
    unit: 'bytes',
    why: socketRows.receiveBuffer.why,
    default: RECEIVE_BUFFER_BYTES,
    min: 1,
    max: MOST_BUFFER_BYTES,
  },
  sendBuffer: { unit: 'bytes', why: socketRows.sendBuffer.why, min: 1, max: MOST_BUFFER_BYTES },
  broadcast: { unit: 'switch', why: socketRows.broadcast.why, default: false },
  multicast: { unit: 'any', why: socketRows.multicast.why, check: misfitOfMulticast },
  sessionKey: {
    unit: 'any',
    why: 'Tells peers apart by content: `{ offset, length }` of the bytes that are a connection identifier, or in code a function of (datagram, address, port); undefined: by address. A peer that is heard from another address keeps its connection, and is answered there, so keys have to be unguessable.',
    check: misfitOfSessionKey,
  },
  sendRate: {
    unit: 'bytes',
    min: 1,
    unlimited: true,
    default: Number.POSITIVE_INFINITY,
    why: 'Most bytes a second that are sent, all peers together, spread over time: bursts are dropped by queues on the way. What waits counts as buffered.',
  },
  watchDrops: {
    unit: 'switch',
    default: true,
    why: 'Linux: look once a second, while there are peers, at what the kernel dropped because the receive buffer was full (/proc/net/udp); counted as `lost.kernel`.',
  },
  refusePorts: {
    unit: 'list',
    default: REFUSED_PORTS,
    why: 'Datagrams from these source ports make no peer: services that answer anything (echo, chargen, DNS) would answer our answers without end.',
    check: (value) =>
      (value as unknown[]).every(
        (port) => Number.isInteger(port) && (port as number) >= 0 && (port as number) <= 65_535,
      )
        ? undefined
        : 'expected ports, 0 to 65535',
  },
})

const multicastKeys = ['groups', 'ttl', 'loopback', 'interface'] as const satisfies (keyof MulticastOptions)[]
const groupKeys = ['group', 'interface', 'source'] as const

function misfitOfMulticast(value: unknown): string | undefined {
  if (!isObject(value)) return `an object of ${multicastKeys.join(', ')}`
  const unknown = unknownKey(value, multicastKeys)
  if (unknown !== undefined) return unknown
  const { groups, ttl, loopback, interface: outgoing } = value
  if (ttl !== undefined && !(Number.isInteger(ttl) && (ttl as number) >= 0 && (ttl as number) <= 255)) {
    return 'ttl to be a whole number from 0 to 255'
  }
  if (loopback !== undefined && typeof loopback !== 'boolean') return 'loopback to be true or false'
  if (outgoing !== undefined && !isAddress(outgoing)) return 'interface to be the address of one of its own'
  if (groups === undefined) return undefined
  if (!Array.isArray(groups)) return 'groups to be a list'
  for (const entry of groups) {
    const problem = misfitOfGroup(entry)
    if (problem !== undefined) return problem
  }
  return undefined
}

function misfitOfGroup(entry: unknown): string | undefined {
  const example = 'each group to be a multicast address such as "239.1.2.3" or "ff02::1234"'
  if (typeof entry === 'string') return isMulticast(entry) ? undefined : example
  if (!isObject(entry)) return `${example}, or { group, interface?, source? }`
  const unknown = unknownKey(entry, groupKeys)
  if (unknown !== undefined) return unknown
  if (!isMulticast(entry.group)) return example
  if (entry.interface !== undefined && !isAddress(entry.interface)) return "a group's interface to be an address of it"
  if (entry.source !== undefined && !isAddress(entry.source)) return "a group's source to be an address"
  return undefined
}

function unknownKey(value: Record<string, unknown>, known: readonly string[]): string | undefined {
  const key = Object.keys(value).find((name) => !known.includes(name))
  if (key === undefined) return undefined
  const near = nearest(key, known)
  return `keys of ${known.join(', ')} (\`${key}\` is none${near ? `; nearest: \`${near}\`` : ''})`
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isAddress = (value: unknown): value is string => typeof value === 'string' && isIP(value) !== 0

/** 224.0.0.0/4 (RFC 5771) or ff00::/8 (RFC 4291, section 2.7). */
export function isMulticast(value: unknown): value is string {
  if (!isAddress(value)) return false
  if (value.includes(':')) return /^ff[0-9a-f]{2}:/i.test(value)
  const first = Number(value.slice(0, value.indexOf('.')))
  return first >= 224 && first <= 239
}
