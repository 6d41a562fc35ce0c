/**
 * The server name a client asks for, read before TLS begins.
 *
 * Room: transports. OpenSSL looks for a session in the context it was begun with, before anybody can choose one by name, and
 * forgets the name of a TLS 1.2 session that is taken up (SSL_get_servername(3)). So the first flight is looked at and put
 * back. Nothing is refused here: what cannot be read is left to OpenSSL, which knows how to say so.
 */
import type { Socket } from 'node:net'

/** RFC 8446, section 5.1: a record of type handshake. */
const HANDSHAKE = 22
/** RFC 8446, section 4. */
const CLIENT_HELLO = 1
/** RFC 6066, section 3. */
const SERVER_NAME = 0
const HOST_NAME = 0
const RECORD_HEAD = 5
const MESSAGE_HEAD = 4
/** Hellos with post-quantum shares and large tickets are a few KiB; more is not looked through. */
const MOST_BYTES = 64 * 1024

/**
 * Waits for the whole ClientHello, however it is cut, and puts back every byte.
 *
 * @param done - Runs once, with the name as it was sent; undefined: there is none, or what came is no ClientHello. Does not run
 * for a socket that closes before.
 */
export function readServerName(raw: Socket, done: (name: string | undefined) => void): void {
  const reader = new HelloReader()
  const chunks: Buffer[] = []
  const take = () => {
    let isOver = false
    for (let chunk = raw.read() as Buffer | null; chunk !== null; chunk = raw.read() as Buffer | null) {
      chunks.push(chunk)
      isOver = reader.push(chunk) || isOver
    }
    if (!isOver) return
    raw.off('readable', take)
    raw.unshift(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks))
    if (!raw.destroyed) done(reader.name)
  }
  raw.on('readable', take)
  // What has come already is told of no more where somebody has listened for it before.
  if (raw.readableLength > 0) take()
}

/** Puts a ClientHello together from records, each byte looked at once. */
export class HelloReader {
  name: string | undefined
  /** Of the record: type, version, length. */
  readonly #head = Buffer.alloc(RECORD_HEAD)
  #headBytes = 0
  /** Left of the record. */
  #left = 0
  readonly #body: Buffer[] = []
  #bodyBytes = 0
  #needed = MESSAGE_HEAD
  #seen = 0

  /** @returns whether there is no more to learn. */
  push(chunk: Buffer): boolean {
    this.#seen += chunk.length
    let at = 0
    while (at < chunk.length) {
      if (this.#left === 0) {
        const end = Math.min(chunk.length, at + RECORD_HEAD - this.#headBytes)
        this.#headBytes += chunk.copy(this.#head, this.#headBytes, at, end)
        at = end
        if (this.#head[0] !== HANDSHAKE) return true
        if (this.#headBytes < RECORD_HEAD) break
        this.#headBytes = 0
        this.#left = this.#head.readUInt16BE(3)
        // RFC 8446, section 5.1: a fragment of a handshake message is never empty.
        if (this.#left === 0) return true
        continue
      }
      const end = Math.min(chunk.length, at + this.#left)
      this.#left -= end - at
      this.#body.push(chunk.subarray(at, end))
      this.#bodyBytes += end - at
      at = end
      if (this.#bodyBytes < this.#needed) continue
      const message = Buffer.concat(this.#body)
      if (this.#needed === MESSAGE_HEAD) {
        if (message[0] !== CLIENT_HELLO) return true
        this.#needed = MESSAGE_HEAD + message.readUIntBE(1, 3)
      }
      if (this.#bodyBytes < this.#needed) continue
      this.name = nameIn(message.subarray(MESSAGE_HEAD, this.#needed))
      return true
    }
    return this.#seen >= MOST_BYTES
  }
}

/** RFC 8446, section 4.1.2, and as TLS 1.2 has it; undefined for whatever does not add up. */
function nameIn(hello: Buffer): string | undefined {
  try {
    let at = 2 + 32
    at += 1 + hello.readUInt8(at)
    at += 2 + hello.readUInt16BE(at)
    at += 1 + hello.readUInt8(at)
    const end = at + 2 + hello.readUInt16BE(at)
    for (at += 2; at + 4 <= end; ) {
      const type = hello.readUInt16BE(at)
      const length = hello.readUInt16BE(at + 2)
      at += 4
      // A list of names, of which there is but one of each type; OpenSSL refuses further ones.
      if (type === SERVER_NAME && hello.readUInt8(at + 2) === HOST_NAME) {
        const bytes = hello.readUInt16BE(at + 3)
        const name = hello.subarray(at + 5, at + 5 + bytes)
        return bytes === 0 || name.length < bytes || bytes + 5 > length ? undefined : name.toString('latin1')
      }
      at += length
    }
  } catch {
    // Past the end.
  }
  return undefined
}
