/**
 * Telling systemd how a service is (sd_notify(3)): READY, RELOADING, STOPPING.
 *
 * Room: the command line. Node has no datagram sockets of the Unix kind, so `systemd-notify`, or else `socat`, says it for
 * us; the unit needs `NotifyAccess=all`. Where NOTIFY_SOCKET is not set nothing is done.
 */
import { spawn } from 'node:child_process'
import { logLine } from './output.js'

export type Word = 'READY=1' | 'RELOADING=1' | 'STOPPING=1'

export class Notifier {
  readonly #socket: string | undefined
  #last: Promise<void> = Promise.resolve()

  constructor() {
    this.#socket = process.env.NOTIFY_SOCKET
    // Not for those we start: only this process is the service.
    if (this.#socket !== undefined) delete process.env.NOTIFY_SOCKET
  }

  /** Resolves when it was said, or could not be. In order. */
  say(...words: readonly (Word | `MAINPID=${number}` | `STATUS=${string}`)[]): Promise<void> {
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
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
}
