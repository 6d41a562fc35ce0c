/**
 * Requests as messages.
 *
 * Room: plugins/protocols.
 */
import { CR, isCrlf, LF, malformed, readLatin1, readUtf8, SPACE, showByte } from '../text-support.js'
import { commandName } from './command-name.js'
import { found, last, readLength } from './length.js'
import type { RespCommand } from './values.js'

const STAR = 0x2a
const DOLLAR = 0x24
const QUOTE = 0x22
const APOSTROPHE = 0x27
const BACKSLASH = 0x5c
const TAB = 0x09

export type Strings = 'text' | 'bytes'

/** One argument's bytes as what the handler gets. */
export type ReadString = (buffer: Buffer, start: number, end: number) => string | Buffer

const REMEDY = "set strings: 'bytes' where peers send any bytes"

export function stringReader(strings: Strings): ReadString {
  if (strings === 'bytes') return (buffer, start, end) => buffer.subarray(start, end)
  return (buffer, start, end) => readUtf8(buffer, start, end, REMEDY)
}

const NOTHING: readonly never[] = Object.freeze([])
const empty: RespCommand<never> = Object.freeze({ command: '', args: NOTHING })

/** A request's frame as a message; without arguments at all (`*0`, an empty line) the command is empty. */
export function readRequest(
  buffer: Buffer,
  start: number,
  end: number,
  read: ReadString,
): RespCommand<string | Buffer> {
  if (found.buffer === buffer && found.start === start && found.end === end) {
    found.buffer = undefined
    const { bounds, count } = found
    const command = commandName(buffer, bounds[0] as number, bounds[1] as number)
    if (count === 1) return { command, args: NOTHING }
    const first = read(buffer, bounds[2] as number, bounds[3] as number)
    if (count === 2) return { command, args: [first] }
    const second = read(buffer, bounds[4] as number, bounds[5] as number)
    if (count === 3) return { command, args: [first, second] }
    return { command, args: [first, second, read(buffer, bounds[6] as number, bounds[7] as number)] }
  }
  if (start === end) return empty
  if (buffer[start] !== STAR) return readInline(buffer.subarray(start, end), read)
  let at = readLength(buffer, start + 1, end, 'the number of arguments')
  const count = at < 0 ? 0 : last.length
  // A frame from a stream was looked at already; this is for whoever decodes frames from elsewhere.
  if (at < 0 || count > (end - at) / 6) throw malformed('a whole request', 'a part of one')
  let request: RespCommand<string | Buffer> = empty
  if (count > 0) {
    at = bulkAt(buffer, at, end)
    const command = commandName(buffer, last.from, at - 2)
    // The usual ones at their size: an array that grows has room for seventeen.
    if (count === 2) {
      at = bulkAt(buffer, at, end)
      request = { command, args: [read(buffer, last.from, at - 2)] }
    } else if (count === 3) {
      at = bulkAt(buffer, at, end)
      const first = read(buffer, last.from, at - 2)
      at = bulkAt(buffer, at, end)
      request = { command, args: [first, read(buffer, last.from, at - 2)] }
    } else {
      const args: (string | Buffer)[] = []
      for (let index = 1; index < count; index++) {
        at = bulkAt(buffer, at, end)
        args.push(read(buffer, last.from, at - 2))
      }
      request = { command, args }
    }
  }
  if (at !== end) throw malformed('one request', 'bytes behind it')
  return request
}

/** A bulk string; where its bytes begin stands in `last.from`. @returns the index behind its CR LF. */
function bulkAt(buffer: Buffer, at: number, end: number): number {
  if (buffer[at] !== DOLLAR) throw malformed("a bulk string's `$`", showByte(buffer[at]))
  const from = readLength(buffer, at + 1, end, 'the length of an argument')
  const after = from + last.length + 2
  if (from < 0 || after > end || after < from + 2 || !isCrlf(buffer, after - 2))
    throw malformed('a whole request', 'a part of one')
  last.from = from
  return after
}

/**
 * An inline command's words: separated by spaces, in quotes where they hold some. The escapes of Redis (`\n`, `\r`, `\t`,
 * `\a`, `\b`, `\xff`) are read within double quotes.
 *
 * @throws {FrameError} `MALFORMED` for a quote that does not end where its word ends.
 */
function readInline(line: Buffer, read: ReadString): RespCommand<string | Buffer> {
  const words: Buffer[] = []
  const word = Buffer.allocUnsafe(line.length)
  let at = 0
  for (;;) {
    while (at < line.length && isBlank(line[at] as number)) at++
    if (at === line.length) break
    let size = 0
    while (at < line.length && !isBlank(line[at] as number)) {
      const byte = line[at++] as number
      if (byte === QUOTE || byte === APOSTROPHE) {
        for (;;) {
          if (at === line.length) throw malformed('a closing quote', 'the end of the line')
          let inside = line[at++] as number
          if (inside === byte) break
          if (inside === BACKSLASH && at < line.length) {
            if (byte === APOSTROPHE) {
              if (line[at] === APOSTROPHE) inside = line[at++] as number
            } else if (line[at] === 0x78 && isHex(line[at + 1]) && isHex(line[at + 2])) {
              inside = Number.parseInt(readLatin1(line, at + 1, at + 3), 16)
              at += 3
            } else inside = escaped(line[at++] as number)
          }
          word[size++] = inside
        }
        if (at < line.length && !isBlank(line[at] as number))
          throw malformed('a space behind a quote', showByte(line[at]))
      } else word[size++] = byte
    }
    words.push(Buffer.from(word.subarray(0, size)))
  }
  const [first] = words
  if (first === undefined) return empty
  const command = commandName(first, 0, first.length)
  return { command, args: words.slice(1).map((bytes) => read(bytes, 0, bytes.length)) }
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB || byte === CR || byte === LF || byte === 0
}

function isHex(byte: number | undefined): boolean {
  if (byte === undefined) return false
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66)
}

function escaped(byte: number): number {
  switch (byte) {
    case 0x6e:
      return LF
    case 0x72:
      return CR
    case 0x74:
      return TAB
    case 0x62:
      return 0x08
    case 0x61:
      return 0x07
    default:
      return byte
  }
}
