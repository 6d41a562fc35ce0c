/**
 * `wire-log`: what passes, both ways, as bytes and characters.
 *
 * Room: plugins/layers. For looking at a protocol while it is being written, never for production: it shows what peers say.
 */
import { LayerLink, LayerSink } from '../../core/layer-link.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Layer } from '../../core/plugin.js'
import type { Link, LinkSink } from '../../core/transport.js'
import { LayerFile } from './layer-file.js'

export interface WireLogOptions {
  file: string | undefined
  maxBytes: number
}

/** Waiting to be written; beyond it lines are left out, and counted. */
const MOST_WAITING = 1024 * 1024

export const wireLog: Factory<Layer, WireLogOptions> = {
  name: 'wire-log',
  options: optionSchema<WireLogOptions>({
    file: { unit: 'text', why: 'Where lines are added; default: standard error.' },
    maxBytes: { unit: 'bytes', min: 1, default: 256, why: 'Most bytes shown of one chunk.' },
  }),
  create(options) {
    const lines = new Lines(options.file)
    return { carriesMessages: true, wrap: (above) => new WireLogSink(above, options.maxBytes, lines) }
  },
}

class Lines {
  /** Undefined: standard error. */
  readonly file: LayerFile | undefined
  #left = 0

  constructor(file: string | undefined) {
    this.file = file === undefined ? undefined : new LayerFile(file, 'wire-log')
  }

  add(text: string): void {
    if ((this.file?.waiting ?? process.stderr.writableLength) > MOST_WAITING) {
      this.#left++
      return
    }
    const note = this.#left > 0 ? `(${this.#left} chunks were left out: the disk is slow)\n` : ''
    this.#left = 0
    if (this.file === undefined) process.stderr.write(note + text)
    else this.file.add(note + text)
  }
}

let nextNumber = 0

class LoggedLink extends LayerLink {
  readonly number = (++nextNumber).toString(36)
  readonly #sink: WireLogSink

  constructor(below: Link, sink: WireLogSink) {
    super(below)
    this.#sink = sink
  }
  override write(bytes: Uint8Array): boolean {
    this.#sink.log(this, '>', bytes, 0, bytes.length)
    return super.write(bytes)
  }
  override end(reason?: string): void {
    this.#sink.say(this, '> end')
    super.end(reason)
  }
  override abort(reason?: Error): void {
    this.#sink.say(this, '> abort')
    super.abort(reason)
  }
}

class WireLogSink extends LayerSink<LoggedLink> {
  readonly #most: number
  readonly #lines: Lines

  constructor(above: LinkSink, most: number, lines: Lines) {
    super(above)
    this.#most = most
    this.#lines = lines
  }

  protected override make(below: Link): LoggedLink {
    this.#lines.file?.enter()
    return new LoggedLink(below, this)
  }
  override open(below: Link): void {
    // Said before anything the session says in open().
    const link = this.make(below)
    below.state = link
    this.say(link, `open ${link.remote ?? 'a peer without an address'}`)
    this.above.open(link)
  }
  override data(below: Link, buffer: Uint8Array, start: number, end: number): void {
    this.log(this.linkOf(below), '<', buffer, start, end)
    super.data(below, buffer, start, end)
  }
  override end(below: Link, reason?: string): void {
    this.say(this.linkOf(below), '< end')
    super.end(below, reason)
  }
  override close(below: Link, error?: Error): void {
    this.say(this.linkOf(below), error === undefined ? 'closed' : `closed: ${printable(Buffer.from(error.message))}`)
    this.#lines.file?.leave()
    super.close(below, error)
  }

  say(link: LoggedLink, what: string): void {
    this.#lines.add(`${new Date().toISOString()} ${link.number} ${what}\n`)
  }

  log(link: LoggedLink, direction: string, buffer: Uint8Array, start: number, end: number): void {
    const shown = Buffer.from(buffer.subarray(start, Math.min(end, start + this.#most)))
    const rest = end - start - shown.length
    let text = `${new Date().toISOString()} ${link.number} ${direction} ${end - start} bytes${rest > 0 ? `, the first ${shown.length}` : ''}\n`
    for (let at = 0; at < shown.length; at += 16) {
      const row = shown.subarray(at, at + 16)
      const hex = row.toString('hex').replace(/../g, '$& ').padEnd(48)
      text += `  ${at.toString(16).padStart(4, '0')}  ${hex} ${printable(row)}\n`
    }
    this.#lines.add(text)
  }
}

/** A terminal must not obey a peer. */
function printable(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/[^\x20-\x7e]/g, '.')
}
