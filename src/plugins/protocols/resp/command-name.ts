/**
 * Names of commands, in upper case.
 *
 * Room: plugins/protocols. Peers say the same few words all day: a name seen before is found by its bytes and costs no new
 * string, a third of the price of reading a request.
 */
import { readLatin1 } from '../text-support.js'

/** A power of two; a word that falls into another's place takes it. */
const PLACES = 256
/** Longer ones are made anew each time. */
const MOST_LENGTH = 16
const LOWER_A = 0x61
const LOWER_Z = 0x7a

const known: string[] = new Array(PLACES).fill('')

/** `buffer[start, end)` as text, ASCII letters in upper case; whatever else there is stays (a byte a character). */
export function commandName(buffer: Buffer, start: number, end: number): string {
  const length = end - start
  if (length > MOST_LENGTH) return upper(readLatin1(buffer, start, end))
  let hash = length
  for (let at = start; at < end; at++) hash = (hash * 31 + ((buffer[at] as number) & 0xdf)) | 0
  const place = (hash ^ (hash >>> 8)) & (PLACES - 1)
  const name = known[place] as string
  if (isSame(name, buffer, start, length)) return name
  const made = upper(readLatin1(buffer, start, end))
  known[place] = made
  return made
}

function isSame(name: string, buffer: Buffer, start: number, length: number): boolean {
  if (name.length !== length) return false
  for (let index = 0; index < length; index++) {
    const byte = buffer[start + index] as number
    const letter = byte >= LOWER_A && byte <= LOWER_Z ? byte - 0x20 : byte
    if (name.charCodeAt(index) !== letter) return false
  }
  return true
}

/** ASCII only: `toUpperCase` makes two letters of some. */
function upper(name: string): string {
  return name.replace(/[a-z]+/g, (letters) => letters.toUpperCase())
}
