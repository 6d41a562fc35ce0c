/**
 * One program takes over from another: the same command, as it now stands on the disk, on the same sockets.
 *
 * Room: the command line. Descriptors are inherited (as systemd passes them), the rest is said over a channel: the new one says
 * that it serves, the old one gives up its pid file and control socket, and drains.
 */
import { spawn } from 'node:child_process'
import { toError, WorkerError } from '../core/errors.js'
import type { EventHub } from '../core/events.js'
import { logLine } from './output.js'

// Not of the variables that are settings.
const VARIABLE = '__GAIDAROS_TAKEOVER'
/** Standard ones, and the channel. */
const FIRST = 4
/** For the new program to serve. */
const READY_MS = 30_000
/** For the old one to let go of its names. */
const GO_MS = 5_000

interface Passed {
  readonly id: string
  readonly descriptors: readonly number[]
}

let isUnderWay = false

export class Takeover {
  readonly descriptors: ReadonlyMap<string, readonly number[]>

  private constructor(passed: readonly Passed[]) {
    this.descriptors = new Map(passed.map(({ id, descriptors }) => [id, descriptors]))
  }

  /** In the new program. @returns undefined: it takes over from nobody. */
  static begun(): Takeover | undefined {
    const text = process.env[VARIABLE]
    if (text === undefined) return undefined
    // Our own children take over from nobody.
    delete process.env[VARIABLE]
    return new Takeover(JSON.parse(text) as Passed[])
  }

  /** In the new program, which serves: waits until the names are free. */
  async ready(): Promise<void> {
    if (!process.connected) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, GO_MS)
      const done = () => {
        clearTimeout(timer)
        resolve()
      }
      process.once('message', done)
      process.once('disconnect', done)
      process.send?.({ t: 'ready' })
    })
    if (process.connected) process.disconnect()
  }

  /**
   * In the old program: starts the new one.
   *
   * @param heritage - Of the environment: what this process has taken out of its own.
   * @param leaveNames - The new one wants them.
   * @throws {WorkerError} it did not get ready; this one goes on.
   */
  static async begin(
    events: EventHub,
    inventory: readonly Passed[],
    heritage: NodeJS.ProcessEnv,
    leaveNames: () => Promise<void>,
  ): Promise<void> {
    if (isUnderWay) {
      logLine('gaidaros: SIGUSR2: another program is taking over already')
      throw new WorkerError('BUSY', 'another program is taking over already')
    }
    isUnderWay = true
    const began = performance.now()
    let next = FIRST
    const passed = inventory.map(({ id, descriptors }) => ({ id, descriptors: descriptors.map(() => next++) }))
    const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
      stdio: ['inherit', 'inherit', 'inherit', 'ipc', ...inventory.flatMap(({ descriptors }) => descriptors)],
      env: { ...process.env, ...heritage, [VARIABLE]: JSON.stringify(passed) },
    })
    const pid = child.pid ?? 0
    events.emit('upgrade.started', { pid })
    try {
      await new Promise<void>((resolve, reject) => {
        const fail = (why: string) =>
          reject(new WorkerError('NOT_READY', `the new program (process ${pid}) ${why}; this one goes on`))
        const timer = setTimeout(() => fail(`did not serve within ${READY_MS} ms`), READY_MS)
        child.once('error', (error) => fail(`could not be started: ${error.message}`))
        child.once('exit', (status, signal) =>
          fail(`ended ${signal === null ? `with status ${status}` : `by ${signal}`}`),
        )
        child.once('message', () => {
          clearTimeout(timer)
          resolve()
        })
        child.once('exit', () => clearTimeout(timer))
      })
    } catch (thrown) {
      isUnderWay = false
      child.kill('SIGKILL')
      events.emit('upgrade.failed', { error: toError(thrown) })
      throw thrown
    }
    await leaveNames()
    if (child.connected) {
      child.send({ t: 'go' })
      child.unref()
      child.channel?.unref()
    }
    events.emit('upgrade.finished', { pid, durationMs: Math.round(performance.now() - began) })
  }
}
