/** A headless Chromium, driven by its DevTools protocol over a WebSocket. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WebSocket } from 'ws'

const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--ignore-certificate-errors',
  '--remote-debugging-port=0',
]

/** One page. */
export interface Page {
  /** Runs an expression there; waits for its promise. */
  evaluate<T>(expression: string): Promise<T>
}

export class Browser {
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #port: number
  readonly #sockets: WebSocket[] = []

  private constructor(child: ChildProcess, folder: string, port: number) {
    this.#child = child
    this.#folder = folder
    this.#port = port
  }

  static async start(): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), 'gb-'))
    const child = spawn('chromium', [...flags, `--user-data-dir=${folder}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, HOME: folder },
      detached: true,
    })
    const port = await new Promise<number>((resolve, reject) => {
      let said = ''
      const timer = setTimeout(
        () => reject(new Error(`Chromium says nothing of DevTools within 40 s: ${said}`)),
        40_000,
      )
      child.stderr?.on('data', (chunk) => {
        said += chunk
        const found = /DevTools listening on ws:\/\/[^:]+:(\d+)/.exec(said)?.[1]
        if (found === undefined) return
        clearTimeout(timer)
        resolve(Number(found))
      })
      child.once('exit', (code) => reject(new Error(`Chromium ended with ${code}: ${said}`)))
    })
    return new Browser(child, folder, port)
  }

  async open(url: string): Promise<Page> {
    const answer = await fetch(`http://127.0.0.1:${this.#port}/json/new?${encodeURIComponent(url)}`, { method: 'PUT' })
    const { webSocketDebuggerUrl } = (await answer.json()) as { webSocketDebuggerUrl: string }
    const socket = new WebSocket(webSocketDebuggerUrl)
    this.#sockets.push(socket)
    await new Promise((resolve, reject) => {
      socket.once('open', resolve)
      socket.once('error', reject)
    })
    let last = 0
    const call = <T>(method: string, params: object): Promise<T> => {
      const id = ++last
      return new Promise<T>((resolve, reject) => {
        const take = (data: unknown) => {
          const message = JSON.parse(String(data))
          if (message.id !== id) return
          socket.off('message', take)
          if (message.error !== undefined) reject(new Error(`${method}: ${message.error.message}`))
          else resolve(message.result)
        }
        socket.on('message', take)
        socket.send(JSON.stringify({ id, method, params }))
      })
    }
    const evaluate = async <T>(expression: string): Promise<T> => {
      const { result, exceptionDetails } = await call<{
        result: { value: T }
        exceptionDetails?: { text: string; exception?: { description?: string } }
      }>('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true })
      if (exceptionDetails === undefined) return result.value
      throw new Error(`${exceptionDetails.text} ${exceptionDetails.exception?.description ?? ''}`)
    }
    // It may still be at the blank page it began with.
    while ((await evaluate('document.readyState + location.protocol')) !== `complete${new URL(url).protocol}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    return { evaluate }
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.terminate()
    const gone = new Promise((resolve) => this.#child.once('exit', resolve))
    // Its own group: the helpers it started go with it.
    process.kill(-(this.#child.pid as number), 'SIGKILL')
    await gone
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
}
