/**
 * The PROXY protocol's header, versions 1 and 2: reading and writing, nothing else.
 *
 * Room: plugins/layers. haproxy.org, "The PROXY protocol", sections 2.1 and 2.2. Strict: what the specification does not
 * allow is refused, because whoever sends it speaks for the address of somebody else.
 */
import { HandshakeError } from '../../core/errors.js'
import { isAddress } from '../../core/networks.js'

/** A Type-Length-Value of version 2 (section 2.2.5 and on). */
export interface ProxyTlv {
  readonly type: number
  readonly value: Buffer
}

export interface ProxyAddress {
  readonly host: string
  readonly port: number
}

export interface ProxyHeader {
  readonly version: 1 | 2
  /** Sent by the proxy on its own behalf (`LOCAL`), or for a peer whose address has no form here (`UNKNOWN`). */
  readonly local: boolean
  readonly source: ProxyAddress | undefined
  readonly destination: ProxyAddress | undefined
  /** `udp` where the proxied connection was datagrams. */
  readonly protocol: 'tcp' | 'udp' | 'unknown'
  readonly tlvs: readonly ProxyTlv[]
}

/** Section 2.2: twelve bytes that no text protocol begins with. */
const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
/** Section 2.1: the longest line of version 1, CRLF included. */
const V1_BYTES = 107
const CRC32C = 0x03
const SSL = 0x20

/**
 * Reads a header at the front of `bytes`.
 *
 * @param most - Bytes of a version 2 header that are taken.
 * @returns undefined while it is not whole; else the header and its size.
 * @throws {HandshakeError} `HANDSHAKE_FAILED` as soon as it can be none. Reach: this connection.
 */
export function readProxyHeader(bytes: Buffer, most: number): { header: ProxyHeader; size: number } | undefined {
  const known = Math.min(bytes.length, SIGNATURE.length)
  if (SIGNATURE.compare(bytes, 0, known, 0, known) === 0) {
    return known < SIGNATURE.length ? undefined : readV2(bytes, most)
  }
  return readV1(bytes)
}

function readV1(bytes: Buffer): { header: ProxyHeader; size: number } | undefined {
  const prefix = 'PROXY '
  const front = bytes.toString('latin1', 0, prefix.length)
  if (!prefix.startsWith(front)) throw bad('a PROXY protocol header', `0x${bytes.toString('hex', 0, 8)}`)
  const end = bytes.subarray(0, V1_BYTES).indexOf('\r\n')
  if (end < 0) {
    if (bytes.length >= V1_BYTES) throw bad(`a line of at most ${V1_BYTES} bytes`, 'a longer one')
    return undefined
  }
  const line = bytes.toString('latin1', 0, end)
  const size = end + 2
  if (/^PROXY UNKNOWN( |$)/.test(line)) {
    return {
      size,
      header: { version: 1, local: true, source: undefined, destination: undefined, protocol: 'unknown', tlvs: [] },
    }
  }
  const [, family = '', from = '', to = '', fromPort = '', toPort = ''] =
    /^PROXY (TCP4|TCP6) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (\d{1,5}) (\d{1,5})$/.exec(line) ?? []
  const isSix = family === 'TCP6'
  const fits = (host: string) => isAddress(host) && host.includes(':') === isSix
  const isPort = (text: string) => /^(0|[1-9]\d*)$/.test(text) && Number(text) <= 65_535
  if (family === '' || !fits(from) || !fits(to) || !isPort(fromPort) || !isPort(toPort)) {
    throw bad('PROXY TCP4|TCP6 source destination port port', JSON.stringify(line.slice(0, 60)))
  }
  return {
    size,
    header: {
      version: 1,
      local: false,
      source: { host: from, port: Number(fromPort) },
      destination: { host: to, port: Number(toPort) },
      protocol: 'tcp',
      tlvs: [],
    },
  }
}

function readV2(bytes: Buffer, most: number): { header: ProxyHeader; size: number } | undefined {
  if (bytes.length < 16) return undefined
  const command = bytes[12] as number
  const kind = bytes[13] as number
  const size = 16 + bytes.readUInt16BE(14)
  if (command >> 4 !== 2 || (command & 15) > 1) throw bad('version 2 and LOCAL or PROXY', `0x${command.toString(16)}`)
  const family = kind >> 4
  const transport = kind & 15
  if (family > 3 || transport > 2) throw bad('a known family and protocol', `0x${kind.toString(16)}`)
  if (size > most) throw bad(`a header of at most ${most} bytes`, `one of ${size}`)
  const addressBytes = [0, 12, 36, 216][family] as number
  if (size - 16 < addressBytes) throw bad(`${addressBytes} bytes of addresses`, `${size - 16}`)
  if (bytes.length < size) return undefined
  const isLocal = (command & 15) === 0
  const isKnown = !isLocal && (family === 1 || family === 2) && transport > 0
  const tlvs = readTlvs(bytes, 16 + addressBytes, size)
  checkCrc(bytes, size, 16 + addressBytes)
  return {
    size,
    header: {
      version: 2,
      local: !isKnown,
      source: isKnown ? addressAt(bytes, 16, family, 0) : undefined,
      destination: isKnown ? addressAt(bytes, 16, family, 1) : undefined,
      protocol: transport === 1 ? 'tcp' : transport === 2 ? 'udp' : 'unknown',
      tlvs,
    },
  }
}

function addressAt(bytes: Buffer, at: number, family: number, index: 0 | 1): ProxyAddress {
  const width = family === 1 ? 4 : 16
  const raw = bytes.subarray(at + index * width, at + (index + 1) * width)
  const port = bytes.readUInt16BE(at + 2 * width + 2 * index)
  if (family === 1) return { host: raw.join('.'), port }
  const groups = Array.from({ length: 8 }, (_, i) => raw.readUInt16BE(i * 2).toString(16)).join(':')
  // The way addresses are written everywhere else (RFC 5952): the URL parser of the platform knows it.
  return { host: new URL(`http://[${groups}]`).hostname.slice(1, -1), port }
}

