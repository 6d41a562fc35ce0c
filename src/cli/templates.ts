/**
 * The files that `init` writes.
 *
 * Room: the command line. The tests install the package, write these and run them.
 */
import { version } from '../version.js'

type Files = Readonly<Record<string, string>>

export function projectFiles(name: string): Files {
  return {
    'package.json': json({
      name,
      version: '0.1.0',
      private: true,
      type: 'module',
      scripts: { start: 'gaidaros serve', check: 'gaidaros check' },
      dependencies: { gaidaros: `^${version}` },
    }),
    'gaidaros.config.json': json({
      $schema: './node_modules/gaidaros/dist/schema.json',
      handlers: ['./handlers/*.ts'],
      listeners: {
        public: { endpoint: 'tcp://localhost:8080', handler: 'Greeter' },
        local: { endpoint: 'unix:./greeter.sock', handler: 'Greeter' },
      },
    }),
    'handlers/greeter.ts': `import { type Connection, Handler, OnMessage, OnOpen } from 'gaidaros'

@Handler({ codec: 'line' })
export class Greeter {
  @OnOpen() welcome() {
    return 'who are you?'
  }

  @OnMessage() greet(name: string, connection: Connection) {
    return \`hello \${name}, over \${connection.transport}\`
  }
}
`,
    'tsconfig.json': json({
      compilerOptions: {
        target: 'es2022',
        module: 'nodenext',
        strict: true,
        noEmit: true,
        skipLibCheck: true,
        experimentalDecorators: true,
        emitDecoratorMetadata: true,
      },
    }),
    '.gitignore': 'node_modules/\n*.sock\n',
    'README.md': `# ${name}

    npm install
    npm start                       # serves what gaidaros.config.json says
    echo Ada | ncat localhost 8080
    npx gaidaros explain            # each listener from endpoint to handler, and why
`,
  }
}

export function transportFiles(name: string): Files {
  // With a suffix, because a name may be a word of the language, or of the file.
  const variable = `${name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())}Transport`
  return {
    'package.json': json({
      name: `gaidaros-transport-${name}`,
      version: '0.1.0',
      type: 'module',
      main: './transport.js',
      scripts: { test: 'node --test' },
      peerDependencies: { gaidaros: `^${version}` },
      devDependencies: { gaidaros: `^${version}` },
    }),
    'transport.js': transportSource(name, variable),
    'plugin.js': `import { definePlugin } from 'gaidaros'
import { ${variable} } from './transport.js'

/** In a configuration: "plugins": ["gaidaros-transport-${name}/plugin.js"], then "listen": "${name}://localhost:9000". */
export default definePlugin({
  name: '${name}',
  setup: (registry) => {
    registry.transport(${variable})
  },
})
`,
    'transport.test.js': `import { after, before, test } from 'node:test'
import { transportConformance } from 'gaidaros/testing'
import { ${variable} } from './transport.js'

// Every promise of a transport is a test. What yours cannot do is declared in capabilities, or skipped with a reason.
transportConformance({ name: '${name}', transport: ${variable}, endpoint: '${name}://127.0.0.1:0', skip: [] }, { test, before, after })
`,
    'README.md': `# A Gaidaros transport: ${name}

    npm install
    npm test            # the published conformance suite

It serves over node:net, so that it works from the start: replace the inside of transport.js by what you have. The
contract, with what each side must do, is in gaidaros' types (Transport, Link, LinkSink).
`,
  }
}

