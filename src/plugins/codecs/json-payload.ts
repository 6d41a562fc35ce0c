/**
 * Messages that are JSON.
 *
 * Room: plugins/codecs. RFC 8259, read by the platform's own parser; what that lets through and should not is caught
 * here.
 */
import type { Payload } from '../../core/codec.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory } from '../../core/plugin.js'
import { kindOf, malformed, unfitReply } from './faults.js'
import { DEEP, faultOf, HUGE, KEY, scan } from './json-scan.js'
import { readUtf8Strictly } from './text-payload.js'

export interface JsonOptions {
  readonly depth: number
  readonly proto: 'refuse' | 'keep'
}

/** Most characters of a frame that an error shows. */
const EXCERPT = 40

/**
 * A frame as a JSON value.
 *
 * Refused as `MALFORMED`, each with its position where there is one: what is no JSON or no UTF-8, nesting beyond
 * `depth`, numbers that would become Infinity, and the keys by which a careless merge changes every object of the
 * program (`__proto__`, and `constructor` holding `prototype`). Whole numbers beyond 2^53 lose digits, as with
 * `JSON.parse`.
 *
 * A reply is whatever `JSON.stringify` takes. Arrays are one reply; generators, sets and maps are a reply per item.
 *
 * @throws {FrameError} `MALFORMED`. Reach: this connection.
 * @throws {HandlerError} for what JSON has no form for: functions, symbols, BigInt, cycles. Reach: this connection.
 */
export const json: Factory<Payload, JsonOptions> = {
  name: 'json',
  options: optionSchema<JsonOptions>({
    depth: {
      unit: 'count',
      default: 64,
      min: 1,
      unlimited: true,
      why: 'How deep objects and arrays may be nested. What reads them recursively falls over deep ones.',
    },
    proto: {
      unit: 'choice',
      choices: ['refuse', 'keep'],
      default: 'refuse',
      why: 'Keys that pollute prototypes when merged: an error, or a property like any other.',
    },
  }),
  create({ depth, proto }) {
    const refusesProto = proto === 'refuse'
    const suspicious = refusesProto ? HUGE | KEY : HUGE
    return {
      decodeAt(buffer, start, end) {
        const found = scan(buffer, start, end, depth)
        if (found === DEEP) throw malformed(`JSON nested at most ${depth} deep`, 'a deeper one', { depth })
        const text = readUtf8Strictly(buffer, start, end)
        const value = parse(text)
        if ((found & suspicious) !== 0) inspect(value, refusesProto)
        return value
      },
      encode,
      isMessage,
    }
  },
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Not V8's words: they quote the frame as it is, control characters and all.
    const position = faultOf(text)
    const from = Math.max(0, position - EXCERPT / 2)
    const excerpt = text.slice(from, from + EXCERPT).replace(/[^\x20-\x7e]/g, '.')
    const got =
      text.trim() === '' ? 'a blank frame' : position >= text.length ? 'one that ends too early' : 'something else'
    throw malformed('JSON', `${got} at position ${position}: ${excerpt}`, { position })
  }
}

function inspect(root: unknown, refusesProto: boolean): void {
  const rest: unknown[] = [root]
  while (rest.length > 0) {
    const value = rest.pop()
    if (typeof value === 'number') {
      if (!Number.isFinite(value)) throw malformed('numbers up to 1.8e308', 'a larger one')
    } else if (typeof value === 'object' && value !== null) {
      for (const key of Object.keys(value)) {
        const entry = (value as Record<string, unknown>)[key]
        if (refusesProto && pollutes(key, entry)) {
          throw malformed('JSON without keys that change prototypes', `\`${key}\``, { key })
        }
        rest.push(entry)
      }
    }
  }
}

function pollutes(key: string, entry: unknown): boolean {
  if (key === '__proto__') return true
  return key === 'constructor' && typeof entry === 'object' && entry !== null && Object.hasOwn(entry, 'prototype')
}

function encode(message: unknown): string {
  let text: string | undefined
  try {
    text = JSON.stringify(message)
  } catch (cause) {
    throw unfitReply('json', 'the reply has no form in JSON', 'return plain data, without cycles and BigInt', cause)
  }
  if (text === undefined)
    throw unfitReply('json', `expected a reply of plain data, got ${kindOf(message)}`, 'return a value')
  return text
}

function isMessage(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (Array.isArray(value) || value instanceof String || 'toJSON' in value) return true
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
