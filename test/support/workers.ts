/** Several server processes by the command: started, counted, killed; and a load that keeps a ledger (who sent, who answered). */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Command, gaidaros, root } from './command.js'

/** A folder with the package in it, for configurations and handlers. */
export class Folder {
  readonly path = mkdtempSync(join(tmpdir(), 'gw-'))

  constructor() {
    mkdirSync(join(this.path, 'node_modules'))
    symlinkSync(root, join(this.path, 'node_modules', 'gaidaros'))
  }

  at(name: string): string {
    return join(this.path, name)
  }

  write(name: string, text: string | object): string {
    writeFileSync(this.at(name), typeof text === 'string' ? text : JSON.stringify(text))
    return this.at(name)
  }

  read(name: string): string {
    return readFileSync(this.at(name), 'utf8')
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

export interface Status {
  readonly state: string
  readonly pid: number
  readonly connections: number
  readonly counters: Readonly<Record<string, number>>
  readonly listeners: readonly {
    name: string
    endpoints: string[]
    connections: number
    limit: number
    state: string
  }[]
  readonly workers: readonly { name: string; pid: number; generation: number; state: string; connections: number }[]
}

export class Serving {
  readonly command: Command
  readonly control: string
  ports: Record<string, number> = {}

  constructor(
    folder: Folder,
    args: readonly string[],
    options: { env?: Record<string, string>; limitMs?: number } = {},
  ) {
    this.control = folder.at(`${Math.random().toString(36).slice(2, 8)}.sock`)
    this.command = gaidaros(['serve', '--control', this.control, ...args], {
      cwd: folder.path,
      limitMs: 110_000,
      ...options,
    })
  }

  static async start(
    folder: Folder,
    args: readonly string[],
    options: { env?: Record<string, string>; limitMs?: number } = {},
  ): Promise<Serving> {
    const serving = new Serving(folder, args, options)
    serving.ports = await serving.command.ready()
    return serving
  }

  get port(): number {
    return Object.values(this.ports)[0] ?? 0
  }

  /** Asks the control socket. */
  async ask<T = unknown>(command: string, more: object = {}): Promise<{ ok: boolean; result: T; error?: string }> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.control)
      let heard = ''
      socket.on('error', reject)
      socket.on('data', (chunk) => {
        heard += chunk
        if (!heard.endsWith('\n')) return
        socket.destroy()
        resolve(JSON.parse(heard))
      })
      socket.write(`${JSON.stringify({ id: 1, command, ...more })}\n`)
    })
  }

  async status(): Promise<Status> {
    return (await this.ask<Status>('status')).result
  }

  /** Process ids of the workers that serve, by their place. */
  async pids(): Promise<number[]> {
    const { workers } = await this.status()
    return workers.filter(({ state }) => state === 'ready').map(({ pid }) => pid)
  }

  /** Waits until so many workers serve, and none else is left. */
  async settles(count: number, withinMs = 30_000): Promise<number[]> {
    const until = performance.now() + withinMs
    for (;;) {
      const { workers, state } = await this.status()
      const ready = workers.filter((one) => one.state === 'ready')
      if (ready.length === count && workers.length === count && state === 'ready') return ready.map(({ pid }) => pid)
      if (performance.now() > until) throw new Error(`expected ${count} workers; there are ${JSON.stringify(workers)}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  async stop(): Promise<number | string> {
    this.command.child.kill('SIGTERM')
    return this.command.ended
  }
}

/** One line to a server, and its answer; the connection is then closed. */
export function once(
  where: number | string,
  line: string,
  options: { localAddress?: string; host?: string } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket =
      typeof where === 'string'
        ? connect(where)
        : connect({ port: where, host: options.host ?? '127.0.0.1', ...options })
    let heard = ''
    socket.once('connect', () => socket.write(`${line}\n`))
    socket.on('data', (chunk) => {
      heard += chunk
      if (!heard.endsWith('\n')) return
      socket.end()
    })
    socket.on('error', reject)
    socket.on('close', () => {
      if (heard.endsWith('\n')) resolve(heard.trimEnd())
      else reject(new Error(`no answer to ${line}: heard ${JSON.stringify(heard)}`))
    })
  })
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** A handler that writes down what it handles, before it answers with that and its process. */
export const ledgerHandler = `import { openSync, writeSync } from 'node:fs'
const file = openSync(process.env.LEDGER, 'a')
export default (line) => {
  writeSync(file, line + '\\n')
  return line + ' ' + process.pid
}
`

const loads = new Set<Load>()

/** Ends what a failed test left running. */
export function endLoads(): void {
  for (const load of loads) load.cut()
}

/** Clients that send numbered messages, one at a time, and connect again when they are cut. */
export class Load {
  readonly sent = new Set<string>()
  readonly acked = new Map<string, string>()
  /** Sent on connections that then closed without an answer. */
  readonly unknown: string[] = []
  /** Of these, where the connection did not end in order. */
  readonly broken: string[] = []
  readonly connectErrors: string[] = []
  opened = 0
  /** Closed while nothing was unanswered. */
  goodbyes = 0
  #isOver = false
  #number = 0
  readonly #sockets = new Set<Socket>()
  readonly #clients: Promise<void>[]
  readonly #port: number
  readonly #perConnection: number
  readonly #pauseMs: number
  readonly #everyMs: number

  /**
   * @param perConnection - Messages after which a client itself closes and connects again.
   * @param perSecond - Of all clients together: each asks when it is due, and makes good for what it could not; in place of `pauseMs`.
   */
  constructor(port: number, clients: number, { perConnection = 50, pauseMs = 2, perSecond = 0 } = {}) {
    this.#port = port
    this.#perConnection = perConnection
    this.#pauseMs = pauseMs
    this.#everyMs = perSecond === 0 ? 0 : (clients * 1_000) / perSecond
    loads.add(this)
    this.#clients = Array.from({ length: clients }, (_, i) => this.#run(i))
  }

  async #run(client: number): Promise<void> {
    const clock = { dueAt: performance.now() }
    while (!this.#isOver) await this.#connection(`${client}`, clock)
  }

  #connection(client: string, clock: { dueAt: number }): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true })
      this.#sockets.add(socket)
      let isOpen = false
      let pending: string | undefined
      let count = 0
      let heard = ''
      const next = () => {
        if (socket.destroyed || !socket.writable) return
        if (this.#isOver || count >= this.#perConnection) {
          socket.end()
          return
        }
        count++
        pending = `${client}-${++this.#number}`
        this.sent.add(pending)
        socket.write(`${pending}\n`)
      }
      socket.once('connect', () => {
        isOpen = true
        this.opened++
        next()
      })
      socket.on('data', (chunk) => {
        heard += chunk
        const end = heard.indexOf('\n')
        if (end === -1) return
        const [message = '', pid = ''] = heard.slice(0, end).split(' ')
        heard = heard.slice(end + 1)
        if (message !== pending) throw new Error(`expected the answer to ${pending}, got ${message}`)
        this.acked.set(message, pid)
        pending = undefined
        clock.dueAt += this.#everyMs
        // Never at once: a goodbye that came with the answer is heard first.
        const waitMs = this.#everyMs > 0 ? Math.max(1, clock.dueAt - performance.now()) : this.#pauseMs
        if (waitMs <= 0) next()
        else setTimeout(next, waitMs)
      })
      // The server has said goodbye: what is said after that, nobody hears.
      socket.on('end', () => socket.end())
      let isOrderly = false
      socket.once('end', () => {
        isOrderly = true
      })
      socket.on('error', (error: Error & { code?: string }) => {
        isOrderly = false
        if (!isOpen) this.connectErrors.push(error.code ?? error.message)
      })
      socket.on('close', () => {
        this.#sockets.delete(socket)
        if (pending !== undefined) {
          this.unknown.push(pending)
          if (!isOrderly) this.broken.push(pending)
        } else if (isOpen && count < this.#perConnection) this.goodbyes++
        if (isOpen) resolve()
        else setTimeout(resolve, 20)
      })
    })
  }

  /** Lets every client finish its message, and close. */
  async end(): Promise<void> {
    this.#isOver = true
    const late = setTimeout(() => this.cut(), 10_000)
    await Promise.all(this.#clients)
    clearTimeout(late)
    loads.delete(this)
  }

  cut(): void {
    this.#isOver = true
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** What a server took and did not answer, or whose connection did not end in order. */
export function lostOf(load: Load, handled: ReadonlySet<string>): readonly string[] {
  return load.unknown.filter((message) => handled.has(message) || load.broken.includes(message))
}

/**
 * Nothing that a server took is without its answer. What a client said after the server's goodbye had left, and before it came,
 * nobody took: its sender saw an orderly end, and may say it again.
 */
export function checkNothingLost(load: Load, handled: ReadonlySet<string>): void {
  if (load.connectErrors.length > 0) throw new Error(`refused: ${load.connectErrors}`)
  const lost = lostOf(load, handled)
  if (lost.length > 0) throw new Error(`lost: ${lost}`)
  // A goodbye and a message may cross on the way; most of the time they must not.
  const most = 2 + (load.goodbyes + load.unknown.length) / 2
  if (load.unknown.length > most) {
    throw new Error(
      `${load.unknown.length} of ${load.sent.size} were said after a goodbye; there were ${load.goodbyes} others`,
    )
  }
}

/** acked ⊆ handled ⊆ sent, nothing handled twice; @returns what was handled. */
export function checkLedger(load: Load, text: string): Set<string> {
  const lines = text.split('\n').filter(Boolean)
  const handled = new Set(lines)
  if (handled.size !== lines.length) throw new Error(`${lines.length - handled.size} messages were handled twice`)
  for (const message of load.acked.keys())
    if (!handled.has(message)) throw new Error(`${message} was answered and never handled`)
  for (const message of handled) if (!load.sent.has(message)) throw new Error(`${message} was handled and never sent`)
  const accounted = load.acked.size + load.unknown.length
  if (accounted !== load.sent.size) throw new Error(`sent ${load.sent.size}, accounted for ${accounted}`)
  return handled
}

/** Whether this Node can bind a port several times (its documentation: net, `reusePort`); elsewhere that balance is refused by name. */
export const hasReusePort = (() => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12)
})()
