/** What the UDP tests share: a sink that writes everything down, plain far sockets, and waiting with a deadline. */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { type Endpoint, parseEndpoint } from '#src/core/endpoint.js'
import { GaidarosError } from '#src/core/errors.js'
import { defaultLimits, defaultTimeouts, type Limits, type Timeouts } from '#src/core/options.js'
import type { Link, LinkSink, Listener, TransportOptions } from '#src/core/transport.js'
import { type UdpOptions, udp } from '#src/transports/udp.js'

const DEADLINE_MS = 10_000

const waiting = new Set<() => void>()
const changed = () => {
  for (const look of waiting) look()
}

/** Resolves when the condition holds; it is looked at whenever something arrived. */
export function until(condition: () => boolean, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer)
      waiting.delete(look)
    }
    const timer = setTimeout(() => {
      done()
      reject(new Error(`waited ${DEADLINE_MS} ms for ${what}`))
    }, DEADLINE_MS)
    const look = () => {
      if (!condition()) return
      done()
      resolve()
    }
    waiting.add(look)
    look()
  })
}

export class UdpRecord implements LinkSink {
  readonly opened: Link[] = []
  readonly closed: { link: Link; error: Error | undefined }[] = []
  readonly messages: { link: Link; bytes: Buffer }[] = []
  readonly faults: { error: Error; remote: Endpoint | undefined }[] = []
  readonly drained: Link[] = []
  readonly order: string[] = []
  onOpen: (link: Link) => void = () => {}
  onData: (link: Link, bytes: Buffer) => void = () => {}

  open(link: Link): void {
    this.opened.push(link)
    this.order.push('open')
    this.onOpen(link)
    changed()
  }
  data(link: Link, buffer: Uint8Array, start: number, end: number): void {
    const bytes = Buffer.from(buffer.buffer, buffer.byteOffset + start, end - start)
    this.messages.push({ link, bytes })
    this.order.push('data')
    this.onData(link, bytes)
    changed()
  }
  end(): void {
    this.order.push('end')
  }
  drain(link: Link): void {
    this.drained.push(link)
    changed()
  }
  close(link: Link, error?: Error): void {
    this.closed.push({ link, error })
    this.order.push('close')
    changed()
  }
  fault(error: Error, remote?: Endpoint): void {
    this.faults.push({ error, remote })
    changed()
  }

  texts(link?: Link): string[] {
    return this.messages.filter((m) => link === undefined || m.link === link).map((m) => m.bytes.toString())
  }
  lost(reason: string): number {
    let count = 0
    for (const { error } of this.faults) {
      const { fields } = error as GaidarosError
      if (fields.reason === reason) count += fields.count as number
    }
    return count
  }
}

interface Settings extends UdpOptions {
  limits?: Partial<Limits>
  timeouts?: Partial<Timeouts>
}

export function settled({ limits, timeouts, ...options }: Settings = {}): TransportOptions<UdpOptions> {
  return { ...options, limits: { ...defaultLimits, ...limits }, timeouts: { ...defaultTimeouts, ...timeouts } }
}

const records = new Set<UdpRecord>()
const listeners = new Set<Listener>()
const sockets = new Set<Far>()

export async function listen(
  endpoint: string,
  settings?: Settings,
): Promise<{ listener: Listener; record: UdpRecord; port: number }> {
  const record = new UdpRecord()
  const listener = await udp.listen(parseEndpoint(endpoint), settled(settings), record)
  listeners.add(listener)
  records.add(record)
  return { listener, record, port: listener.endpoint.port as number }
}

export async function connect(
  endpoint: string,
  settings?: Settings,
  signal: AbortSignal = new AbortController().signal,
): Promise<{ link: Link; record: UdpRecord }> {
  const record = new UdpRecord()
  records.add(record)
  const link = await udp.connect?.(parseEndpoint(endpoint), settled(settings), record, signal)
  return { link: link as Link, record }
}

/** Ends what a test opened. */
export async function cleanUp(): Promise<void> {
  for (const listener of listeners) void listener.unbind()
  for (const record of records) {
    for (const link of record.opened) link.abort()
    await until(() => record.closed.length === record.opened.length, 'links to close')
  }
  listeners.clear()
  records.clear()
  for (const far of sockets) far.close()
}

/** A plain socket of the other side. */
export class Far {
  readonly received: { bytes: Buffer; from: RemoteInfo }[] = []
  readonly #socket: Socket
  readonly #port: number
  readonly #host: string

  static async open(port: number, host = '127.0.0.1', address?: string): Promise<Far> {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    const far = new Far(socket, port, host)
    sockets.add(far)
    socket.bind(0, address)
    await once(socket, 'listening')
    return far
  }

  private constructor(socket: Socket, port: number, host: string) {
    this.#socket = socket
    this.#port = port
    this.#host = host
    socket.on('message', (bytes, from) => {
      this.received.push({ bytes, from })
      changed()
    })
  }

  get port(): number {
    return this.#socket.address().port
  }
  texts(): string[] {
    return this.received.map(({ bytes }) => bytes.toString())
  }
  send(bytes: string | Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(bytes, this.#port, this.#host, (error) => (error ? reject(error) : resolve()))
    })
  }
  close(): void {
    if (sockets.delete(this)) this.#socket.close()
  }
}

export const codeOf = (error: unknown): string =>
  error instanceof GaidarosError ? error.code : `no GaidarosError: ${error}`
