/**
 * `top`: a running server as a live table in the terminal.
 *
 * Room: the command line. Plain ANSI on the alternate screen; whatever ends it, the terminal is given back as it was.
 */
import type { ClientConnection } from '../../core/client.js'
import type { ConnectionPage, Killed, Status } from '../../core/control.js'
import { ConfigError, toError } from '../../core/errors.js'
import { printable } from '../../core/printable.js'
import type { Arguments } from '../arguments.js'
import { ask, openControl, Refusal, wholeFlag } from '../control-client.js'
import { ansi, type Frame, frame, plain, type Style } from './frame.js'
import { type Deed, firstView, keysOf, press, type Sample, type View } from './state.js'

/** Rows asked for: more than a screen shows, so that one can scroll. */
const ROWS = 200
/** With `--once`: rates need two answers. */
const ONCE_MS = 300
const ONCE_ROWS = 20

export async function top(given: Arguments): Promise<number> {
  const { flags } = given
  const intervalMs = wholeFlag(given, 'interval-ms', 'milliseconds')
  if (intervalMs !== undefined && intervalMs < 100) {
    throw new ConfigError('BAD_USAGE', `--interval-ms: expected at least 100, got ${intervalMs}`)
  }
  if (!flags.once && !(process.stdout.isTTY && process.stdin.isTTY)) {
    throw new ConfigError('BAD_USAGE', 'top: standard input and output are no terminal; --once prints one frame')
  }
  const view: View = {
    ...firstView,
    ...(flags.sort !== undefined && { sort: String(flags.sort) }),
    ...(flags.filter !== undefined && { filter: String(flags.filter) }),
  }
  const connection = await openControl(given)
  try {
    if (flags.once) return await once(connection, view, intervalMs ?? ONCE_MS)
    return await new Screen(connection, view, intervalMs ?? 1_000).run()
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    process.stderr.write(`gaidaros: ${printable(error.message)}\n`)
    return 1
  } finally {
    connection.abort()
  }
}

async function once(connection: ClientConnection, view: View, intervalMs: number): Promise<number> {
  const before = await sample(connection, view)
  await new Promise((resolve) => setTimeout(resolve, intervalMs))
  const now = await sample(connection, view)
  const columns = process.stdout.columns ?? (Number(process.env.COLUMNS) || 120)
  const size = { columns, rows: Number.POSITIVE_INFINITY }
  const page = { ...now.page, connections: now.page.connections.slice(0, ONCE_ROWS) }
  const { lines } = frame({ ...now, page }, before, view, size, plain)
  // Without the keys, which do nothing here, and the mark of a choice.
  process.stdout.write(`${lines.slice(0, -1).join('\n').replace(/^>/m, ' ')}\n`)
  return 0
}

async function sample(connection: ClientConnection, { sort, isReversed, filter }: View): Promise<Sample> {
  const status = await ask<Status>(connection, { command: 'status', watch: true })
  const request = { command: 'connections', sort, reverse: isReversed, filter, limit: ROWS }
  const page = await ask<ConnectionPage>(connection, request)
  return { at: performance.now(), status, page }
}

const ENTER = '\u001b[?1049h\u001b[?25l'
const LEAVE = '\u001b[?25h\u001b[?1049l'

class Screen {
  readonly #connection: ClientConnection
  readonly #intervalMs: number
  readonly #style: Style = process.env.NO_COLOR ? { ...ansi, warn: (text) => text } : ansi
  #view: View
  #now: Sample | undefined
  #before: Sample | undefined
  #height = 1
  #isAsking = false
  #timer: NodeJS.Timeout | undefined
  #end: (outcome: Error | undefined) => void = () => {}

  constructor(connection: ClientConnection, view: View, intervalMs: number) {
    this.#connection = connection
    this.#view = view
    this.#intervalMs = intervalMs
  }

  async run(): Promise<number> {
    const over = new Promise<Error | undefined>((resolve) => {
      this.#end = resolve
    })
    // Refused at once, before the screen is taken.
    await this.#ask()
    const { stdin, stdout } = process
    const onKeys = (input: string) => this.#press(input)
    const onResize = () => this.#draw()
    const onSignal = () => this.#end(undefined)
    const restore = () => stdout.write(LEAVE)
    stdin.setRawMode(true)
    stdin.setEncoding('utf8')
    stdin.on('data', onKeys)
    stdout.on('resize', onResize)
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, onSignal)
    process.once('exit', restore)
    void this.#connection.closed.then(() => this.#end(new Error('the server has ended')))
    stdout.write(ENTER)
    this.#draw()
    this.#timer = setInterval(() => void this.#tick(), this.#intervalMs)
    let failure: Error | undefined
    try {
      failure = await over
    } finally {
      clearInterval(this.#timer)
      process.removeListener('exit', restore)
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.removeListener(signal, onSignal)
      stdout.removeListener('resize', onResize)
      stdin.removeListener('data', onKeys)
      stdin.setRawMode(false)
      stdin.pause()
      // Once: a second time would put the cursor back where it was, and what is said next over what was said.
      restore()
    }
    if (failure === undefined) return 0
    process.stderr.write(`gaidaros: ${printable(failure.message)}\n`)
    return 1
  }

  async #tick(): Promise<void> {
    if (this.#view.isPaused) return
    await this.#ask()
    this.#draw()
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    try {
      const next = await sample(this.#connection, this.#view)
      this.#before = this.#now
      this.#now = next
    } catch (thrown) {
      if (this.#now === undefined) throw thrown
      // A filter that makes no sense is a note; a server that is gone is the end.
      if (thrown instanceof Refusal) this.#view = { ...this.#view, filter: '', note: thrown.message }
      else this.#end(toError(thrown))
    } finally {
      this.#isAsking = false
    }
  }

  #draw(): void {
    if (this.#now === undefined) return
    const { columns = 80, rows = 24 } = process.stdout
    const drawn: Frame = frame(this.#now, this.#before, this.#view, { columns, rows }, this.#style)
    this.#height = drawn.height
    const lines = drawn.lines.slice(0, rows)
    process.stdout.write(`\u001b[H${lines.map((line) => `${line}\u001b[K`).join('\r\n')}\u001b[J`)
  }

  #press(input: string): void {
    for (const key of keysOf(input)) {
      const { view, deed } = press(key, this.#view, this.#now?.page.connections ?? [], this.#height)
      this.#view = view
      if (deed !== undefined) void this.#do(deed)
    }
    this.#draw()
  }

  async #do(deed: Deed): Promise<void> {
    if (deed.do === 'quit') return this.#end(undefined)
    try {
      if (deed.do === 'kill') {
        const { connection, reason } = deed
        const { killed } = await ask<Killed>(this.#connection, { command: 'kill', connection, reason })
        this.#say(`killed ${killed} connection${killed === 1 ? '' : 's'}: ${connection}`)
      } else if (deed.do === 'toggle') {
        const { listener } = deed
        const isSuspended = this.#now?.status.listeners.find(({ name }) => name === listener)?.state === 'suspended'
        await ask(this.#connection, { command: isSuspended ? 'resume' : 'suspend', listener })
        this.#say(`${isSuspended ? 'resumed' : 'suspended'} ${listener}`)
      }
      await this.#ask()
    } catch (thrown) {
      this.#say(toError(thrown).message)
    }
    this.#draw()
  }

  #say(note: string): void {
    this.#view = { ...this.#view, note: printable(note) }
  }
}
