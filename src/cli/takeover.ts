/**
 * One program takes over from another: the same command, as it now stands on the disk, on the same sockets.
 *
 * Room: the command line. Descriptors are inherited (as systemd passes them), the rest is said over a channel: the new one says
 * that it serves, the old one gives up its pid file and control socket, and drains.
 */
import { spawn } from 'node:child_process'
import { toError, WorkerError } from '../core/errors.js'
import type { EventHub } from '../core/events.js'
import type { Foundation } from '../supervise.js'
import { logLine } from './output.js'

// Not of the variables that are settings.
const VARIABLE = '__GAIDAROS_TAKEOVER'
/** Standard ones, and the channel. */
const FIRST = 4
/** For the new program to serve. */
const READY_MS = 30_000
/** For the old one to let go of its names. */
const GO_MS = 5_000

/** What the old program says last: whose sessions of datagrams it has, by address. */
interface Go {
  readonly sessions?: readonly { readonly id: string; readonly keys: readonly string[] }[]
}

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

  /** In the new program, which serves: waits until the names are free, and takes what the old one has no sessions of. */
  async ready(sockets: Foundation['sockets']): Promise<void> {
    if (!process.connected) {
      sockets.takeOver([], () => {})
      return
    }
    const said = await new Promise<Go>((resolve) => {
      const timer = setTimeout(() => resolve({}), GO_MS)
      const done = (go: Go = {}) => {
        clearTimeout(timer)
        resolve(go)
      }
      process.once('message', (go) => done(go as Go))
      process.once('disconnect', () => done())
      process.send?.({ t: 'ready' })
    })
    const sessions = said.sessions ?? []
    const elder = sockets.takeOver(sessions, (id, socket, batch, done) => {
      if (process.connected) process.send?.({ t: 'u', id, i: socket, d: batch }, undefined, {}, () => done())
      else done()
    })
    if (sessions.length === 0) {
      if (process.connected) process.disconnect()
      return
    }
    process.on('message', ({ t, id, keys }: { t?: string; id?: string; keys?: string[] }) => {
      if (t === 'gone' && id !== undefined && keys !== undefined) elder.ended(id, keys)
    })
    process.on('disconnect', () => elder.gone())
    if (!process.connected) elder.gone()
    process.channel?.unref()
  }

  /**
   * In the old program: starts the new one.
   *
   * @param heritage - Of the environment: what this process has taken out of its own.
   * @param leave - The new one wants the names, and is told whose sessions of datagrams stay here. @returns those.
   * @param deliver - Takes what the new one has heard for them.
   * @throws {WorkerError} it did not get ready; this one goes on.
   */
  static async begin(
    events: EventHub,
    inventory: readonly Passed[],
    heritage: NodeJS.ProcessEnv,
    leave: (tell: (id: string, keys: readonly string[]) => void) => Promise<NonNullable<Go['sessions']>>,
    deliver: (id: string, socket: number, batch: readonly unknown[]) => void,
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
      // Datagrams stay bytes on the way.
      serialization: 'advanced',
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
    const tell = (id: string, keys: readonly string[]) => {
      if (child.connected) child.send({ t: 'gone', id, keys }, () => {})
    }
    const sessions = await leave(tell)
    child.on('message', ({ t, id, i, d }: { t?: string; id?: string; i?: number; d?: unknown[] }) => {
      if (t === 'u') deliver(String(id), Number(i), d ?? [])
    })
    if (child.connected) {
      child.send({ t: 'go', sessions }, () => {})
      child.unref()
      child.channel?.unref()
    }
    events.emit('upgrade.finished', { pid, durationMs: Math.round(performance.now() - began) })
  }
}
