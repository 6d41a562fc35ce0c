/**
 * Where a server process begins that a supervisor has started.
 *
 * A door, as place.ts is: it reads the configuration, says which sockets it needs, serves on those it is handed, and ends when it
 * is told to, or when its supervisor is gone.
 */
import 'reflect-metadata'
import type { Socket } from 'node:net'
import { getHeapStatistics } from 'node:v8'
import { readArguments } from './cli/arguments.js'
import { describe } from './cli/describe.js'
import { tolerateOutput } from './cli/output.js'
import { levelOf, report } from './cli/report.js'
import { optionsOf } from './cli/serve-options.js'
import { lastReportsOf } from './core/control/report.js'
import { type Asker, Control, type ControlRequest } from './core/control.js'
import { ConfigError, toError } from './core/errors.js'
import { drainTimeoutMs } from './core/options.js'
import { packError } from './core/places/portable-error.js'
import { isPortable } from './core/places/wire.js'
import { profileDirectory, startProfile } from './core/profile.js'
import { TicketSecret } from './core/ticket-secret.js'
import type { Want } from './core/workers/holder.js'
import type { Init } from './core/workers/messages.js'
import { openServer, type PlacedServer, readConfiguration, type ServerOptions } from './gaidaros.js'
import { SocketsFromSupervisor } from './transports/handed-sockets.js'
import { KEY_IN_CODE } from './transports/udp-session-key.js'
import { version } from './version.js'

type Message = { readonly t: string; readonly [key: string]: unknown }
type Send = (message: object, handle?: unknown, done?: (error: Error | null) => void) => void

/** What the application may want to say to whoever started it goes nowhere; it must not be taken for our words. */
const MOST_COUNTED_MS = 1_000
/** Lines on their way to one asker; more are left out, and counted. */
const MOST_UNREAD = 256
/** For the last words on the channel. */
const LAST_MS = 1_000

const send = captureChannel()
const sockets = new SocketsFromSupervisor()
let server: PlacedServer | undefined
let control: Control | undefined
const askers = new Map<number, Asker & { leave(): void }>()
const ticketSecret = new TicketSecret(new Uint8Array(0))
/** With which to exit. */
let status = 0
let isLeaving = false

tolerateOutput()
process.on('message', (message: Message, handle: unknown) => {
  if (message.t === 'c') took()
  if (!sockets.receive(message, handle)) hear(message, handle)
})
process.on('disconnect', () => {
  // The supervisor is gone: nobody comes any more, and whoever is here is served to the end.
  void leave({ timeoutMs: server?.configuration.values.drain?.timeoutMs ?? drainTimeoutMs })
})
// A signal to the whole group is the supervisor's business: it drains, and tells.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const) process.on(signal, () => {})
process.on('uncaughtException', fail)
process.on('unhandledRejection', fail)

let taken = 0

/** Said once a turn: until then the supervisor sends no more than a few. */
function took(): void {
  if (taken++ === 0) {
    setImmediate(() => {
      send({ t: 'took', count: taken })
      taken = 0
    })
  }
}

function hear(message: Message, handle: unknown): void {
  switch (message.t) {
    case 'init':
      begin(message as unknown as Init).catch(refuse)
      return
    case 'bound':
      sockets.bound = message.sockets as never
      serve().catch(refuse)
      return
    case 'copy':
      // What was passed here and goes back is a second descriptor; this one is not needed.
      send({ t: 'copy', id: message.id }, handle, () => (handle as { close(): void }).close())
      return
    case 'probe': {
      // A real connection, handed over as any: answered by the process that would serve it, before a handler could see it.
      const socket = handle as Socket
      socket.on('error', () => {})
      socket.end(sockets.isTaken(String(message.k)) ? String(message.k) : '')
      return
    }
    case 'ping':
      send({ t: 'pong', ...facts() })
      return
    case 'ask':
      void answer(Number(message.id), message.request as ControlRequest, message.asker as number | undefined)
      return
    case 'gone':
      askers.get(Number(message.asker))?.leave()
      askers.delete(Number(message.asker))
      return
    case 'tickets':
      ticketSecret.set((message.keys as Uint8Array).slice())
      return
    case 'drain':
      void leave(message as never)
      return
  }
}

async function begin({ args, seed, slot, ticketKeys: keys }: Init): Promise<void> {
  ticketSecret.set(keys.slice())
  const given = readArguments(args)
  const options = (seed as ServerOptions | undefined) ?? optionsOf(given)
  const loaded = await readConfiguration(options)
  const { values } = loaded
  const opened = await openServer(loaded, options, {
    place: 'worker',
    worker: String(slot),
    sockets: (key) => sockets.of(key),
    ticketSecret,
  })
  server = opened
  const { control: steered, profile } = values
  const redact = typeof steered === 'object' ? steered.redact : undefined
  control = new Control(opened, version, { worker: String(slot), ...(redact !== undefined && { redact }) })
  if (profile !== undefined && profile !== false) startProfile(profile === true ? profileDirectory : profile, 'worker')
  if (given.flags.strict) await (await import('./cli/doctor/index.js')).insist(opened, given)
  report(opened, levelOf(given, loaded), slot)
  const wants: Want[] = []
  for (const { name, plan } of opened.listeners) {
    for (const [index, { transport, endpoint, options: socket }] of plan.bindings.entries()) {
      if (endpoint.scheme === 'stdio') {
        const message = `listeners.${name}.endpoint: standard input and output belong to one process; a worker has none (workers, reload)`
        throw new ConfigError('BAD_VALUE', message, { place: `listeners.${name}.endpoint` })
      }
      await transport.check?.(endpoint, socket)
      if (transport.binds === undefined) continue
      const { scheme, host, port, path } = endpoint
      wants.push({
        key: `${name}/${index}`,
        listener: name,
        kind: transport.binds,
        endpoint: { scheme, host, port, path },
        options: dataOf(socket),
        waits: plan.limits.whenFull === 'pause',
      })
    }
  }
  opened.on('limit.reached', ({ listener, limit }) => {
    if (limit === 'connections') send({ t: 'full', listener, isFull: true })
  })
  opened.on('limit.cleared', ({ listener, limit }) => {
    if (limit === 'connections') send({ t: 'full', listener, isFull: false })
  })
  send({
    t: 'planned',
    wants,
    workers: values.workers ?? 1,
    drainMs: values.drain?.timeoutMs ?? drainTimeoutMs,
    companions: opened.hosted,
    // What the others of this generation shall read, so that all serve the same, whatever becomes of the files.
    seed: seed ?? seedOf(values, options),
  })
}

