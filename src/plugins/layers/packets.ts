/**
 * Bytes of a connection as packets of a network that never was: IP, TCP and UDP headers with right checksums.
 *
 * Room: plugins/layers. RFC 791, 8200, 9293, 768, 1071. For the capture file alone.
 */
import { isAddress, plainAddress } from '../../core/networks.js'

export interface Side {
  readonly host: string
  readonly port: number
}

const TCP = 6
const UDP = 17
export const FIN = 1
export const SYN = 2
export const RST = 4
export const PSH = 8
export const ACK = 16
/** Leaves room for headers in a packet's 65,535 bytes. */
export const SEGMENT_BYTES = 65_000

/** @returns an address both sides can be written in: IPv6 if either is one, 127.0.0.1 for what has none. */
export function sidesOf(
  from: { host?: string | undefined; port?: number | undefined } | undefined,
  port: number,
): Side {
  const host = from?.host === undefined ? '127.0.0.1' : plainAddress(from.host.split('%')[0] as string)
  return { host: isAddress(host) ? host : '127.0.0.1', port: from?.port ?? port }
}

export function tcpPacket(
  from: Side,
  to: Side,
  given: { seq: number; ack: number; flags: number },
  payload: Uint8Array,
): Buffer {
  const head = Buffer.alloc(20)
  head.writeUInt16BE(from.port, 0)
  head.writeUInt16BE(to.port, 2)
  head.writeUInt32BE(given.seq >>> 0, 4)
  head.writeUInt32BE(given.ack >>> 0, 8)
  head[12] = 5 << 4
  head[13] = given.flags
  head.writeUInt16BE(0xffff, 14)
  return ipPacket(from, to, TCP, head, 16, payload)
}

export function udpPacket(from: Side, to: Side, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt16BE(from.port, 0)
  head.writeUInt16BE(to.port, 2)
  head.writeUInt16BE(8 + payload.length, 4)
  return ipPacket(from, to, UDP, head, 6, payload)
}

function ipPacket(
  from: Side,
  to: Side,
  protocol: number,
  head: Buffer,
  checksumAt: number,
  payload: Uint8Array,
): Buffer {
  const isSix = from.host.includes(':') || to.host.includes(':')
  const [source, target] = isSix ? [six(from.host), six(to.host)] : [four(from.host), four(to.host)]
  const length = head.length + payload.length
  const pseudo = Buffer.concat([source, target, Buffer.from([0, protocol, length >> 8, length & 255])])
  head.writeUInt16BE(checksum([pseudo, head, payload]) || 0xffff, checksumAt)
  const ip = isSix ? Buffer.alloc(8) : Buffer.alloc(12)
  if (isSix) {
    ip.writeUInt32BE(0x60000000, 0)
    ip.writeUInt16BE(length, 4)
    ip[6] = protocol
    ip[7] = 64
  } else {
    ip.writeUInt16BE(0x4500, 0)
    ip.writeUInt16BE(20 + length, 2)
    ip[6] = 0x40
    ip[8] = 64
    ip[9] = protocol
    ip.writeUInt16BE(checksum([ip, source, target]), 10)
  }
  return Buffer.concat([ip, source, target, head, payload])
}

/** RFC 1071: the ones' complement of the sum of 16-bit words. */
function checksum(parts: readonly Uint8Array[]): number {
  let sum = 0
  for (const part of parts) {
    for (let at = 0; at < part.length; at += 2) sum += ((part[at] as number) << 8) | (part[at + 1] ?? 0)
  }
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum % 0x10000)
  return ~sum & 0xffff
}

function four(host: string): Buffer {
  return Buffer.from(host.split('.').map(Number))
}

function six(host: string): Buffer {
  if (!host.includes(':')) return Buffer.concat([Buffer.alloc(10), Buffer.from([255, 255]), four(host)])
  const [head = '', tail] = new URL(`http://[${host}]`).hostname.slice(1, -1).split('::')
  const part = (text: string | undefined) => (text === undefined || text === '' ? [] : text.split(':'))
  const [front, back] = [part(head), part(tail)]
  const groups = [...front, ...new Array<string>(8 - front.length - back.length).fill('0'), ...back]
  const bytes = Buffer.alloc(16)
  groups.forEach((group, index) => bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2))
  return bytes
}
