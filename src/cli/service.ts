/**
 * A serving process: one server in it, or the supervisor of several; steered by signals and a control socket.
 *
 * Room: the command line. A server that runs in the process itself is handed on to a worker when it is reloaded: its sockets are
 * held apart from it from the beginning, so the process only has to become their supervisor.
 */
import type { LoadedConfiguration } from '../core/config/index.js'
import { type ControlTarget, controlOfServer } from '../core/control.js'
import { toError } from '../core/errors.js'
import type { Server, StopOptions } from '../core/lifecycle.js'
import { drainTimeoutMs } from '../core/options.js'
import { writePidFile } from '../core/pid-file.js'
import { settleWorkers } from '../core/workers/options.js'
import { type ConfiguredServer, controlOf, listenForControl, openServer, type ServerOptions } from '../gaidaros.js'
import { type Foundation, lay, type Supervision, supervise } from '../supervise.js'
import { version } from '../version.js'
import { announce, announceTo, endWithPeer } from './announce.js'
import type { Arguments } from './arguments.js'
import type { Begun } from './endings.js'
import { logLine } from './output.js'
import { levelOf, report } from './report.js'
import { Takeover } from './takeover.js'

/** Beyond the drain, for workers that are ended by force. */
const FORCE_MS = 2_000
/** As a switch between workers: time for a connection to say one more thing and be answered. */
const PATIENCE_MS = 2_000

export class Service implements Begun {
  readonly drainMs: number
  readonly #given: Arguments
  readonly #loaded: LoadedConfiguration
  readonly #options: ServerOptions
  readonly #takeover = Takeover.begun()
  readonly #foundation: Foundation
  #server: ConfiguredServer | undefined
  #supervision: Supervision | undefined
  #target: ControlTarget | undefined
  #control: Server | undefined
  #removePidFile: (() => void) | undefined
  #reloading: Promise<unknown> | undefined
  #isStopping = false

  constructor(given: Arguments, options: ServerOptions, loaded: LoadedConfiguration) {
    this.#given = given
    this.#options = options
    this.#loaded = loaded
    this.#foundation = lay(this.#takeover?.descriptors)
    const isSupervised = settleWorkers(loaded.values.workers) !== undefined
    this.drainMs = this.#drainTimeoutMs + (isSupervised ? FORCE_MS : 0)
    report(this.#foundation.events, levelOf(given, loaded))
  }

  get #drainTimeoutMs(): number {
    return this.#loaded.values.drain?.timeoutMs ?? drainTimeoutMs
  }

  get state(): string {
    return this.#supervision?.supervisor.state ?? this.#server?.state ?? 'created'
  }
  get isLoading(): boolean {
    return this.#server === undefined && this.#supervision === undefined
  }
  get isStarting(): boolean {
    return this.state === 'starting'
  }

