/**
 * Processes for workers: begun, spoken to, and ended.
 *
 * A door's part: it is the one place where a supervisor's side meets `node:child_process`.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { withoutPassedSockets } from './core/passed-sockets.js'
import type { Child, ChildSink } from './core/workers/worker.js'

/** Some are begun before they are wanted. */
export class Processes {
  #spares: ChildProcess[] = []
  readonly #isRedirected: boolean

  constructor(isRedirected: boolean) {
    this.#isRedirected = isRedirected
  }

  /** @param count - How many shall be there, ready to be told what they are; 0 ends those that are left. */
  warm(count: number): void {
    while (this.#spares.length < count) {
      const spare = begin(this.#isRedirected)
      spare.once('exit', () => {
        this.#spares = this.#spares.filter((one) => one !== spare)
      })
      this.#spares.push(spare)
    }
    for (const spare of this.#spares.splice(count)) spare.kill('SIGKILL')
  }

  spawn(sink: ChildSink): Child {
    const child = this.#spares.shift() ?? begin(this.#isRedirected)
    let isOver = false
    const exit = (status: number | null, signal: string | null) => {
      if (isOver) return
      isOver = true
      sink.exit(status, signal)
    }
    child.on('message', (message, handle) => sink.message(message, handle))
    child.on('error', () => {
      if (child.pid === undefined) exit(null, null)
    })
    child.on('exit', exit)
    return {
      pid: child.pid,
      send(message, handle, done, keepsOpen = false) {
        // Never within the call: whoever is told may send again.
        if (!child.connected) return void process.nextTick(done, new Error('its channel is closed'))
        child.send(message, handle as never, { keepOpen: keepsOpen }, done)
      },
      kill: (signal) => void child.kill(signal),
    }
  }
}

function begin(isRedirected: boolean): ChildProcess {
  const output = isRedirected ? 'pipe' : 'inherit'
  const child = fork(fileURLToPath(new URL('./worker.js', import.meta.url)), [], {
    // Bytes stay bytes on the way.
    serialization: 'advanced',
    // A debugger's port is one process's.
    execArgv: process.execArgv.filter((argument) => !/^--(inspect|debug)/.test(argument)),
    // Its descriptor 3 is this channel.
    env: withoutPassedSockets(process.env),
    stdio: ['ignore', output, output, 'ipc'],
  }).on('error', () => {})
  child.stdout?.on('data', (chunk) => process.stdout.write(chunk))
  child.stderr?.on('data', (chunk) => process.stderr.write(chunk))
  return child
}
