/** A sink that writes down what it is told, and waiting for it, for the tests of the stream transports. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import * as net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Endpoint } from '#src/core/endpoint.js'
import type { Link, LinkSink } from '#src/core/transport.js'

export const WAIT_MS = 5_000

export class Peer {
  readonly events: string[] = []
  text = ''
  bytes = 0
  drains = 0
  ends = 0
  closes = 0
  error: (Error & { code?: string }) | undefined
  constructor(readonly link: Link) {}
}

export class Recorder implements LinkSink {
  readonly peers: Peer[] = []
  readonly faults: {
    error: Error & { code?: string; fields?: Record<string, unknown> }
    remote: Endpoint | undefined
  }[] = []
  onOpen: ((peer: Peer) => void) | undefined
  onData: ((peer: Peer, chunk: Buffer) => void) | undefined
  onEnd: ((peer: Peer) => void) | undefined
  readonly #checks = new Set<() => void>()

  of(link: Link): Peer {
    return link.state as Peer
  }
  open(link: Link): void {
    const peer = new Peer(link)
    link.state = peer
    peer.events.push('open')
    this.peers.push(peer)
    this.onOpen?.(peer)
    this.#check()
  }
  data(link: Link, buffer: Uint8Array, start: number, end: number): void {
    const peer = this.of(link)
    if (peer.events.at(-1) !== 'data') peer.events.push('data')
    const chunk = Buffer.from(buffer.buffer, buffer.byteOffset + start, end - start)
    peer.bytes += chunk.length
    if (peer.bytes < 1_000_000) peer.text += chunk.toString('latin1')
    this.onData?.(peer, chunk)
    this.#check()
  }
  end(link: Link): void {
    const peer = this.of(link)
    peer.events.push('end')
    peer.ends++
    this.onEnd?.(peer)
    this.#check()
  }
  drain(link: Link): void {
    this.of(link).drains++
    this.#check()
  }
  close(link: Link, error?: Error): void {
    const peer = this.of(link)
    peer.events.push('close')
    peer.closes++
    peer.error = error as Peer['error']
    this.#check()
  }
  fault(error: Error, remote?: Endpoint): void {
    this.faults.push({ error, remote })
    this.#check()
  }

  /** Waits for a condition that a callback makes true. */
  until(isMet: () => boolean, what = String(isMet)): Promise<void> {
    if (isMet()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const check = () => {
        if (!isMet()) return
        clearTimeout(timer)
        this.#checks.delete(check)
        resolve()
      }
      const timer = setTimeout(
        () => reject(new Error(`waited for ${what}; faults: ${this.faults.map((f) => f.error)}`)),
        WAIT_MS,
      )
      this.#checks.add(check)
    })
  }
  async peer(index = 0): Promise<Peer> {
    await this.until(() => this.peers.length > index, `peer ${index}`)
    return this.peers[index] as Peer
  }

  #check(): void {
    for (const check of this.#checks) check()
  }
}

/** A plain socket on the other side: what it received, when it ended and how it closed. */
export class Raw {
  text = ''
  hasEnded = false
  error: NodeJS.ErrnoException | undefined
  readonly closed: Promise<void>
  readonly ended: Promise<void>
  constructor(readonly socket: net.Socket) {
    socket.setEncoding('latin1').on('data', (text) => (this.text += text))
    socket.on('error', (error) => (this.error = error))
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
    this.ended = new Promise((resolve) =>
      socket.once('end', () => {
        this.hasEnded = true
        resolve()
      }),
    )
  }
  until(part: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (!this.text.includes(part)) return
        clearTimeout(timer)
        this.socket.off('data', check)
        resolve()
      }
      const timer = setTimeout(() => reject(new Error(`waited for ${part}, got ${this.text}`)), WAIT_MS)
      this.socket.on('data', check)
      check()
    })
  }
}

export function rawConnect(endpoint: Endpoint | net.NetConnectOpts): Promise<Raw> {
  const options =
    'scheme' in endpoint
      ? endpoint.host === undefined
        ? { path: endpoint.path as string }
        : { host: endpoint.host, port: endpoint.port as number }
      : endpoint
  return new Promise((resolve, reject) => {
    const socket = net.connect({ ...options, allowHalfOpen: true } as net.NetConnectOpts)
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(new Raw(socket))
    })
  })
}

/** Awaits a rejection and gives the error. */
export async function failure(
  promise: Promise<unknown>,
): Promise<Error & { code: string; fields: Record<string, unknown> }> {
  try {
    await promise
  } catch (error) {
    return error as Error & { code: string; fields: Record<string, unknown> }
  }
  throw new Error('expected a failure, but it succeeded')
}

export function nextTurn(turns = 1): Promise<void> {
  return new Promise((resolve) => {
    const step = (left: number) => (left === 0 ? resolve() : setImmediate(step, left - 1))
    step(turns)
  })
}

/** A folder with a short path, gone when the process exits. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'gs-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** True when a command is there to be used. */
export function hasCommand(name: string): boolean {
  try {
    execFileSync('which', [name], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
