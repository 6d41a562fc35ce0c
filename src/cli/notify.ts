/**
 * Telling systemd how a service is (sd_notify(3)): READY, RELOADING, STOPPING, WATCHDOG.
 *
 * Room: the command line. Node has no datagram sockets of the Unix kind, so `systemd-notify`, or else `socat`, says it for
 * us; the unit needs `NotifyAccess=all`. Where NOTIFY_SOCKET is not set nothing is done.
 */
import { spawn } from 'node:child_process'
import { logLine } from './output.js'

export type Word = 'READY=1' | 'RELOADING=1' | 'STOPPING=1' | 'WATCHDOG=1'

export class Notifier {
  #socket: string | undefined
  readonly #watchdogUs: string | undefined
  #watching: NodeJS.Timeout | undefined
  #last: Promise<void> = Promise.resolve()

  constructor() {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = process.env
    this.#socket = NOTIFY_SOCKET
    // Left out, it is meant for whoever reads it (sd_watchdog_enabled(3)).
    if (WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === process.pid) this.#watchdogUs = WATCHDOG_USEC
    // Not for those we start: only this process is the service.
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete process.env[name]
  }

  /** For another program that becomes the service. */
  get heritage(): NodeJS.ProcessEnv {
    return {
      ...(this.#socket === undefined ? {} : { NOTIFY_SOCKET: this.#socket }),
      ...(this.#watchdogUs === undefined ? {} : { WATCHDOG_USEC: this.#watchdogUs }),
    }
  }

  /** Another process is the service now: what this one does is nobody's business any more. */
  mute(): void {
    clearInterval(this.#watching)
    this.#socket = undefined
  }

  /** From now on it is told, twice within the time it has, that the event loop goes round. */
  watch(): void {
    const everyMs = Number(this.#watchdogUs) / 2_000
    if (this.#socket === undefined || !(everyMs > 0)) return
    this.#watching = setInterval(() => void this.say('WATCHDOG=1'), everyMs)
    this.#watching.unref()
  }

  /** Resolves when it was said, or could not be. In order. */
  say(...words: readonly (Word | `MAINPID=${number}` | `MONOTONIC_USEC=${bigint}`)[]): Promise<void> {
    const socket = this.#socket
    if (socket === undefined) return this.#last
    this.#last = this.#last.then(() => tell(socket, words))
    return this.#last
  }
}

async function tell(socket: string, words: readonly string[]): Promise<void> {
  const env = { ...process.env, NOTIFY_SOCKET: socket }
  if (await ran('systemd-notify', [...words], env)) return
  const address = socket.startsWith('@') ? `ABSTRACT-SENDTO:${socket.slice(1)}` : `UNIX-SENDTO:${socket}`
  if (await ran('socat', ['-u', '-', address], env, `${words.join('\n')}\n`)) return
  logLine(`gaidaros: ${words.join(' ')} could not be told to systemd: neither systemd-notify nor socat has worked`)
}

function ran(command: string, args: readonly string[], env: NodeJS.ProcessEnv, input = ''): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { env, stdio: ['pipe', 'ignore', 'ignore'], timeout: 5_000 })
    child.on('error', () => resolve(false))
    child.on('exit', (status) => resolve(status === 0))
    // Without a free descriptor there is no pipe either (child_process.spawn, EMFILE); the error follows.
    ;(child as { stdin?: typeof child.stdin }).stdin?.on('error', () => {}).end(input)
  })
}
