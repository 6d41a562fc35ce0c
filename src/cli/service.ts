/**
 * A serving process: one server in it, or the supervisor of several; steered by signals and a control socket.
 *
 * Room: the command line. A server that runs in the process itself is handed on to a worker when it is reloaded: its sockets are
 * held apart from it from the beginning, so the process only has to become their supervisor.
 */

import type { Companions } from '../core/companions.js'
import type { LoadedConfiguration } from '../core/config/index.js'
import { lastReportsOf } from '../core/control/report.js'
import type { Asker, Control, ControlRequest, Reports, Status } from '../core/control.js'
import { endBy } from '../core/control.js'
import { toError } from '../core/errors.js'
import type { StopOptions } from '../core/lifecycle.js'
import { type DrainTimes, drainOf } from '../core/options.js'
import { writePidFile } from '../core/pid-file.js'
import { Latest } from '../core/workers/latest.js'
import { type SettledWorkers, settleWorkers } from '../core/workers/options.js'
import {
  companionsBeside,
  companionsOf,
  controlOf,
  listenForControl,
  openServer,
  type PlacedServer,
  type PluginEntries,
  type ServerNames,
  type ServerOptions,
} from '../gaidaros.js'
import { type Foundation, lay, type Supervision, supervise } from '../supervise.js'
import { announce, announceTo, endWithPeer } from './announce.js'
import type { Arguments } from './arguments.js'
import { Background } from './background.js'
import type { Begun } from './endings.js'
import { giveUpRoot, handOn, refuseReplacement } from './give-up.js'
import { logLine } from './output.js'
import { levelOf, report } from './report.js'
import { loadedInTime } from './still-loading.js'
import { Takeover } from './takeover.js'

/** Beyond the drain, for workers that are ended by force. */
const FORCE_MS = 2_000

/** The server of this process, once workers serve. */
const FORMER = 'former'

export class Service implements Begun {
  readonly #given: Arguments
  readonly #loaded: LoadedConfiguration
  readonly #options: ServerOptions
  readonly #takeover = Takeover.begun()
  readonly #foundation: Foundation
  readonly #background: Background
  #server: PlacedServer | undefined
  #supervision: Supervision | undefined
  /** Pid file, control socket and companions, where they are not the server's. */
  #names: ServerNames | undefined
  /** The plugins of those companions, as text. */
  #hosted = ''
  /** Workers are about to take over from the server of this process. */
  #becoming: Promise<unknown> | undefined
  /** What they will be supervised by. */
  #raising: Supervision | undefined
  readonly #reloads = new Latest(
    () => this.#reloadNow(),
    () => (this.#raising ?? this.#supervision)?.supervisor.supersede(),
  )
  #isStopping = false

  /** @throws {BindError} when a log file cannot be opened. */
  constructor(given: Arguments, options: ServerOptions, loaded: LoadedConfiguration) {
    this.#given = given
    this.#options = options
    this.#loaded = loaded
    this.#background = new Background(loaded.values)
    this.#foundation = lay(this.#takeover?.descriptors)
    const { events } = this.#foundation
    report(events, levelOf(given, loaded))
    events.on('server.state', ({ to }) => {
      if (to === 'draining') this.#background.stopping()
    })
  }

