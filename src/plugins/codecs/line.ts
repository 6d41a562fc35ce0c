/**
 * Lines: bytes up to a line feed.
 *
 * Room: plugins/codecs. The framing of most text protocols, and the default codec. A carriage return before the line
 * feed belongs to the terminator, whichever of both a peer writes (RFC 5321, section 2.3.8, says CR LF; people's tools
 * say LF).
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { enclose, nothing } from './enclose.js'
import { tooLarge, unfitReply } from './faults.js'
import { ByteSearch } from './search.js'

export interface LineOptions {
  readonly terminator: 'lf' | 'crlf'
  readonly unterminated: 'refuse' | 'deliver'
  readonly embedded: 'allow' | 'refuse'
}

const LF = 0x0a
const CR = 0x0d

/**
 * Frames that end in a line feed.
 *
 * The limit is the smaller of `limits.lineBytes` (64 KiB) and `limits.frameBytes`, terminator excluded. A reply with
 * line feeds in it is several lines to the peer: many servers mean just that. Where parts of a reply come from
 * strangers, set `embedded: 'refuse'`, or one of them can make the peer see a line of his own (response splitting).
 *
 * On message transports a message may end in one terminator; it is cut off, and stands behind each reply to that peer.
 * A text payload in `utf16le` does not go with lines: its letters may hold the byte of a line feed.
 *
 * @throws {FrameError} `TOO_LARGE`, as soon as one byte more than the limit has come. Reach: this connection.
 * @throws {HandlerError} with `embedded: 'refuse'`, for a reply the peer would read as another. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:8080", "codec": { "name": "line", "terminator": "crlf" } }
 */
export const line: Factory<Framing, LineOptions> = {
  name: 'line',
  options: optionSchema<LineOptions>({
    terminator: {
      unit: 'choice',
      choices: ['lf', 'crlf'],
      default: 'lf',
      why: 'What stands behind each line sent. Both are understood in lines received.',
    },
    unterminated: {
      unit: 'choice',
      choices: ['refuse', 'deliver'],
      default: 'refuse',
      why: 'A last line whose peer finished before its line feed: `TRUNCATED`, as its rest may be missing; or a line.',
    },
    embedded: {
      unit: 'choice',
      choices: ['allow', 'refuse'],
      default: 'allow',
      why: 'A reply with line feeds in it: several lines to the peer; or an error, where strangers write parts of it.',
    },
  }),
  create: (options) => lineFraming(options, 'text'),
}

/** What `line` and `json-lines` share. */
export function lineFraming(options: LineOptions, payload: string): Framing {
  const isUnterminatedFine = options.unterminated === 'deliver'
  const isCrlf = options.terminator === 'crlf'
  const terminator = isCrlf ? '\r\n' : '\n'
  const terminatorBytes = Buffer.from(terminator)
  const refusesEmbedded = options.embedded === 'refuse'
  return {
    payload,
    framer: { open: (limits) => new LineReader(limits, isUnterminatedFine) },
    frame(encoded) {
      if (refusesEmbedded) refuseEmbedded(encoded, isCrlf)
      if (typeof encoded === 'string') return encoded + terminator
      return enclose(nothing, encoded, terminatorBytes)
    },
    trim(buffer, start, end) {
      if (end === start || buffer[end - 1] !== LF) return end
      return end - 1 > start && buffer[end - 2] === CR ? end - 2 : end - 1
    },
  }
}

function refuseEmbedded(encoded: Uint8Array | string, isCrlf: boolean): void {
  const isText = typeof encoded === 'string'
  const hasFeed = isText ? encoded.includes('\n') : encoded.includes(LF)
  if (hasFeed)
    throw unfitReply('line', 'the reply has a line feed in it', "send its lines one by one, or set embedded: 'allow'")
  // Together with our line feed it would be a terminator, and the peer would miss it.
  const last = isText ? encoded.charCodeAt(encoded.length - 1) : encoded[encoded.length - 1]
  if (last === CR && !isCrlf)
    throw unfitReply('line', 'the reply ends in a carriage return', "cut it off, or set terminator: 'crlf'")
}

/** Finds line after line in one connection's bytes. */
class LineReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly #limit: number
  readonly #option: string
  readonly #isUnterminatedFine: boolean
  readonly #feeds = new ByteSearch(LF)
  /** Bytes from the line's start that hold no line feed. */
  #scanned = 0

  constructor(limits: FrameLimits, isUnterminatedFine: boolean) {
    this.#limit = Math.min(limits.lineBytes, limits.frameBytes)
    this.#option = limits.lineBytes <= limits.frameBytes ? 'lineBytes' : 'frameBytes'
    this.#isUnterminatedFine = isUnterminatedFine
  }

  next(buffer: Buffer, start: number, end: number): number {
    const feed = this.#feeds.find(buffer, start + this.#scanned, end)
    if (feed < 0) {
      const seen = end - start
      // One byte over the limit may be the carriage return of the terminator.
      if (seen > this.#limit && (seen > this.#limit + 1 || buffer[end - 1] !== CR)) throw this.#tooLarge()
      this.#scanned = seen
      return -1
    }
    const last = feed > start && buffer[feed - 1] === CR ? feed - 1 : feed
    if (last - start > this.#limit) throw this.#tooLarge()
    this.#scanned = 0
    this.start = start
    this.end = last
    return feed + 1
  }

  /** A carriage return at the very end is a terminator begun. */
  finish(buffer: Buffer, start: number, end: number): number {
    if (!this.#isUnterminatedFine) return -1
    this.start = start
    this.end = buffer[end - 1] === CR ? end - 1 : end
    return end
  }

  #tooLarge(): Error {
    return tooLarge('lines', this.#limit, this.#option)
  }
}
