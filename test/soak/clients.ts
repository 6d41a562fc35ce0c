/** The other side of the long runs: processes full of clients, asked over their channels. */
import { type ChildProcess, fork } from 'node:child_process'
import { connect, type Socket } from 'node:net'

/** Another process that runs one of the functions below. */
export class Clients {
  readonly #child: ChildProcess

  constructor(what: keyof typeof kinds, port: number, amount: number) {
    this.#child = fork(new URL(import.meta.url), [what, String(port), String(amount)])
  }

  /** What it says next. @throws when it ends first. */
  next<T>(): Promise<T> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) => reject(new Error(`the clients ended with status ${code}`))
      this.#child.once('exit', ended)
      this.#child.once('message', (message) => {
        this.#child.off('exit', ended)
        resolve(message as T)
      })
    })
  }
  tell(message: string): void {
    this.#child.send(message)
  }
  end(): void {
    this.#child.removeAllListeners('exit')
    this.#child.kill('SIGKILL')
  }
}

// Loopback has many addresses, and each has its own ports: none runs out of them while old ones wait (tcp(7), TIME_WAIT).
let lastHost = 0
const host = () => `127.0.0.${(lastHost++ % 250) + 1}`
const open = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: host(), noDelay: true })
    socket.once('connect', () => resolve(socket)).once('error', reject)
  })
const say = (message: object) => process.send?.(message)
const told = (word: string) =>
  new Promise<void>((resolve) => process.on('message', (message) => message === word && resolve()))

/** One echo on a connection. */
const echo = (socket: Socket, text = 'x') =>
  new Promise<void>((resolve, reject) => {
    let got = ''
    const take = (chunk: Buffer) => {
      got += chunk
      if (!got.endsWith('\n')) return
      socket.off('data', take)
      if (got === `${text}\n`) resolve()
      else reject(new Error(`${JSON.stringify(got)} for ${text}`))
    }
    socket.on('data', take)
    socket.once('close', () => reject(new Error('closed')))
    socket.write(`${text}\n`)
  })

const kinds = {
  /** Connect, echo, close, over and over; says how many were done and failed. */
  async cycles(port: number, count: number) {
    let begun = 0
    let failed = 0
    const lane = async () => {
      while (begun++ < count) {
        try {
          const socket = await open(port)
          await echo(socket)
          const closed = new Promise((resolve) => socket.removeAllListeners('close').once('close', resolve))
          socket.end()
          await closed
        } catch {
          failed++
        }
      }
    }
    await Promise.all(Array.from({ length: 64 }, lane))
    say({ count, failed })
  },

  /** A byte in five seconds each, of a line that never ends; says when all are there, and how many are left when asked. */
  async slow(port: number, count: number) {
    const sockets = new Set<Socket>()
    for (let i = 0; i < count; i += 200) {
      const some = await Promise.all(Array.from({ length: Math.min(200, count - i) }, () => open(port)))
      for (const socket of some) {
        sockets.add(socket)
        socket.on('error', () => {}).on('close', () => sockets.delete(socket))
        socket.resume().write('a')
      }
    }
    const lanes = [...sockets]
    setInterval(() => {
      const share = Math.ceil(count / 50)
      for (const socket of lanes.splice(0, share)) if (!socket.destroyed && socket.write('a')) lanes.push(socket)
    }, 100)
    say({ open: sockets.size })
    process.on('message', () => say({ open: sockets.size }))
  },

  /** 50 honest clients, each asking every 25 ms; says the latencies of every stretch it is told to end. */
  async honest(port: number, count: number) {
    let times: number[] = []
    let failed = 0
    const sockets = await Promise.all(Array.from({ length: count }, () => open(port)))
    sockets.forEach((socket, i) => {
      const ask = async () => {
        const began = performance.now()
        await echo(socket, 'honest').then(
          () => times.push(performance.now() - began),
          () => failed++,
        )
        socket.removeAllListeners('close')
        setTimeout(ask, 25)
      }
      setTimeout(ask, (i * 25) / count)
    })
    process.on('message', () => {
      const sorted = times.sort((a, b) => a - b)
      say({ count: sorted.length, failed, p99: sorted[Math.floor(sorted.length * 0.99)] ?? 0 })
      times = []
    })
    say({ ready: true })
  },

  /** Never read, keep asking. */
  async deaf(port: number, count: number) {
    for (let i = 0; i < count; i++) {
      const socket = await open(port)
      socket.on('error', () => {}).pause()
      // 10 MB of answers are asked for; most of it waits in our own queues.
      for (let asked = 0; asked < 640; asked++) socket.write('give\n')
    }
    say({ open: count })
    // A socket that neither reads nor writes keeps no process alive, and they would all be gone.
    await told('never')
  },

  /** Reads a stream of lines with pauses; says how many bytes came. */
  async reader(port: number, bytes: number) {
    const socket = await open(port)
    let got = 0
    socket.on('data', (chunk) => {
      got += chunk.length
      if (got >= bytes) say({ got })
      else if (Math.random() < 0.02) {
        socket.pause()
        setTimeout(() => socket.resume(), 2)
      }
    })
    socket.write('go\n')
  },

  /** Hold, each proved by an echo at the beginning; at the word all speak at once. */
  async idle(port: number, count: number) {
    const sockets: Socket[] = []
    let failed = 0
    for (let i = 0; i < count; i += 50) {
      const some = await Promise.all(Array.from({ length: Math.min(50, count - i) }, () => open(port)))
      await Promise.all(some.map((socket) => echo(socket)))
      sockets.push(...some)
    }
    let gone = 0
    for (const socket of sockets) socket.removeAllListeners('close').once('close', () => gone++)
    say({ open: sockets.length })
    await told('speak')
    const began = performance.now()
    await Promise.all(sockets.map((socket) => echo(socket, 'all').catch(() => failed++)))
    say({ answered: sockets.length - failed, gone, ms: performance.now() - began })
    await told('never')
  },
} satisfies Record<string, (port: number, amount: number) => Promise<void>>

const [, , kind, port, amount] = process.argv
if (process.send !== undefined && kind !== undefined && Object.hasOwn(kinds, kind)) {
  await kinds[kind as keyof typeof kinds](Number(port), Number(amount))
}
