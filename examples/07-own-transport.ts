/**
 * A transport of one's own: two programs that talk through a pair of FIFOs. Core adds framing, limits, deadlines, drain.
 * `gaidaros init transport` writes a fuller one, with the conformance test.
 *
 *   mkfifo in out && npx gaidaros serve --config examples/07-own-transport.ts
 *   cat out & echo hello > in                 → hello, through a pipe
 */
import { createReadStream, createWriteStream } from 'node:fs'
import { type Capabilities, defineConfig, definePlugin, type Link, type Transport } from 'gaidaros'

const capabilities: Capabilities = {
  kind: 'stream',
  ordered: true,
  reliable: true,
  halfClose: true,
  reset: false,
  backpressure: 'end-to-end',
  upgrade: [],
}

const fifo: Transport = {
  name: 'fifo',
  schemes: ['fifo'],
  capabilities: () => capabilities,
  async listen(endpoint, _options, sink) {
    const [input, output] = (endpoint.path ?? '').split(',').map((path) => path.trim()) as [string, string]
    const from = createReadStream(input, { flags: 'r+' })
    const to = createWriteStream(output, { flags: 'r+' })
    const link: Link = {
      state: undefined,
      get buffered() {
        return to.writableLength
      },
      write: (bytes) => to.write(bytes),
      pause: () => void from.pause(),
      resume: () => void from.resume(),
      end: () => void to.end(() => from.destroy()),
      abort: () => void (to.destroy(), from.destroy()),
    }
    from.on('data', (chunk) => sink.data(link, chunk as Buffer, 0, chunk.length))
    to.on('drain', () => sink.drain(link))
    from.once('close', () => sink.close(link))
    sink.open(link)
    return { endpoint, pause: () => link.pause(), resume: () => link.resume(), unbind: async () => {} }
  },
}

export default defineConfig({
  plugins: [definePlugin({ name: 'fifo', setup: (registry) => void registry.transport(fifo) })],
  listen: `fifo:${process.env.FIFOS ?? './in,./out'}`,
  handler: (line: string) => `${line}, through a pipe`,
})
