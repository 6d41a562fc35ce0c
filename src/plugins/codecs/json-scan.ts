/**
 * Looks a JSON text over before it is parsed, and finds what is wrong with it after it was not.
 *
 * Room: plugins/codecs. Both are one loop without recursion: linear in the bytes, and no depth can exhaust the stack.
 */

// Kinds of bytes; every other byte is 0.
const OPEN = 1
const CLOSE = 2
const STRING = 3
const DIGIT = 4

const kinds = new Uint8Array(256)
for (const open of '[{') kinds[open.charCodeAt(0)] = OPEN
for (const close of ']}') kinds[close.charCodeAt(0)] = CLOSE
for (const digit of '0123456789') kinds[digit.charCodeAt(0)] = DIGIT
kinds[0x22] = STRING

const QUOTE = 0x22
const BACKSLASH = 0x5c
/** A number overflows with an exponent, or with 309 digits (IEEE 754 binary64: 1.8e308). */
const LONG_NUMBER = 300

/** What `scan` found; the last two are bits. */
export const DEEP = -1
export const PLAIN = 0
export const HUGE = 1
export const KEY = 2

/**
 * Reads `buffer[start, end)`, which need not be JSON.
 *
 * @returns `DEEP` where objects and arrays are nested deeper than `depth`; else the sum of `HUGE`, where a number
 *   may be beyond what a number can hold, and `KEY`, where a string may read `__proto__` or `constructor`.
 */
export function scan(buffer: Buffer, start: number, end: number, depth: number): number {
  let level = 0
  let found = PLAIN
  for (let at = start; at < end; at++) {
    switch (kinds[buffer[at] as number]) {
      case OPEN:
        if (++level > depth) return DEEP
        break
      case CLOSE:
        level--
        break
      case STRING: {
        const first = at + 1
        for (at++; at < end && buffer[at] !== QUOTE; at++) {
          // An ASCII letter written as an escape is a disguise; no encoder writes it so.
          if (buffer[at] === BACKSLASH && isLetterEscape(buffer, ++at)) found |= KEY
        }
        const letter = buffer[first]
        if ((at - first === 9 && letter === 0x5f) || (at - first === 11 && letter === 0x63)) found |= KEY
        break
      }
      case DIGIT: {
        const first = at
        while (at + 1 < end && kinds[buffer[at + 1] as number] === DIGIT) at++
        if (at - first > LONG_NUMBER || (at + 1 < end && ((buffer[at + 1] as number) | 0x20) === 0x65)) found |= HUGE
        break
      }
    }
  }
  return found
}

/** True at the `u` of `\u0040` to `\u007f`. */
function isLetterEscape(buffer: Buffer, at: number): boolean {
  if (buffer[at] !== 0x75 || buffer[at + 1] !== 0x30 || buffer[at + 2] !== 0x30) return false
  const digit = buffer[at + 3] as number
  return digit >= 0x34 && digit <= 0x37
}

/**
 * Where a text stops to be JSON (RFC 8259), as an index of its characters; its length where it ends too early.
 *
 * V8 names a position in some messages only, and quotes the text in others.
 */
export function faultOf(text: string): number {
  /** What closes the objects and arrays that are open. */
  const closers: string[] = []
  /** What may come: a value; one or the end of the array; a key; one or the end of the object; what follows a value. */
  let wanted: 'value' | 'item' | 'key' | 'member' | 'next' = 'value'
  let at = 0
  for (;;) {
    at = after(/[ \t\n\r]*/y, text, at)
    const letter = text[at]
    const closer = closers.at(-1)
    if (letter === undefined) return at
    if (letter === closer && wanted !== 'value' && wanted !== 'key') {
      closers.pop()
      wanted = 'next'
      at++
    } else if (wanted === 'next') {
      if (letter !== ',' || closer === undefined) return at
      wanted = closer === '}' ? 'key' : 'value'
      at++
    } else if (letter === '"') {
      const close = endOfString(text, at)
      if (text[close] !== '"') return close
      at = close + 1
      if (wanted === 'key' || wanted === 'member') {
        at = after(/[ \t\n\r]*/y, text, at)
        if (text[at] !== ':') return at
        at++
        wanted = 'value'
      } else wanted = 'next'
    } else if (wanted === 'key' || wanted === 'member') {
      return at
    } else if (letter === '[' || letter === '{') {
      closers.push(letter === '[' ? ']' : '}')
      wanted = letter === '[' ? 'item' : 'member'
      at++
    } else {
      const end = after(/true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y, text, at)
      if (end === at) return at
      at = end
      wanted = 'next'
    }
  }
}

/** @returns the index of the closing quote, else of the character that must not be there. */
function endOfString(text: string, quote: number): number {
  let at = quote + 1
  for (; at < text.length && text[at] !== '"' && text.charCodeAt(at) >= 0x20; at++) {
    if (text[at] !== '\\') continue
    const end = after(/\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y, text, at)
    if (end === at) return at
    at = end - 1
  }
  return at
}

/** @returns the index behind what `pattern` (sticky) matches at `at`; `at` where it does not. */
function after(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : at
}
