/**
 * Frames of JSON-RPC: a JSON value a line, or behind a Content-Length header; and what of them is let in.
 *
 * Room: plugins/protocols.
 */
import { isUtf8 } from 'node:buffer'
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import { CR, LF, malformed, refuseHttp, tooLarge } from './text-support.js'

/** @returns undefined for what is no JSON, no UTF-8, too deep, or has keys by which a careless merge changes every object. */
export function readJson(bytes: Buffer, depth: number): object | string | number | boolean | undefined {
  if (isDeeper(bytes, depth) || !isUtf8(bytes)) return undefined
  const text = bytes.toString()
  try {
    const value = JSON.parse(text)
    const isSuspect = text.includes('__proto__') || text.includes('constructor') || text.includes('\\u')
    return value === null || (isSuspect && pollutes(value)) ? undefined : value
  } catch {
    return undefined
  }
}

/** Without recursion; depth is bounded already. */
function pollutes(root: unknown): boolean {
  const rest: unknown[] = [root]
  for (let value = rest.pop(); value !== undefined; value = rest.pop()) {
    if (typeof value !== 'object' || value === null) continue
    for (const [key, entry] of Object.entries(value)) {
      if (key === '__proto__') return true
      const isObject = typeof entry === 'object' && entry !== null
      if (key === 'constructor' && isObject && Object.hasOwn(entry, 'prototype')) return true
      if (isObject) rest.push(entry)
    }
  }
  return false
}

/** What reads a value recursively falls over deep ones. Linear; strings are passed over. */
function isDeeper(bytes: Buffer, most: number): boolean {
  let level = 0
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]
    if (byte === 0x22) {
      for (at++; at < bytes.length && bytes[at] !== 0x22; at++) if (bytes[at] === 0x5c) at++
    } else if (byte === 0x7b || byte === 0x5b) {
      if (++level > most) return true
    } else if (byte === 0x7d || byte === 0x5d) level--
  }
  return false
}

export class LineReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly #limit: number
  #scanned = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  skip(buffer: Buffer, start: number, end: number): number {
    if (this.#scanned > 0) return start
    let at = start
    while (at < end && (buffer[at] === LF || buffer[at] === 0x0d || buffer[at] === 0x20)) at++
    return at
  }
  next(buffer: Buffer, start: number, end: number): number {
    const at = buffer.subarray(start + this.#scanned, end).indexOf(LF)
    const size = at < 0 ? end - start : this.#scanned + at
    if (size > this.#limit) throw tooLarge('messages', this.#limit, 'frameBytes')
    if (at < 0) {
      this.#scanned = size
      return -1
    }
    const last = size > 0 && buffer[start + size - 1] === CR ? start + size - 1 : start + size
    refuseHttp('a JSON-RPC message', buffer, start, last)
    this.#scanned = 0
    this.start = start
    this.end = start + size
    return start + size + 1
  }
}

/** Headers of more than this are none. */
const HEADER_BYTES = 4_096

/** microsoft.github.io/language-server-protocol, base protocol. */
export class HeaderReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #limit: number
  #head = 0
  #scanned = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (this.need === 0 && !this.#readHead(buffer, start, end)) return -1
    if (end - start < this.need) return -1
    this.start = start + this.#head
    this.end = start + this.need
    this.need = 0
    return this.end
  }

  #readHead(buffer: Buffer, start: number, end: number): boolean {
    const from = start + Math.max(0, this.#scanned - 3)
    const at = buffer.subarray(from, Math.min(end, start + HEADER_BYTES)).indexOf('\r\n\r\n')
    if (at < 0) {
      if (end - start >= HEADER_BYTES) throw malformed(`headers of at most ${HEADER_BYTES} bytes`, 'more')
      this.#scanned = end - start
      return false
    }
    const head = buffer.toString('latin1', start, from + at)
    const [first, second] = [...head.matchAll(/^content-length:[ \t]*(\d{1,15})[ \t]*$/gim)]
    const digits = first?.[1]
    if (digits === undefined) throw malformed('a Content-Length header', JSON.stringify(head.slice(0, 40)))
    // Two of them are two opinions about where the next message begins.
    if (second !== undefined) throw malformed('one Content-Length header', 'two')
    const length = Number(digits)
    if (length > this.#limit) throw tooLarge('messages', this.#limit, 'frameBytes')
    this.#scanned = 0
    this.#head = from + at + 4 - start
    this.need = this.#head + length
    return true
  }
}
