/**
 * Messages of CoAP: what a stranger sent, checked; what goes back, written.
 *
 * Room: plugins/protocols. RFC 7252. The optional peer `coap-packet` reads options and writes packets; it takes lengths as they
 * are claimed, so that they are held against the datagram first.
 */
import { malformed } from '../text-support.js'

export interface CoapOption {
  /** `Uri-Path`, `ETag` ..., or the number of one that has no name here. */
  readonly name: string
  readonly value: Buffer
}

export type CoapType = 'con' | 'non' | 'ack' | 'rst'

/** What came. */
export interface Received {
  readonly type: CoapType
  readonly messageId: number
  readonly code: string
  readonly token: Buffer
  readonly options: readonly CoapOption[]
  readonly payload: Buffer
  /** True: what stands behind the message id is no CoAP. */
  readonly isBad: boolean
  /** Largest body of several blocks. */
  readonly most: number
}

export interface Library {
  parse(bytes: Buffer): { code: string; token: Buffer; options: CoapOption[]; payload: Buffer }
  generate(packet: object, maxLength?: number): Buffer
}

const types: readonly CoapType[] = ['con', 'non', 'ack', 'rst']
const HEADER = 4
const EMPTY = Buffer.alloc(0)
/** RFC 7252, 3: longer tokens are a format error. */
const MOST_TOKEN = 8
const MARKER = 0xff
/** More than any request has; the list is walked for each. */
const MOST_OPTIONS = 64

/** @throws {FrameError} `MALFORMED` where there is not even a message id to answer to. */
export function readPacket(buffer: Buffer, library: Library, most: number): Received {
  // RFC 7252, 3: another version is ignored in silence, as is what has no header.
  if (buffer.length < HEADER || (buffer[0] as number) >> 6 !== 1)
    throw malformed('a CoAP header of version 1', `${buffer.length} bytes that begin otherwise`)
  const type = types[((buffer[0] as number) >> 4) & 3] as CoapType
  const messageId = buffer.readUInt16BE(2)
  const code = `${(buffer[1] as number) >> 5}.${String((buffer[1] as number) & 31).padStart(2, '0')}`
  const nothing = { token: EMPTY, options: [], payload: EMPTY }
  const of = (isBad: boolean): Received => ({ type, messageId, code, ...nothing, isBad, most })
  if (code === '0.00') return of(buffer.length !== HEADER || ((buffer[0] as number) & 15) !== 0)
  if (!isWellFormed(buffer)) return of(true)
  try {
    const { token, options, payload } = library.parse(buffer)
    return { type, messageId, code, token, options, payload, isBad: false, most }
  } catch {
    return of(true)
  }
}

/** Token, options and payload lie within the datagram (RFC 7252, 3.1). Linear. */
function isWellFormed(buffer: Buffer): boolean {
  const tokenLength = (buffer[0] as number) & 15
  if (tokenLength > MOST_TOKEN) return false
  let at = HEADER + tokenLength
  if (at > buffer.length) return false
  let number = 0
  let count = 0
  while (at < buffer.length) {
    const head = buffer[at++] as number
    if (head === MARKER) return at < buffer.length
    if (++count > MOST_OPTIONS) return false
    let delta = head >> 4
    let length = head & 15
    if (delta === 15 || length === 15) return false
    const extra = (delta > 12 ? delta - 12 : 0) + (length > 12 ? length - 12 : 0)
    if (at + extra > buffer.length) return false
    if (delta === 13) delta = (buffer[at++] as number) + 13
    else if (delta === 14) {
      delta = buffer.readUInt16BE(at) + 269
      at += 2
    }
    if (length === 13) length = (buffer[at++] as number) + 13
    else if (length === 14) {
      length = buffer.readUInt16BE(at) + 269
      at += 2
    }
    number += delta
    at += length
    if (number > 65_535 || at > buffer.length) return false
  }
  return true
}

/** A reply's option: text and numbers as the option has them. */
export interface CoapOptionToSend {
  readonly name: string
  readonly value: string | number | Uint8Array
}

export interface ToSend {
  readonly type: CoapType
  readonly messageId: number
  readonly code: string
  readonly token?: Buffer
  readonly options?: readonly CoapOptionToSend[]
  readonly payload?: Uint8Array | undefined
}

export function writePacket(given: ToSend, library: Library): Buffer {
  const { type, messageId, code, token = EMPTY, options = [], payload } = given
  const packet = {
    code,
    messageId,
    token,
    confirmable: type === 'con',
    ack: type === 'ack',
    reset: type === 'rst',
    options: options.map(({ name, value }) => ({ name, value: optionBytes(value) })),
  }
  const head = library.generate(packet, 65_535)
  // The library takes a payload that prints as nothing for none; and would copy it twice.
  return payload === undefined || payload.length === 0 ? head : Buffer.concat([head, Buffer.of(MARKER), payload])
}

/** RFC 7252, 3.2: whole numbers in as few bytes as they need, 0 in none. */
function optionBytes(value: string | number | Uint8Array): Buffer {
  if (typeof value === 'string') return Buffer.from(value)
  if (typeof value !== 'number') return Buffer.from(value)
  const bytes: number[] = []
  for (let left = value; left > 0; left = Math.floor(left / 256)) bytes.unshift(left % 256)
  return Buffer.from(bytes)
}

export function optionNumber(value: Buffer | undefined): number | undefined {
  if (value === undefined || value.length > 4) return undefined
  let number = 0
  for (const byte of value) number = number * 256 + byte
  return number
}