function readTlvs(bytes: Buffer, from: number, end: number): ProxyTlv[] {
  const tlvs: ProxyTlv[] = []
  let at = from
  while (at < end) {
    if (end - at < 3) throw bad('a whole TLV', `${end - at} bytes`)
    const length = bytes.readUInt16BE(at + 1)
    if (end - at - 3 < length) throw bad(`a TLV of ${length} bytes`, `${end - at - 3}`)
    tlvs.push({ type: bytes[at] as number, value: Buffer.from(bytes.subarray(at + 3, at + 3 + length)) })
    at += 3 + length
  }
  return tlvs
}

/** What a proxy that ends TLS says of its peer (section 2.2.6). */
export interface ProxyTlsFacts {
  /** The peer came by TLS. */
  readonly isTls: boolean
  /** It showed a certificate, in this connection or in the session this one resumes. */
  readonly hasCertificate: boolean
  /** It showed one, and the proxy has verified it. */
  readonly isVerified: boolean
  /** As OpenSSL writes it: `TLSv1.3`. */
  readonly protocol: string | undefined
  /** The certificate's common name. */
  readonly commonName: string | undefined
  readonly cipher: string | undefined
}

/** @throws {HandshakeError} `HANDSHAKE_FAILED` where the value is none. */
export function readProxyTls(tlvs: readonly ProxyTlv[]): ProxyTlsFacts | undefined {
  const found = tlvs.find(({ type }) => type === SSL)?.value
  if (found === undefined) return undefined
  if (found.length < 5) throw bad('5 bytes of TLS facts at least', `${found.length}`)
  const client = found[0] as number
  const parts = readTlvs(found, 5, found.length)
  const text = (type: number) => parts.find((part) => part.type === type)?.value.toString()
  const hasCertificate = (client & 6) !== 0
  return {
    isTls: (client & 1) !== 0,
    hasCertificate,
    isVerified: hasCertificate && found.readUInt32BE(1) === 0,
    protocol: text(0x21),
    commonName: text(0x22),
    cipher: text(0x23),
  }
}

/** Section 2.2.3: the checksum of the whole header, its own four bytes being zero. */
function checkCrc(bytes: Buffer, size: number, tlvsAt: number): void {
  for (let at = tlvsAt; at < size; at += 3 + bytes.readUInt16BE(at + 1)) {
    if (bytes[at] !== CRC32C) continue
    if (bytes.readUInt16BE(at + 1) !== 4) throw bad('a checksum of 4 bytes', `${bytes.readUInt16BE(at + 1)}`)
    const whole = Buffer.from(bytes.subarray(0, size))
    whole.fill(0, at + 3, at + 7)
    if (crc32c(whole) !== bytes.readUInt32BE(at + 3)) throw bad('the checksum that fits', 'another one')
  }
}

/** What a client's side sends first. @throws {HandshakeError} for addresses of two families. */
export function writeProxyHeader(
  version: 1 | 2,
  source: ProxyAddress | undefined,
  destination: ProxyAddress | undefined,
  tlvs: readonly ProxyTlv[] = [],
  hasChecksum = false,
): Buffer {
  const isKnown = source !== undefined && destination !== undefined
  const isSix = isKnown && source.host.includes(':')
  if (isKnown && isSix !== destination.host.includes(':'))
    throw bad('two addresses of one family', `${source.host}, ${destination.host}`)
  if (version === 1) {
    if (!isKnown) return Buffer.from('PROXY UNKNOWN\r\n')
    const family = isSix ? 'TCP6' : 'TCP4'
    return Buffer.from(`PROXY ${family} ${source.host} ${destination.host} ${source.port} ${destination.port}\r\n`)
  }
  const addresses = isKnown
    ? Buffer.concat([packed(source.host), packed(destination.host), uint16(source.port), uint16(destination.port)])
    : Buffer.alloc(0)
  const all = hasChecksum ? [...tlvs, { type: CRC32C, value: Buffer.alloc(4) }] : tlvs
  const rest = all.map(({ type, value }) => Buffer.concat([Buffer.from([type]), uint16(value.length), value]))
  const body = Buffer.concat([addresses, ...rest])
  const kind = isKnown ? (isSix ? 0x21 : 0x11) : 0
  const whole = Buffer.concat([SIGNATURE, Buffer.from([isKnown ? 0x21 : 0x20, kind]), uint16(body.length), body])
  // Over the header with the checksum's own bytes zero, and they are its last.
  if (hasChecksum) whole.writeUInt32BE(crc32c(whole), whole.length - 4)
  return whole
}

function packed(host: string): Buffer {
  if (!host.includes(':')) return Buffer.from(host.split('.').map(Number))
  const groups = new URL(`http://[${host}]`).hostname.slice(1, -1).split('::')
  const part = (text: string | undefined) => (text === undefined || text === '' ? [] : text.split(':'))
  const [head, tail] = [part(groups[0]), part(groups[1])]
  const zeros = new Array<string>(8 - head.length - tail.length).fill('0')
  return Buffer.concat([...head, ...zeros, ...tail].map((group) => uint16(Number.parseInt(group, 16))))
}

function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff])
}

/** Castagnoli's polynomial, reflected (RFC 3720, appendix B.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return (crc ^ 0xffffffff) >>> 0
}

function bad(expected: string, got: string): HandshakeError {
  return new HandshakeError('HANDSHAKE_FAILED', `PROXY protocol: expected ${expected}, got ${got}`)
}
