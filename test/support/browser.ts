/** A headless Chromium, driven by its DevTools protocol over a WebSocket. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WebSocket } from 'ws'

interface Answer {
  readonly id?: number
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Record<string, unknown>
  readonly error?: { readonly message: string }
}

export class Browser {
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #socket: WebSocket
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  readonly pages: Page[] = []
  #id = 0

  private constructor(child: ChildProcess, folder: string, socket: WebSocket) {
    this.#child = child
    this.#folder = folder
    this.#socket = socket
    socket.on('message', (data) => {
      const answer = JSON.parse(String(data)) as Answer
      if (answer.id !== undefined) this.#waiting.get(answer.id)?.(answer)
      else for (const page of this.pages) page.hear(answer)
    })
  }

  static async start(): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), 'gw-'))
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
      `--user-data-dir=${folder}`,
      '--remote-debugging-port=0',
      'about:blank',
    ]
    const child = spawn('chromium', flags, { stdio: ['ignore', 'ignore', 'pipe'] })
    const address = await new Promise<string>((resolve, reject) => {
      let text = ''
      child.once('exit', () => reject(new Error(`chromium ended: ${text}`)))
      child.stderr?.on('data', (chunk) => {
        text += chunk
        const found = /DevTools listening on (ws:\/\/\S+)/.exec(text)
        if (found) resolve(found[1] as string)
      })
    })
    const socket = new WebSocket(address)
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    return new Browser(child, folder, socket)
  }

  async send(method: string, params: object = {}, sessionId?: string): Promise<Record<string, unknown>> {
    const id = ++this.#id
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve)
      this.#socket.send(JSON.stringify({ id, method, params, sessionId }))
    })
    this.#waiting.delete(id)
    if (answer.error) throw new Error(`${method}: ${answer.error.message}`)
    return answer.result ?? {}
  }

  async open(url: string): Promise<Page> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    const page = new Page(this, sessionId as string)
    this.pages.push(page)
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.send(`${domain}.enable`)
    await page.size(1440, 1000)
    await page.send('Page.navigate', { url })
    await page.until(`document.readyState === 'complete' && location.protocol !== 'about:'`)
    return page
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    // By itself it ends its processes too, which write into its folder.
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), 5_000)
    this.#socket.send(JSON.stringify({ id: 0, method: 'Browser.close' }))
    await ended
    clearTimeout(kill)
    this.#socket.terminate()
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10 })
  }
}

export class Page {
  readonly #browser: Browser
  readonly #session: string
  /** What went wrong in the page, in its own words. */
  readonly problems: string[] = []
  /** Addresses it asked for. */
  readonly requests: string[] = []

  constructor(browser: Browser, session: string) {
    this.#browser = browser
    this.#session = session
  }

  send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    return this.#browser.send(method, params, this.#session)
  }

  hear({ method, params = {} }: Answer & { readonly sessionId?: string }): void {
    if (method === 'Runtime.exceptionThrown') this.problems.push(JSON.stringify(params).slice(0, 500))
    if (method === 'Log.entryAdded') {
      const { level, text } = params.entry as { level: string; text: string }
      if (level === 'error') this.problems.push(text)
    }
    if (method === 'Network.requestWillBeSent') this.requests.push((params.request as { url: string }).url)
  }

  size(width: number, height: number): Promise<unknown> {
    return this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false })
  }

  /** What an expression gives in the page. */
  async get<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      returnByValue: true,
      awaitPromise: true,
    })
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails).slice(0, 400)}`)
    return (result as { value: T }).value
  }

  /** Waits until an expression is true. */
  async until(expression: string): Promise<void> {
    const began = performance.now()
    // Before the page is there, asking it fails.
    while (!(await this.get<boolean>(`Boolean(${expression})`).catch(() => false))) {
      if (performance.now() - began > 20_000) {
        const text = await this.get<string>('document.body?.innerText ?? ""')
        throw new Error(`not within 20 s: ${expression}\n${this.problems.join('\n')}\n${text.slice(0, 1_500)}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  /** Types as a person would, into what has the focus. */
  async type(text: string): Promise<void> {
    await this.send('Input.insertText', { text })
  }

  async screenshot(file: string): Promise<void> {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png' })
    writeFileSync(file, Buffer.from(data as string, 'base64'))
  }
}
