/**
 * A server in the background: the command starts itself again, waits until that is ready, and leaves.
 *
 * Room: the command line. What the other one prints until it is ready, or why it is not, is printed here; then it has no
 * terminal any more, and its words go to the log file, if there is one.
 */
import { spawn } from 'node:child_process'
import { closeSync, fstatSync, writeSync } from 'node:fs'
import { withoutPassedSockets } from '../core/passed-sockets.js'
import { redirectOutput } from './output.js'

const VARIABLE = 'GAIDAROS_DETACHED'
/** The pipe to whoever waits. */
const DESCRIPTOR = 3

/** One line of JSON each. */
type Said = { readonly out: string } | { readonly err: string } | { readonly ready: true }

/** Starts this command again, apart from the terminal. @returns 0 once it is ready, or the status it ended with. */
export function detach(): Promise<number> {
  const [script = '', ...args] = process.argv.slice(1)
  const child = spawn(process.execPath, [...process.execArgv, script, ...args], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    // With who waits: the variable alone, set by hand, is not believed.
    env: { ...withoutPassedSockets(process.env), [VARIABLE]: String(process.pid) },
  })
  // Until it is ready it is ours to end.
  const pass = (signal: NodeJS.Signals) => child.kill(signal)
  process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM')
  process.on('SIGINT', pass).on('SIGTERM', pass)
  return new Promise((resolve) => {
    let rest = ''
    const hear = (said: Said) => {
      if ('out' in said) process.stdout.write(said.out)
      else if ('err' in said) process.stderr.write(said.err)
      else {
        child.unref()
        resolve(0)
      }
    }
    child.stdio[DESCRIPTOR]?.on('data', (chunk) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() as string
      for (const line of lines) hear(JSON.parse(line) as Said)
    })
    child.on('error', (error) => {
      process.stderr.write(`gaidaros: the server could not be started: ${error.message}\n`)
      resolve(1)
    })
    // `close`: everything it said has been read.
    child.on('close', (status, signal) => {
      if (signal !== null) process.stderr.write(`gaidaros: the server was ended by ${signal} before it was ready\n`)
      resolve(status ?? 1)
    })
  })
}

/** Node makes its pipes of sockets. */
function isPipe(descriptor: number): boolean {
  try {
    const status = fstatSync(descriptor)
    return status.isSocket() || status.isFIFO()
  } catch {
    return false
  }
}

let waiter: Waiter | undefined

/** At the very beginning: from here on what is printed reaches whoever waits, if anybody does. */
export function findWaiter(): void {
  const waiting = process.env[VARIABLE]
  // Not for those we start.
  delete process.env[VARIABLE]
  if (waiting !== String(process.ppid) || !isPipe(DESCRIPTOR)) return
  const found = new Waiter()
  waiter = found
  redirectOutput({ out: (text) => found.out(text), err: (text) => found.err(text) })
}

/** Undefined when this process was started by hand: it is not the one that stays in the background. */
export function theWaiter(): Waiter | undefined {
  return waiter
}

/** Whoever waits for this process to be ready. */
export class Waiter {
  #isOver = false

  out(text: string): void {
    this.#say({ out: text })
  }
  err(text: string): void {
    this.#say({ err: text })
  }
  /** It leaves. */
  ready(): void {
    this.#say({ ready: true })
    this.#isOver = true
    closeSync(DESCRIPTOR)
  }

  #say(said: Said): void {
    if (this.#isOver) return
    try {
      writeSync(DESCRIPTOR, `${JSON.stringify(said)}\n`)
    } catch {
      // It has not waited; the server goes on.
      this.#isOver = true
    }
  }
}
