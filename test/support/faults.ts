/**
 * What tests of faults share: a server of a few lines, its events as they come, and raw peers.
 *
 * Imports the package by its name, as users do.
 */
import { connect, type Socket } from 'node:net'
import {
  type ConfiguredServer,
  createServer,
  type EventName,
  type Events,
  eventNames,
  type ServerOptions,
} from 'gaidaros'

export interface Watched {
  readonly server: ConfiguredServer
  readonly port: number
  /** Every event so far. */
  readonly seen: { readonly name: EventName; readonly event: unknown }[]
  /** Resolves with the next (or an earlier, unclaimed) event that fits. */
  until<N extends EventName>(name: N, fits?: (event: Events[N]) => boolean): Promise<Events[N]>
  count(name: EventName): number
}

const running = new Set<ConfiguredServer>()

/** Starts a server on a free port of IPv4's loopback. */
export async function serve(options: ServerOptions): Promise<Watched> {
  // Peers of these tests stay after the end; nobody needs to wait two seconds for each.
  const timeouts = { lingerMs: 200, ...options.timeouts }
  const server = await createServer({ config: false, listen: 'tcp://127.0.0.1:0', ...options, timeouts })
  running.add(server)
  const seen: { name: EventName; event: unknown }[] = []
  const claimed = new Set<object>()
  const waiting = new Set<() => void>()
  for (const name of eventNames) {
    server.on(name, (event) => {
      seen.push({ name, event })
      for (const check of [...waiting]) check()
    })
  }
  await server.start()
  return {
    server,
    port: server.listeners.get([...server.listeners][0]?.name ?? '')?.endpoint.port ?? 0,
    seen,
    count: (name) => seen.filter((entry) => entry.name === name).length,
    until: (name, fits = () => true) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(check)
          const names = seen.map((entry) => entry.name).join(', ')
          reject(new Error(`no ${name} came within 20 s; seen: ${names}`))
        }, 20_000)
        const check = () => {
          const found = seen.find((entry) => entry.name === name && !claimed.has(entry) && fits(entry.event as never))
          if (found === undefined) return
          claimed.add(found)
          clearTimeout(timer)
          waiting.delete(check)
          resolve(found.event as never)
        }
        waiting.add(check)
        check()
      }),
  }
}

/** Stops every server of this file; call it in `test.after`. */
export async function stopAll(): Promise<void> {
  for (const server of running) await server.stop({ timeoutMs: 0 })
}

/** A raw TCP peer that remembers what it heard. */
export class Peer {
  readonly socket: Socket
  heard = ''
  isOver = false
  error: Error | undefined
  readonly over: Promise<void>

  constructor(port: number, options: { host?: string; localAddress?: string } = {}) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true, ...options })
    this.socket.on('data', (chunk) => {
      this.heard += chunk.toString('latin1')
    })
    this.socket.on('error', (error) => {
      this.error = error
    })
    // Over: the server has finished its side, or cut both.
    this.over = new Promise((resolve) => {
      const done = () => {
        this.isOver = true
        resolve()
      }
      this.socket.once('end', done)
      this.socket.once('close', done)
    })
  }

  static async open(port: number, options: { host?: string; localAddress?: string } = {}): Promise<Peer> {
    const peer = new Peer(port, options)
    await new Promise<void>((resolve, reject) => {
      peer.socket.once('connect', resolve)
      peer.socket.once('error', reject)
    })
    return peer
  }

  send(data: string | Uint8Array): this {
    this.socket.write(data)
    return this
  }

  /** Resolves when what was heard contains this. */
  async hears(text: string): Promise<void> {
    while (!this.heard.includes(text)) {
      if (this.isOver)
        throw new Error(
          `expected to hear ${JSON.stringify(text)}; heard ${JSON.stringify(this.heard.slice(-200))} and the end`,
        )
      await new Promise<void>((resolve) => {
        this.socket.once('data', () => resolve())
        void this.over.then(resolve)
      })
    }
  }

  /** Sends a line and takes its echo: proof that a server still serves. */
  async echoes(text: string): Promise<void> {
    this.send(`${text}\n`)
    await this.hears(`${text}\n`)
  }

  leave(): void {
    this.socket.destroy()
  }
}

/** Resident memory after a collection where there is one to ask for (`node --expose-gc`). */
export function memory(): { readonly heap: number; readonly buffers: number; readonly resident: number } {
  ;(globalThis as { gc?: () => void }).gc?.()
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage()
  return { heap: heapUsed, buffers: arrayBuffers, resident: rss }
}

/** Turns of the event loop, for what has no event of its own. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

/** Asks again and again, a turn between, until it is so. */
export async function eventually(isSo: () => boolean, what: string, withinMs = 10_000): Promise<void> {
  const until = performance.now() + withinMs
  while (!isSo()) {
    if (performance.now() > until) throw new Error(`${what}: not so within ${withinMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
