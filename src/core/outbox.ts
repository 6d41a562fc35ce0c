/**
 * What is on its way out of one connection: gathered during a turn, written in one go.
 *
 * Room: core, mechanism of the session. Text is gathered by concatenation (V8 makes a rope, the transport encodes it once);
 * bytes stand in a list. One write a turn costs a tenth of one write a reply.
 */
import type { Link } from './transport.js'

/** Below this, pieces are joined: a copy is cheaper than a further entry of a gathering write. */
const JOIN_BYTES = 16 * 1024

export type Piece = Uint8Array | string

export class Outbox {
  /** Gathered text that stands behind `#pieces`. */
  #text = ''
  #pieces: Piece[] | undefined
  /** Units gathered: bytes, or characters of text (at most a third of its bytes; enough to decide when to flush). */
  gathered = 0
  /** Bytes handed to the link so far. */
  written = 0

  add(piece: Piece): void {
    this.gathered += piece.length
    if (typeof piece === 'string') {
      this.#text += piece
      return
    }
    this.#pieces ??= []
    if (this.#text !== '') {
      this.#pieces.push(this.#text)
      this.#text = ''
    }
    this.#pieces.push(piece)
  }

  /** Writes everything gathered. @returns what the link said: false asks to wait for `drain`. */
  flush(link: Link): boolean {
    const text = this.#text
    const pieces = this.#pieces
    this.#text = ''
    this.#pieces = undefined
    this.gathered = 0
    if (pieces === undefined) return text === '' ? true : this.#writeText(link, text)
    if (text !== '') pieces.push(text)
    if (pieces.length === 1) return this.#writeBytes(link, pieces[0] as Uint8Array)

    const bytes: Uint8Array[] = []
    let total = 0
    for (const piece of pieces) {
      const part = typeof piece === 'string' ? Buffer.from(piece) : piece
      total += part.length
      bytes.push(part)
    }
    if (total > JOIN_BYTES && link.writeMany !== undefined) {
      this.written += total
      return link.writeMany(bytes)
    }
    return this.#writeBytes(link, Buffer.concat(bytes, total))
  }

  /** One message on a message transport: gathering would lose its bounds. Text stays text where the transport knows it. */
  writeMessage(link: Link, piece: Piece): boolean {
    return typeof piece === 'string' ? this.#writeText(link, piece) : this.#writeBytes(link, piece)
  }

  clear(): void {
    this.#text = ''
    this.#pieces = undefined
    this.gathered = 0
  }

  #writeText(link: Link, text: string): boolean {
    if (link.writeText === undefined) return this.#writeBytes(link, Buffer.from(text))
    this.written += Buffer.byteLength(text)
    return link.writeText(text)
  }

  #writeBytes(link: Link, bytes: Uint8Array): boolean {
    this.written += bytes.length
    return link.write(bytes)
  }
}
