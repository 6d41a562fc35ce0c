/**
 * A file that layers write to while there are links: open from the first line to the last link's end.
 *
 * Room: plugins/layers. A listener that is gone, or idle, holds no descriptor.
 */
import { createWriteStream, type WriteStream } from 'node:fs'

export class LayerFile {
  readonly #file: string
  readonly #layer: string
  #stream: WriteStream | undefined
  #links = 0

  /** @param layer - For the warning when the disk is full: that must not end the server. */
  constructor(file: string, layer: string) {
    this.#file = file
    this.#layer = layer
  }

  /** Bytes that wait for the disk. */
  get waiting(): number {
    return this.#stream?.writableLength ?? 0
  }

  enter(): void {
    this.#links++
  }

  /** Once for each `enter`. Closes the file when nobody is left and all is written. */
  leave(): void {
    this.#links--
    const stream = this.#stream
    if (this.#links > 0 || stream === undefined) return
    stream.write('', () => {
      if (this.#links > 0 || stream !== this.#stream || stream.writableLength > 0) return
      this.#stream = undefined
      stream.end()
    })
  }

  add(data: string | Buffer): void {
    this.#stream ??= this.#open('a')
    this.#stream.write(data)
  }

  /** Begins with an empty file; what waited goes to the one before, wherever that is by now. */
  replace(head: Buffer): void {
    this.#stream?.end()
    this.#stream = this.#open('w')
    this.#stream.write(head)
  }

  #open(flags: 'a' | 'w'): WriteStream {
    const stream = createWriteStream(this.#file, { flags, mode: 0o600 })
    stream.on('error', (error) => process.emitWarning(`${this.#layer}: ${error.message}`, 'GaidarosWarning'))
    return stream
  }
}
