/**
 * Where a WebSocket's bytes stand between frames: whether a message has begun that is not whole (RFC 6455, section 5.2).
 *
 * Room: transports. The library tells of whole messages alone, and of how far it is with one it tells nobody. So the headers are
 * read here as well, some ten nanoseconds a frame, and the payloads are passed over; nothing is checked, that is the library's.
 */

const FIN = 0x80
const OPCODE = 0x0f
/** Opcodes from here on are control frames, which stand between the parts of a message. */
const LEAST_CONTROL = 8
const CLOSE = 8
const MASKED = 0x80
const LENGTH = 0x7f
const LENGTH_16 = 126
const LENGTH_64 = 127
const MASK_BYTES = 4

/** What a chunk leaves. */
export const REST = 0 // no frame has begun
export const BEGUN = 1 // a message, or a frame, that began in this chunk is not whole
const GOES_ON = 2 // one that began before it is still not whole

export class FrameTrack {
  /** Of the header: bytes of it read, and of its length still to come. */
  #headerBytes = 0
  #lengthBytes = 0
  #first = 0
  #isMasked = false
  #length = 0
  /** Of the payload, its mask included. */
  #left = 0
  /** Parts of a message have come, and its last has not. */
  #isMessageOpen = false
  #wasOpen = false
  #isOver = false
  /** A ping or a pong ended in the last chunk. */
  hasControl = false

  /** @returns what the chunk leaves; after a close frame, that nothing has begun. */
  read(chunk: Uint8Array): typeof REST | typeof BEGUN | typeof GOES_ON {
    const end = chunk.length
    let at = 0
    let isNew = !this.#wasOpen
    this.hasControl = false
    while (at < end && !this.#isOver) {
      if (this.#left > 0) {
        const bytes = Math.min(this.#left, end - at)
        this.#left -= bytes
        at += bytes
      } else at = this.#readHeader(chunk, at, end)
      if (this.#left > 0 || this.#headerBytes < 2 || this.#lengthBytes > 0) continue
      if (this.#finishFrame()) isNew = true
    }
    const isOpen = !this.#isOver && (this.#isMessageOpen || this.#headerBytes > 0)
    this.#wasOpen = isOpen
    return isOpen ? (isNew ? BEGUN : GOES_ON) : REST
  }

  /** @returns the index of the first byte that is none of the header. */
  #readHeader(chunk: Uint8Array, start: number, end: number): number {
    let at = start
    while (at < end) {
      const byte = chunk[at++] as number
      if (this.#headerBytes === 0) {
        this.#headerBytes = 1
        this.#first = byte
        continue
      }
      if (this.#headerBytes === 1) {
        this.#headerBytes = 2
        const length = byte & LENGTH
        this.#isMasked = (byte & MASKED) !== 0
        this.#lengthBytes = length === LENGTH_16 ? 2 : length === LENGTH_64 ? 8 : 0
        this.#length = length < LENGTH_16 ? length : 0
      } else {
        this.#length = this.#length * 256 + byte
        this.#lengthBytes--
      }
      if (this.#lengthBytes > 0) continue
      this.#left = this.#length + (this.#isMasked ? MASK_BYTES : 0)
      break
    }
    return at
  }

  /** @returns whether a message ended with it, or a control frame that stood in none: what comes now is another one. */
  #finishFrame(): boolean {
    this.#headerBytes = 0
    const opcode = this.#first & OPCODE
    if (opcode === CLOSE) this.#isOver = true
    else if (opcode > CLOSE) this.hasControl = true
    if (opcode < LEAST_CONTROL) this.#isMessageOpen = (this.#first & FIN) === 0
    return !this.#isMessageOpen
  }
}