  /** As whoever serves now has read it. */
  get #drain(): DrainTimes {
    return this.#supervision?.supervisor.planned?.drain ?? drainOf(this.#loaded.values.drain)
  }

  /** From a signal to the end. */
  get drainMs(): number {
    const { delayMs, timeoutMs } = this.#drain
    const isSupervised = this.#supervision !== undefined || settleWorkers(this.#loaded.values.workers) !== undefined
    return delayMs + timeoutMs + (isSupervised ? FORCE_MS : 0)
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
    const workers = settleWorkers(this.#loaded.values.workers)
    if (workers === undefined) await this.#serveHere()
    else await this.#supervise(workers)
    if (this.#server !== undefined) {
      announce(this.#server)
      endWithPeer(this.#server)
    } else announceTo(process.stdout, this.#supervision?.supervisor.listeners ?? [])
    this.#background.ready()
  }

  /** It did not start: why is for people, and for the log. */
  failed(): void {
    this.#background.failed()
  }

  /** Resolves when nobody serves any more. */
  async ended(): Promise<void> {
    await this.#server?.stopped
    // The server has gone because workers have come.
    await this.#becoming?.catch(() => {})
    await this.#supervision?.supervisor.stopped
  }

  async close(): Promise<void> {
    this.#foundation.sockets.keepOnly(undefined)
    this.#supervision?.close()
    this.#background.close()
    await this.#names?.release()
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
    this.#reloads.ask().catch(() => {})
  }

  /** SIGUSR2: this program as it now stands on the disk takes over. */
  upgrade(): void {
    const { events, sockets } = this.#foundation
    if (this.#isStopping) return
    const leave = async (tell: (id: string, keys: readonly string[]) => void) => {
      this.#background.handedOn()
      sockets.yieldNames()
      // Once workers serve they are ours, even if the server of this process has connections left.
      await (this.#names ?? this.#server?.takeNames())?.release()
      this.#names = undefined
      sockets.stopHearing()
      void this.stop(this.#parting)
      return sockets.handOver(tell)
    }
    const deliver = sockets.deliver.bind(sockets)
    Takeover.begin(events, sockets.inventory(), this.#background.heritage, leave, deliver).catch(() => {})
  }

  /** Others serve: those connected here are served on. */
  get #parting(): StopOptions {
    const { reloadMs, timeoutMs, jitterMs } = this.#drain
    return { serveMs: reloadMs, timeoutMs, jitterMs, code: 'RELOADED' }
  }

  // -- one server in this process ------------------------------------------------------------------------------------

  async #serveHere(): Promise<void> {
    const { sockets } = this.#foundation
    const takeover = this.#takeover
    const opening = openServer(this.#loaded, this.#options, {
      place: 'command',
      sockets: (key, kind, endpoint) => sockets.lend(key, kind, endpoint),
      steering: (own) => ({ ask: (request, asker) => this.#answer(request, asker, own) }),
      ...(takeover === undefined
        ? {}
        : {
            namesAreFree: () => {
              sockets.closeUnused()
              return takeover.ready(sockets)
            },
          }),
    })
    const server = await loadedInTime(opening)
    if (this.#given.flags.strict) await (await import('./doctor/index.js')).insist(server, this.#given)
    report(server, levelOf(this.#given, this.#loaded))
    server.on('server.state', ({ to }) => {
      if (to === 'draining' && this.#supervision === undefined) this.#background.stopping()
    })
    this.#server = server
    if (this.#isStopping) return
    await server.start()
  }

  /** At the control socket: what concerns the whole process is done here, the rest by whoever serves. */
  #answer(request: ControlRequest, asker: Asker | undefined, own: Control | undefined): unknown {
    switch (request?.command) {
      case 'drain':
      case 'stop':
        return endBy(request, (options) => this.stop(options))
      case 'reload':
        return this.#reloads.ask().then(() => ({ state: this.state }))
      case 'report':
        return this.#report(request, own)
      case 'status':
        return this.#status(request, own)
      default:
        return (this.#supervision?.target ?? (own as Control)).ask(request, asker)
    }
  }

  /** The server of this process serves its last connections: it stands among the workers, and in the sums. */
  #status(request: ControlRequest, own: Control | undefined): unknown {
    const { target } = this.#supervision ?? {}
    const server = this.#server
    if (target === undefined || server === undefined || own === undefined)
      return (target ?? (own as Control)).ask(request)
    return (target.ask(request) as Promise<Status>).then((all) => {
      const former = own.ask(request) as Status
      const counters: Record<string, number> = { ...all.counters }
      for (const [name, count] of Object.entries(former.counters)) counters[name] = (counters[name] ?? 0) + count
      const { pid, uptimeMs, connections } = former
      const one = { name: FORMER, pid, state: 'draining', uptimeMs, connections, residentBytes: 0, generation: 0 }
      return {
        ...all,
        connections: all.connections + connections,
        counters,
        workers: [one, ...(all.workers ?? [])],
      }
    })
  }

  /** While workers have taken over and the server of this process drains, it is one of those that are asked. */
  #report(request: ControlRequest, own: Control | undefined): unknown {
    const { target } = this.#supervision ?? {}
    if (target === undefined) return own?.ask(request)
    const server = this.#server
    if (server === undefined || own === undefined) return target.ask(request)
    return (target.ask(request) as Promise<Reports>).then((all) => {
      const { reports } = own.ask(request) as Reports
      return {
        ...all,
        reports: [...all.reports, ...reports.map((one) => ({ ...one, worker: FORMER, state: 'draining' }))],
      }
    })
  }

  // -- several, in their own -----------------------------------------------------------------------------------------

  async #supervise({ count, readyMs }: SettledWorkers): Promise<void> {
    const { values } = this.#loaded
    const { path, pidFile } = controlOf(values.control)
    let removePidFile: (() => void) | undefined
    // A program that takes over has these once the other one has let go of them.
    if (this.#takeover === undefined && pidFile !== undefined) removePidFile = writePidFile(pidFile)
    this.#names = { companions: undefined, release: async () => removePidFile?.() }
    const supervision = this.#begin(false)
    this.#supervision = supervision
    await supervision.supervisor.start(count, readyMs)
    if (this.#takeover !== undefined) {
      this.#foundation.sockets.closeUnused()
      await this.#takeover.ready(this.#foundation.sockets)
      if (pidFile !== undefined) removePidFile = writePidFile(pidFile)
    }
    const steering = { ask: (request: ControlRequest, asker?: Asker) => this.#answer(request, asker, undefined) }
    const control = path === undefined ? undefined : await listenForControl(path, steering)
    const companions = companionsBeside(this.#foundation.events, (one) => steering.ask(one))
    this.#names = {
      companions,
      async release() {
        removePidFile?.()
        await companions.end()
        await control?.stop({ timeoutMs: 1_000 })
      },
    }
    const entries = this.#entriesNow()
    this.#hosted = textOf(entries)
    await companions.start(await companionsOf(entries, this.#foundation.events))
    await this.#becomeAnother(path)
  }

  /** Plugins that have something which stands once, as the workers have found them. */
  #entriesNow(): PluginEntries {
    const planned = this.#supervision?.supervisor.planned
    // Where workers read code, it is what this process has read at its start.
    const { plugins = [] } = (planned?.seed as ServerOptions | undefined) ?? this.#loaded.values
    return chosenOf(plugins, planned?.companions ?? [])
  }

  /** After a reload: what is configured otherwise than before is begun anew; what is not goes on undisturbed. */
  async #refreshCompanions(): Promise<void> {
    const companions = this.#names?.companions ?? this.#beginCompanions()
    const entries = this.#entriesNow()
    const before = this.#hosted
    const text = textOf(entries)
    if (text === before) return
    const { events } = this.#foundation
    this.#hosted = text
    await companions.end()
    try {
      await companions.start(await companionsOf(entries, events))
    } catch (thrown) {
      // What was there is gone; the service is not.
      this.#hosted = ''
      events.emit('companion.failed', { error: toError(thrown) })
    }
  }

  #beginCompanions(): Companions {
    const companions = companionsBeside(this.#foundation.events, (request) =>
      this.#answer(request, undefined, undefined),
    )
    const names = this.#names
    this.#names = {
      companions,
      async release() {
        await companions.end()
        await names?.release()
      },
    }
    return companions
  }

  /** Everything is bound: root is given up, here as in each worker. */
  async #becomeAnother(control: string | undefined): Promise<void> {
    const { supervisor } = this.#supervision as Supervision
    const bound = supervisor.listeners.flatMap(({ endpoints }) => endpoints)
    const ids = giveUpRoot(this.#loaded.values, bound, control)
    // What root has read at the start is read again whenever a worker is replaced.
    if (ids !== undefined) await supervisor.rehearse().catch((error) => refuseReplacement(ids, error))
  }

  /** @param isSuccessor - To a server in this process, which is ready, and stays it if this fails. */
  #begin(isSuccessor: boolean): Supervision {
    // What workers print goes where our own words go.
    const isRedirected = this.#loaded.values.daemon !== undefined && this.#loaded.values.daemon !== false
    const supervision = supervise(this.#given.words, this.#foundation, {
      isSuccessor,
      isRedirected,
      handOn: (seed) => handOn(this.#loaded.values, seed),
    })
    // However this process ends, but by SIGKILL: no worker stays. Without us they leave by themselves.
    process.once('exit', () => {
      supervision.supervisor.kill()
      supervision.close()
    })
    return supervision
  }

  async #reloadNow(): Promise<void> {
    let result: Promise<void> = Promise.resolve()
    const run = () => {
      const reloading = this.#supervision?.supervisor.reload() ?? this.#become()
      result = reloading.then(() => this.#refreshCompanions())
      return result.catch(() => {})
    }
    await this.#background.reloads(run)
    await result
    // With the generations of workers that serve their last connections it would be one too many.
    if ((this.#supervision?.supervisor.before.length ?? 0) >= 2)
      void this.#server?.stop({ ...this.#parting, serveMs: 0 })
  }

  async #become(): Promise<void> {
    const becoming = this.#becomeSupervisor()
    this.#becoming = becoming
    await becoming.finally(() => {
      this.#becoming = undefined
    })
  }

  /** Workers serve from now on, on the same sockets; whoever is connected here is served on. */
  async #becomeSupervisor(): Promise<void> {
    const server = this.#server
    if (server?.state !== 'ready' || this.#isStopping) throw new Error(`a server that is ${this.state} is not reloaded`)
    const { events, sockets, counters } = this.#foundation
    const began = performance.now()
    events.emit('reload.started', { generation: 1 })
    const supervision = this.#begin(true)
    this.#raising = supervision
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
    } finally {
      this.#raising = undefined
    }
    const { plugins = [] } = this.#loaded.values
    this.#hosted = textOf(chosenOf(plugins, server.hosted))
    this.#names = server.takeNames()
    this.#supervision = supervision
    sockets.handOn()
    const workers = supervision.supervisor.workers.length
    events.emit('reload.finished', { generation: 1, workers, durationMs: Math.round(performance.now() - began) })
    counters.reloads = (counters.reloads ?? 0) + 1
    void this.#part(server, supervision)
  }

  async #part(server: PlacedServer, { supervisor }: Supervision): Promise<void> {
    const { counters } = this.#foundation
    await server.stop(this.#parting)
    supervisor.remember(`${process.pid}`, FORMER, lastReportsOf(server))
    for (const [name, count] of Object.entries(server.counters)) counters[name] = (counters[name] ?? 0) + count
    this.#server = undefined
  }
}

function chosenOf(plugins: PluginEntries, chosen: readonly number[]): PluginEntries {
  return plugins.filter((_, index) => chosen.includes(index))
}

/** The same text for what is configured the same; a plugin that is code is told by its name. */
function textOf(entries: PluginEntries): string {
  return JSON.stringify(entries, (_, value) => (typeof value === 'function' ? String(value.name) : value))
}
