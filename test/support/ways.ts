/**
 * The ways in that have something before a connection: PROXY headers, TLS handshakes, WebSocket upgrades, and all of them at once.
 * What each is to a server, and a client that goes it step by step and may stop at any.
 */
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ServerOptions } from 'gaidaros'
import { generate } from 'selfsigned'

export type Step = 'header' | 'tls' | 'upgrade'

export interface Way {
  readonly name: string
  readonly options: Pick<ServerOptions, 'listen' | 'layers' | 'tls'>
  /** From the accept to the connection. */
  readonly steps: readonly Step[]
}

const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
export const certificate = { cert, key }

const tls = { tls: certificate }
const layer = { name: 'proxy-protocol', trusted: ['127.0.0.0/8'], timeoutMs: 60_000 } as const

export const ways: readonly Way[] = [
  { name: 'tls', options: { listen: 'tls://127.0.0.1:0', ...tls }, steps: ['tls'] },
  { name: 'ws', options: { listen: 'ws://127.0.0.1:0' }, steps: ['upgrade'] },
  { name: 'wss', options: { listen: 'wss://127.0.0.1:0', ...tls }, steps: ['tls', 'upgrade'] },
  { name: 'the layer tls', options: { listen: 'tcp://127.0.0.1:0', layers: ['tls'], ...tls }, steps: ['tls'] },
  {
    name: 'the layer tls, optional',
    options: { listen: 'tcp://127.0.0.1:0', layers: [{ name: 'tls', optional: true }], ...tls },
    steps: ['tls'],
  },
  { name: 'proxied tcp', options: { listen: 'tcp://127.0.0.1:0', layers: [layer] }, steps: ['header'] },
  { name: 'proxied tls', options: { listen: 'tls://127.0.0.1:0', layers: [layer], ...tls }, steps: ['header', 'tls'] },
  { name: 'proxied ws', options: { listen: 'ws://127.0.0.1:0', layers: [layer] }, steps: ['header', 'upgrade'] },
  {
    name: 'proxied wss',
    options: { listen: 'wss://127.0.0.1:0', layers: [layer], ...tls },
    steps: ['header', 'tls', 'upgrade'],
  },
]

/** Deadlines that decide nothing in a test. */
export const patient = { handshakeMs: 60_000, lingerMs: 200 }

export class Traveller {
  /** The socket beneath. */
  readonly raw: Socket
  /** What is spoken over: the same, or TLS above it. */
  socket: Socket
  heard = ''
  readonly #steps: readonly Step[]
  readonly #source: string
  #isWebSocket = false
  readonly over: Promise<void>

  constructor(port: number, steps: readonly Step[], options: { localAddress?: string; source?: string } = {}) {
    const { localAddress = '127.0.0.1', source = '192.0.2.1' } = options
    this.raw = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: false })
    this.raw.on('error', () => {})
    this.socket = this.raw
    this.#steps = steps
    this.#source = source
    this.over = new Promise((resolve) => this.raw.once('close', () => resolve()))
  }

  static async to(
    port: number,
    steps: readonly Step[],
    options?: { localAddress?: string; source?: string },
  ): Promise<Traveller> {
    const traveller = new Traveller(port, steps, options)
    await new Promise<void>((resolve, reject) => {
      traveller.raw.once('connect', resolve)
      traveller.raw.once('error', reject)
    })
    return traveller
  }

  /** Goes so many steps, from the first; -1: all. @throws where the other side does not go along. */
  async go(count = this.#steps.length): Promise<this> {
    for (const step of this.#steps.slice(0, count)) {
      if (step === 'header') this.socket.write(`PROXY TCP4 ${this.#source} 192.0.2.254 1234 443\r\n`)
      else if (step === 'tls') await this.#secure()
      else await this.#upgrade()
    }
    if (count === this.#steps.length) this.#listen()
    return this
  }

  async #secure(): Promise<void> {
    const secured = connectTls({ socket: this.raw, rejectUnauthorized: false })
    secured.on('error', () => {})
    await new Promise<void>((resolve, reject) => {
      secured.once('secureConnect', resolve)
      secured.once('close', () => reject(new Error('closed inside the TLS handshake')))
    })
    this.socket = secured
  }

  async #upgrade(): Promise<void> {
    this.#isWebSocket = true
    this.socket.write(
      'GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n',
    )
    await new Promise<void>((resolve, reject) => {
      let head = ''
      const take = (chunk: Buffer) => {
        head += chunk.toString('latin1')
        if (!head.includes('\r\n\r\n')) return
        this.socket.off('data', take)
        if (head.startsWith('HTTP/1.1 101')) resolve()
        else reject(new Error(head))
      }
      this.socket.on('data', take)
      this.socket.once('close', () => reject(new Error('closed inside the upgrade')))
    })
  }

  #listen(): void {
    this.socket.on('data', (chunk: Buffer) => (this.heard += chunk.toString('latin1')))
  }

  /** A line, or a text message. */
  say(text: string): this {
    if (!this.#isWebSocket) this.socket.write(`${text}\n`)
    else {
      const bytes = Buffer.from(text)
      // A mask of zeros leaves the bytes as they are (RFC 6455, section 5.3).
      this.socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | bytes.length, 0, 0, 0, 0]), bytes]))
    }
    return this
  }

  /** Resolves when what was heard contains this. */
  async hears(text: string): Promise<void> {
    while (!this.heard.includes(text)) {
      if (this.raw.destroyed)
        throw new Error(`expected to hear ${text}; heard ${JSON.stringify(this.heard)} and the end`)
      await new Promise<void>((resolve) => {
        this.socket.once('data', () => resolve())
        void this.over.then(resolve)
      })
    }
  }

  leave(): void {
    this.raw.destroy()
  }
}