function transportSource(name: string, variable: string): string {
  const link = `${variable[0]?.toUpperCase()}${variable.slice(1, -'Transport'.length)}Link`
  return `import { createServer, connect as dial } from 'node:net'
import { BindError, ConnectionError, Endpoint } from 'gaidaros'

const HIGH = 64 * 1024
const LOW = 16 * 1024

/** One peer. Pushes what comes into the sink; takes what goes out. */
class ${link} {
  state = undefined
  /** The buffers given to data() are never written again. */
  stable = true
  #socket
  #sink
  #isOver = false
  #hasEnded = false
  #isPaused = false
  #error

  constructor(socket, sink) {
    this.#socket = socket
    this.#sink = sink
    this.local = endpointOf(socket.localAddress, socket.localPort)
    this.remote = endpointOf(socket.remoteAddress, socket.remotePort)
    socket.on('data', (chunk) => sink.data(this, chunk, 0, chunk.length))
    socket.on('end', () => sink.end(this))
    socket.on('error', (cause) => {
      this.#error = new ConnectionError('RESET', 'the connection was cut', { cause })
    })
    socket.on('close', () => sink.close(this, this.#error))
    sink.open(this)
    // Nothing is delivered before open() has had its say.
    if (!this.#isPaused) socket.resume()
  }

  get buffered() {
    return this.#socket.writableLength
  }

  write(bytes) {
    if (this.#hasEnded || this.#socket.destroyed) return true
    this.#socket.write(bytes, () => {
      if (!this.#isOver || this.#socket.destroyed || this.buffered > LOW) return
      this.#isOver = false
      this.#sink.drain(this)
    })
    this.#isOver ||= this.buffered > HIGH
    return !this.#isOver
  }

  pause() {
    this.#isPaused = true
    this.#socket.pause()
  }

  resume() {
    this.#isPaused = false
    this.#socket.resume()
  }

  end() {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#socket.end()
  }

  abort() {
    // After end() Node's resetAndDestroy() would wait for the peer; destroying does not.
    if (this.#hasEnded) this.#socket.destroy()
    else this.#socket.resetAndDestroy()
    this.#hasEnded = true
  }
}

const endpointOf = (host, port) => (host === undefined ? undefined : new Endpoint({ scheme: '${name}', host, port }))

export const ${variable} = {
  name: '${name}',
  schemes: ['${name}'],

  capabilities: () => ({
    kind: 'stream',
    ordered: true,
    reliable: true,
    halfClose: true,
    reset: true,
    backpressure: 'end-to-end',
    upgrade: [],
  }),

  async listen(endpoint, _options, sink) {
    const held = new Set()
    let isPaused = false
    let isUnbound = false
    const serve = (socket) => new ${link}(socket, sink)
    const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
      if (isUnbound && isPaused) {
        socket.destroy()
        return
      }
      if (isPaused) {
        // Newcomers wait; those that give up are forgotten.
        held.add(socket)
        socket.on('error', () => {})
        socket.once('close', () => held.delete(socket))
        return
      }
      serve(socket)
    })
    await new Promise((resolve, reject) => {
      server.once('error', (cause) => {
        const code = cause.code === 'EADDRINUSE' ? 'ADDRESS_IN_USE' : 'BIND_FAILED'
        reject(new BindError(code, \`cannot listen at \${endpoint}: \${cause.message}\`, { cause }))
      })
      server.listen(endpoint.port, endpoint.host, resolve)
    })
    return {
      endpoint: endpoint.with({ port: server.address().port }),
      pause() {
        isPaused = true
      },
      resume() {
        isPaused = false
        for (const socket of held) {
          held.delete(socket)
          serve(socket)
        }
      },
      async unbind() {
        isUnbound = true
        // Those the kernel has let in already are taken in this turn.
        await new Promise((resolve) => setImmediate(resolve))
        for (const socket of held) socket.destroy()
        if (server.listening) server.close()
        await new Promise((resolve) => setImmediate(resolve))
      },
    }
  },

  connect(endpoint, _options, sink, signal) {
    return new Promise((resolve, reject) => {
      const giveUp = () => {
        socket.destroy()
        reject(new ConnectionError('CONNECT_TIMEOUT', \`\${endpoint} did not answer in time\`))
      }
      const socket = dial({ host: endpoint.host, port: endpoint.port, allowHalfOpen: true, noDelay: true })
      socket.pause()
      const refuse = (cause) => {
        signal.removeEventListener('abort', giveUp)
        reject(new ConnectionError('REFUSED', \`nobody listens at \${endpoint}\`, { cause }))
      }
      socket.once('error', refuse)
      socket.once('connect', () => {
        socket.removeListener('error', refuse)
        signal.removeEventListener('abort', giveUp)
        resolve(new ${link}(socket, sink))
      })
      if (signal.aborted) giveUp()
      else signal.addEventListener('abort', giveUp, { once: true })
    })
  },
}
`
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}