/** The configuration as options in code; undefined where there is code in it, which each process has to load itself. */
function seedOf(
  values: PlacedServer['configuration']['values'],
  { modulesFrom = [], ownsContainer = true }: ServerOptions,
): ServerOptions | undefined {
  const seed = { ...values, config: false, env: {}, flags: [], modulesFrom, ownsContainer } as ServerOptions
  return isPortable(seed) ? seed : undefined
}

/** What of a socket's options can be told another process; of a key that is code, that there is one. */
function dataOf(options: object): Record<string, unknown> {
  const left = ['tls', 'limits', 'timeouts', 'sockets']
  const { sessionKey } = options as { sessionKey?: unknown }
  return {
    ...Object.fromEntries(Object.entries(options).filter(([key, value]) => !left.includes(key) && isPortable(value))),
    ...(typeof sessionKey === 'function' && { sessionKey: KEY_IN_CODE }),
  }
}

async function serve(): Promise<void> {
  await server?.start()
  const listeners = [...(server?.listeners ?? [])]
  send({ t: 'ready', listeners: listeners.map(({ name, endpoints }) => ({ name, endpoints: endpoints.map(String) })) })
}

/** It cannot begin. */
function refuse(thrown: unknown): void {
  send({ t: 'failed', error: packError(toError(thrown)) })
  status = 1
  void leave({ timeoutMs: 0 })
}

/** An error nobody caught: this process ends in order, and another one takes its place. */
function fail(thrown: unknown): void {
  process.stderr.write(describe(toError(thrown), true))
  status = 1
  if (isLeaving) return
  if (process.connected) send({ t: 'dying', error: packError(toError(thrown)) })
  // The answer is `drain`; without one it leaves all the same.
  setTimeout(() => void leave({ timeoutMs: 0 }), LAST_MS).unref()
}

async function leave({ timeoutMs, patienceMs = 0 }: { timeoutMs: number; patienceMs?: number }): Promise<void> {
  if (isLeaving) {
    await server?.stop({ timeoutMs })
    return
  }
  isLeaving = true
  await server?.stop({ timeoutMs, patienceMs })
  const last = () => process.exit(status)
  setTimeout(last, LAST_MS)
  if (process.connected) send({ t: 'drained', ...facts(), reports: lastReports() }, undefined, last)
  else last()
}

/** What cannot be sent is not said. */
function lastReports(): Record<string, unknown> {
  const reports = server === undefined ? {} : lastReportsOf(server)
  return Object.fromEntries(Object.entries(reports).filter(([, report]) => isPortable(report)))
}

/** Who asks over the supervisor's control socket, by its number there. */
function askerOf(id: number): Asker {
  const known = askers.get(id)
  if (known !== undefined) return known
  let unread = 0
  let leave = () => {}
  const closed = new Promise<void>((resolve) => {
    leave = resolve
  })
  const asker = {
    closed,
    leave,
    tell(line: object) {
      if (unread >= MOST_UNREAD || !process.connected) return false
      unread++
      send({ t: 'told', asker: id, line }, undefined, () => unread--)
      return true
    },
  }
  askers.set(id, asker)
  return asker
}

async function answer(id: number, request: ControlRequest, asker: number | undefined): Promise<void> {
  try {
    const result = await control?.ask(request, asker === undefined ? undefined : askerOf(asker))
    send({ t: 'answer', id, result })
  } catch (error) {
    send({ t: 'answer', id, error: toError(error).message })
  }
}

function facts(): object {
  const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics()
  return {
    connections: server?.connections.size ?? 0,
    heapShare: used / limit,
    counters: { ...server?.counters },
    figures: control?.figures ?? [],
  }
}

/** The channel is ours; what is left to the application under its name drops and counts what it is given. */
function captureChannel(): Send {
  const own = process.send?.bind(process) as NonNullable<typeof process.send> | undefined
  if (own === undefined) throw new Error('this module runs in a process that a supervisor has started')
  let countedAt = Number.NEGATIVE_INFINITY
  ;(process as { send: unknown }).send = (...given: readonly unknown[]) => {
    const now = performance.now()
    // Once a second is enough to be seen.
    if (now - countedAt > MOST_COUNTED_MS) own({ t: 'junk' })
    countedAt = now
    const done = given.at(-1)
    if (typeof done === 'function') {
      const why = 'process.send: the channel of a worker is its supervisor’s; nothing was sent'
      process.nextTick(done as (error: Error) => void, new Error(why))
    }
    return false
  }
  return (message, handle, done) => {
    if (process.connected) own(message, handle as never, {}, (error) => done?.(error))
    else done?.(null)
  }
}
