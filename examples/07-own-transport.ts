/**
 * A transport of one's own: the peer is a program, its input and output the wire. Core adds framing, limits, deadlines and
 * drain. `gaidaros init transport` writes a fuller one, with the conformance test.
 *
 *   npx gaidaros serve --config examples/07-own-transport.ts
 *                                             (the program says a word, and prints what it is answered)
 */
import { spawn } from 'node:child_process'
import { type Capabilities, defineConfig, definePlugin, type Link, type Transport } from 'gaidaros'

const base = { kind: 'stream', ordered: true, reliable: true, reset: false, upgrade: [] } as const
const capabilities: Capabilities = { ...base, halfClose: true, backpressure: 'end-to-end' }

const exec: Transport = {
  name: 'exec',
  schemes: ['exec'],
  capabilities: () => capabilities,
  async listen(endpoint, _options, sink) {
    const { stdin, stdout } = spawn('sh', ['-c', endpoint.path ?? ''], { stdio: ['pipe', 'pipe', 'inherit'] })
    const link: Link = {
      state: undefined,
      get buffered() {
        return stdin.writableLength
      },
      write: (bytes) => stdin.write(bytes),
      pause: () => void stdout.pause(),
      resume: () => void stdout.resume(),
      end: () => void stdin.end(),
      abort: () => void (stdin.destroy(), stdout.destroy()),
    }
    stdin.on('drain', () => sink.drain(link)).on('error', () => {})
    stdout.on('data', (chunk) => sink.data(link, chunk, 0, chunk.length))
    stdout.on('end', () => sink.end(link)).once('close', () => sink.close(link))
    sink.open(link)
    return { endpoint, pause: () => link.pause(), resume: () => link.resume(), unbind: async () => {} }
  },
}

export default defineConfig({
  plugins: [definePlugin({ name: 'exec', setup: (registry) => void registry.transport(exec) })],
  listen: 'exec:echo Ada; read answer; echo "the program heard: $answer" >&2; read more',
  limits: { lineBytes: 1024 },
  handler: (line: string) => `hello ${line}`,
})