  /** @returns when it serves. */
  async start(): Promise<void> {
    const { path, pidFile } = controlOf(this.#loaded.values.control)
    const workers = settleWorkers(this.#loaded.values.workers)
    // A program that takes over has these once the other one has let go of them.
    if (this.#takeover === undefined && pidFile !== undefined) this.#removePidFile = writePidFile(pidFile)
    if (workers === undefined) await this.#serveHere()
    else await this.#supervise(workers.count)
    this.#foundation.sockets.closeUnused()
    await this.#takeover?.ready()
    if (this.#takeover !== undefined && pidFile !== undefined) this.#removePidFile = writePidFile(pidFile)
    if (path !== undefined) this.#control = await listenForControl(path, this.#steered())
    if (this.#server !== undefined) announce(this.#server)
    else announceTo(process.stdout, this.#supervision?.supervisor.listeners ?? [])
    if (this.#server !== undefined) endWithPeer(this.#server)
  }

  /** Resolves when nobody serves any more. */
  async ended(): Promise<void> {
    await this.#server?.stopped
    // The server has gone because workers have come.
    await this.#reloading?.catch(() => {})
    await this.#supervision?.supervisor.stopped
  }

  async close(): Promise<void> {
    this.#foundation.sockets.keepOnly(undefined)
    this.#supervision?.close()
    await this.#leaveNames()
  }

  async stop(options: StopOptions = {}): Promise<void> {
    this.#isStopping = true
    await Promise.all([this.#server?.stop(options), this.#supervision?.supervisor.stop(options)])
  }

  kill(): void {
    this.#supervision?.supervisor.kill()
    this.#supervision?.close()
  }

  /** SIGHUP. Told by events, whichever way it goes. */
  reload(): void {
    logLine('gaidaros: SIGHUP: reload')
    this.#reload().catch(() => {})
  }

  /** SIGUSR2: this program as it now stands on the disk takes over. */
  upgrade(): void {
    const { events, sockets } = this.#foundation
    if (this.#isStopping) return
    const leave = async () => {
      sockets.yieldNames()
      await this.#leaveNames()
    }
    Takeover.begin(events, sockets.inventory(), leave).then(
      () => void this.stop({ timeoutMs: this.#drainTimeoutMs, patienceMs: PATIENCE_MS }),
      () => {},
    )
  }

  // ── one server in this process ─────────────────────────────────────────────────────────────────────────────────────

  async #serveHere(): Promise<void> {
    const { sockets } = this.#foundation
    const server = await openServer(this.#loaded, this.#options, {
      place: 'command',
      sockets: (key, kind, endpoint) => sockets.lend(key, kind, endpoint),
    })
    report(server, levelOf(this.#given, this.#loaded))
    this.#server = server
    this.#target = controlOfServer(server, version)
    if (this.#isStopping) return
    await server.start()
  }

  // ── several, in their own ──────────────────────────────────────────────────────────────────────────────────────────

  async #supervise(count: number): Promise<void> {
    const supervision = this.#begin(false)
    this.#supervision = supervision
    this.#target = supervision.target
    await supervision.supervisor.start(count)
  }

  /** @param isSuccessor - To a server in this process, which is ready, and stays it if this fails. */
  #begin(isSuccessor: boolean): Supervision {
    const supervision = supervise(this.#given.words, this.#foundation, isSuccessor)
    // However this process ends, but by SIGKILL: no worker stays. Without us they leave by themselves.
    process.once('exit', () => this.kill())
    return supervision
  }

  #reload(): Promise<unknown> {
    if (this.#supervision !== undefined) return this.#supervision.supervisor.reload()
    this.#reloading ??= this.#becomeSupervisor().finally(() => {
      if (this.#supervision === undefined) this.#reloading = undefined
    })
    return this.#reloading
  }

  /** Workers serve from now on, on the same sockets; whoever is connected here is served to the end. */
  async #becomeSupervisor(): Promise<void> {
    const server = this.#server
    if (server?.state !== 'ready' || this.#isStopping) throw new Error(`a server that is ${this.state} is not reloaded`)
    const { events, sockets, counters } = this.#foundation
    const began = performance.now()
    events.emit('reload.started', { generation: 1 })
    const supervision = this.#begin(true)
    try {
      sockets.recall()
      await supervision.supervisor.start()
      if (this.#isStopping) throw new Error('the server was stopped meanwhile')
    } catch (thrown) {
      const error = toError(thrown)
      await supervision.supervisor.stop({ timeoutMs: 0 })
      supervision.close()
      sockets.keepOnly(undefined)
      events.emit('reload.failed', { error })
      throw error
    }
    this.#supervision = supervision
    this.#target = supervision.target
    sockets.handOn()
    const workers = supervision.supervisor.workers.length
    events.emit('reload.finished', { generation: 1, workers, durationMs: Math.round(performance.now() - began) })
    counters.reloads = (counters.reloads ?? 0) + 1
    await server.stop({ timeoutMs: this.#drainTimeoutMs, patienceMs: PATIENCE_MS })
    for (const [name, count] of Object.entries(server.counters)) counters[name] = (counters[name] ?? 0) + count
    this.#server = undefined
  }

  // ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whoever serves at the moment. */
  #steered(): ControlTarget {
    const target = () => this.#target as ControlTarget
    return {
      status: () => target().status(),
      connections: (most) => target().connections(most),
      suspend: (name) => target().suspend(name),
      resume: (name) => target().resume(name),
      end: (timeoutMs) => void this.stop(timeoutMs === undefined ? {} : { timeoutMs }),
      reload: async () => {
        await this.#reload()
        const workers = this.#supervision?.supervisor.workers ?? []
        return { workers: workers.filter(({ state }) => state === 'ready').length }
      },
    }
  }

  /** Pid file and control socket. */
  async #leaveNames(): Promise<void> {
    this.#removePidFile?.()
    this.#removePidFile = undefined
    const control = this.#control
    this.#control = undefined
    await control?.stop({ timeoutMs: 1_000 })
  }
}
