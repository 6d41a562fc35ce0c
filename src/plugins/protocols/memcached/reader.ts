/**
 * Finds commands of memcached's text protocol: a line, and for some a block of data behind it.
 *
 * Room: plugins/protocols. github.com/memcached/memcached, doc/protocol.txt.
 */
import type { FrameLimits, FrameReader } from '../../../core/codec.js'
import { CR, isCrlf, LF, malformed, NINE, refuseHttp, SPACE, showByte, tooLarge, ZERO } from '../text-support.js'

/** Commands with a block, as they begin their line. */
const STORING = ['set', 'add', 'replace', 'append', 'prepend', 'cas'].map((name) => Buffer.from(`${name} `))
/** The same of the meta protocol, whose length stands elsewhere. */
const META_SET = Buffer.from('ms ')
/** Commands of the binary protocol begin with it, and no line of text does. */
const BINARY = 0x80
/** Replies with a block, on the client's side. */
const VALUE = Buffer.from('VALUE ')
/** 2^53 has sixteen digits; no value comes near. */
const MOST_DIGITS = 15

/** Lines end in CR LF or in LF alone, as memcached itself has it. */
abstract class LineReader {
  start = 0
  end = 0
  need = 0
  protected readonly limit: number
  readonly #lineLimit: number
  readonly #lineOption: string
  #scanned = 0

  constructor(limits: FrameLimits) {
    this.limit = limits.frameBytes
    this.#lineLimit = Math.min(limits.lineBytes, limits.frameBytes)
    this.#lineOption = limits.lineBytes <= limits.frameBytes ? 'lineBytes' : 'frameBytes'
  }

  /** The line at `from`. @returns the index of its line feed; -1 when it has not come. */
  protected lineAt(buffer: Buffer, from: number, end: number): number {
    const at = buffer.subarray(from + this.#scanned, end).indexOf(LF)
    const size = at < 0 ? end - from : this.#scanned + at
    const most = this.#lineLimit
    // One byte over it may be the carriage return.
    if (size > most && (size > most + 1 || buffer[from + most] !== CR)) throw tooLarge('lines', most, this.#lineOption)
    this.#scanned = at < 0 ? size : 0
    return at < 0 ? -1 : from + size
  }

  /** The length in a line of `set` or VALUE. @returns the block's size. */
  protected lengthIn(buffer: Buffer, from: number, to: number, lengthWord = this.lengthWord): number {
    let at = from
    for (let word = 0; word < lengthWord; word++) {
      while (at < to && buffer[at] !== SPACE) at++
      while (at < to && buffer[at] === SPACE) at++
    }
    let length = 0
    let digits = 0
    for (; at < to && buffer[at] !== SPACE; at++, digits++) {
      const byte = buffer[at] as number
      if (byte < ZERO || byte > NINE || digits >= MOST_DIGITS)
        throw malformed('the length of the data in digits', showByte(byte))
      length = length * 10 + byte - ZERO
    }
    // Without it nobody knows where the next command begins.
    if (digits === 0) throw malformed('the length of the data', 'nothing')
    return length
  }

  /** Counted from 0, the name of the command being one. */
  protected abstract readonly lengthWord: number
}

/** Commands, on the server's side: the frame is the line, and the block with the line's end between. */
export class CommandReader extends LineReader implements FrameReader {
  protected readonly lengthWord = 4
  #line = 0
  #block = -1

  next(buffer: Buffer, start: number, end: number): number {
    if (this.#block < 0) {
      if (buffer[start] === BINARY)
        throw malformed('a command of the text protocol', 'one of the binary protocol (0x80)')
      const feed = this.lineAt(buffer, start, end)
      if (feed < 0) return -1
      this.#line = feed - start
      const to = trimmed(buffer, start, feed)
      // Most of the traffic is `get`.
      const isStoring = buffer[start] !== 0x67 && STORING.some((name) => begins(buffer, start, feed, name))
      const isMetaSet = !isStoring && buffer[start] === META_SET[0] && begins(buffer, start, feed, META_SET)
      if (!isStoring && !isMetaSet) {
        refuseHttp('a command of memcached', buffer, start, to)
        this.start = start
        this.end = to
        return feed + 1
      }
      this.#block = this.lengthIn(buffer, start, to, isMetaSet ? 2 : this.lengthWord)
      if (this.#line + 1 + this.#block > this.limit) {
        this.#block = -1
        throw tooLarge('commands', this.limit, 'frameBytes')
      }
    }
    const size = this.#line + 1 + this.#block
    this.need = size + 2
    if (end - start < this.need) {
      // What must not stand behind the data is known as soon as it is there.
      if (end - start > size && buffer[start + size] !== CR) throw badBlock(buffer[start + size])
      return -1
    }
    if (!isCrlf(buffer, start + size)) throw badBlock(buffer[start + size])
    this.#block = -1
    this.need = 0
    this.start = start
    this.end = start + size
    return this.end + 2
  }
}

/** Replies, on the client's side: one line, or lines and blocks up to END. */
export class ReplyReader extends LineReader implements FrameReader {
  protected readonly lengthWord = 3
  /** Bytes of the present reply that are known to be good. */
  #good = 0

  next(buffer: Buffer, start: number, end: number): number {
    for (;;) {
      const from = start + this.#good
      const feed = this.lineAt(buffer, from, end)
      if (feed < 0) {
        if (end - start > this.limit + 2) throw tooLarge('replies', this.limit, 'frameBytes')
        return -1
      }
      const to = trimmed(buffer, from, feed)
      let next = feed + 1
      let isMore = begins(buffer, from, to, STAT)
      if (begins(buffer, from, to, VALUE)) {
        isMore = true
        const block = this.lengthIn(buffer, from, to)
        if (next + block - start > this.limit) throw tooLarge('replies', this.limit, 'frameBytes')
        next += block + 2
        this.need = next - start
        if (next > end) return -1
        if (!isCrlf(buffer, next - 2)) throw badBlock(buffer[next - 2])
      }
      if (to - start > this.limit) throw tooLarge('replies', this.limit, 'frameBytes')
      this.#good = next - start
      if (isMore) continue
      this.#good = this.need = 0
      this.start = start
      this.end = to
      return next
    }
  }
}

const STAT = Buffer.from('STAT ')

function begins(buffer: Buffer, from: number, to: number, word: Buffer): boolean {
  if (to - from < word.length || buffer[from] !== word[0]) return false
  return buffer.compare(word, 0, word.length, from, from + word.length) === 0
}

function trimmed(buffer: Buffer, from: number, feed: number): number {
  return feed > from && buffer[feed - 1] === CR ? feed - 1 : feed
}

function badBlock(byte: number | undefined): Error {
  return malformed('CR LF behind the data', showByte(byte))
}
