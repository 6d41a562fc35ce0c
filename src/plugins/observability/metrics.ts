/**
 * `metrics`: figures of the server for Prometheus, at `http://127.0.0.1:9464/metrics`.
 *
 * Room: plugins/observability. Bytes and messages are summed from the connections when somebody asks, so that they cost the
 * way of a message nothing; only its latency is measured there (one reading of the clock a message). Each process that serves
 * measures; the page stands once (metrics-page.ts).
 */
import type { Connection } from '../../core/connection.js'
import { GaidarosError } from '../../core/errors.js'
import type { Events } from '../../core/events.js'
import { TLS } from '../../core/feature.js'
import type { ObservedServer, Observer, Probe } from '../../core/observer.js'
import { optionSchema } from '../../core/option-schema.js'
import { definePlugin, type PluginServices } from '../../core/plugin.js'
import { metricsPage } from './metrics-page.js'
import { type OperatorOptions, operatorFields } from './operator-http.js'
import { additive, type Family, Histogram, type Snapshot, Values } from './series.js'

export { exposition } from './exposition.js'
export { mergeSnapshots } from './merge.js'
export type { Family, HistogramSample, Labels, Snapshot, ValueSample } from './series.js'

export interface MetricsOptions extends OperatorOptions {
  path: string
  listen: boolean
  worker?: string
  buckets: readonly number[]
}

/** Seconds; a handler that answers at once is in the first. */
const LATENCY_BOUNDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
]
const LIFE_BOUNDS = [0.01, 0.1, 1, 10, 60, 300, 1_800, 3_600, 21_600, 86_400]
const DELAY_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5]
/** How often the loop is asked how late it is. */
const DELAY_MS = 50

const states = ['starting', 'ready', 'draining', 'stopped'] as const

/** The snapshots of the servers of this process that have the plugin. */
const snapshots = new WeakMap<object, () => Snapshot>()

/** What a server measured so far; undefined where it has no `metrics`. For a supervisor that adds workers up. */
export function snapshotOf(server: object): Snapshot | undefined {
  return snapshots.get(server)?.()
}

export const metrics = definePlugin<MetricsOptions>({
  name: 'metrics',
  options: optionSchema<MetricsOptions>({
    ...operatorFields(9_464),
    path: {
      unit: 'text',
      default: '/metrics',
      why: 'Where the page is.',
      check: (value) => (String(value).startsWith('/') ? undefined : 'a path that begins with /'),
    },
    listen: { unit: 'switch', default: true, why: 'false: no page; `snapshotOf(server)` in code gives the figures.' },
    worker: { unit: 'text', why: 'Stands as the label `worker` at each series. None: there are no others.' },
    buckets: {
      unit: 'list',
      default: LATENCY_BOUNDS,
      why: 'Upper bounds of the latency histogram, in seconds, ascending.',
      check: (value) => (isAscending(value as unknown[]) ? undefined : 'ascending numbers above 0, at most 50'),
    },
  }),
  setup(registry, options) {
    registry.observer((services) => new Metrics(options, services))
    if (options.listen) registry.companion(metricsPage(options))
  },
})

export default metrics

function isAscending(bounds: readonly unknown[]): boolean {
  return (
    bounds.length > 0 &&
    bounds.length <= 50 &&
    bounds.every((bound, i) => typeof bound === 'number' && bound > 0 && (i === 0 || bound > (bounds[i - 1] as number)))
  )
}

/** What connections that are over have moved. */
interface Moved {
  bytesIn: number
  bytesOut: number
  messagesIn: number
  messagesOut: number
  open: number
}

class Metrics implements Observer {
  readonly name = 'metrics'
  readonly #options: MetricsOptions
  readonly #services: PluginServices
  readonly #latency = new Map<string, Histogram>()
  readonly #lives = new Map<string, Histogram>()
  readonly #delay = new Histogram(DELAY_BOUNDS, {})
  readonly #closed = new Values('listener', 'code', 'by')
  readonly #refused = new Values('listener', 'reason')
  readonly #dropped = new Values('listener', 'code')
  readonly #frames = new Values('listener', 'code')
  readonly #failed = new Values('listener')
  readonly #faults = new Values('listener', 'code')
  readonly #handshakes = new Values('listener', 'protocol', 'resumed')
  readonly #handshakeFailures = new Values('listener', 'code')
  readonly #alarms = new Values('alarm')
  readonly #lost = new Values('executor')
  readonly #over = new Map<string, Map<string, Moved>>()
  readonly #open = new Set<Connection>()
  #server: ObservedServer | undefined
  #load = performance.eventLoopUtilization()
  #stopTimer: (() => void) | undefined
  readonly #undo: (() => void)[] = []

  constructor(options: MetricsOptions, services: PluginServices) {
    this.#options = options
    this.#services = services
  }

  probe(listener: string): Probe {
    const histogram = this.#latency.get(listener) ?? new Histogram(this.#options.buckets, { listener })
    this.#latency.set(listener, histogram)
    const { clock } = this.#services
    return {
      handled(since) {
        const now = clock.now()
        histogram.add((now - since) / 1_000)
        return now
      },
    }
  }

  start(server: ObservedServer): void {
    this.#server = server
    snapshots.set(server, () => this.snapshot())
    this.#listenTo(server)
    this.#watchLoop()
  }

  stop(): void {
    this.#stopTimer?.()
    for (const undo of this.#undo) undo()
  }

  // -- while it runs -------------------------------------------------------------------------------------------------

  #listenTo(server: ObservedServer): void {
    this.#on(server, 'connection.opened', ({ connection }) => {
      this.#open.add(connection)
      const facts = connection.feature(TLS)
      if (facts !== undefined) this.#handshakes.add(1, nameOf(connection), facts.protocol, String(facts.resumed))
    })
    this.#on(server, 'connection.closed', ({ connection, reason }) => {
      this.#open.delete(connection)
      const listener = nameOf(connection)
      this.#closed.add(1, listener, reason.code, reason.by)
      const { openedAt, ...moved } = connection.stats
      add(this.#moved(this.#over, connection), moved)
      let lives = this.#lives.get(listener)
      if (lives === undefined) this.#lives.set(listener, (lives = new Histogram(LIFE_BOUNDS, { listener })))
      lives.add(Math.max(0, Date.now() - openedAt.getTime()) / 1_000)
    })
    this.#on(server, 'connection.refused', ({ listener, reason }) => this.#refused.add(1, listener, reason))
    this.#on(server, 'message.dropped', ({ connection, error }) =>
      this.#dropped.add(1, nameOf(connection), codeOf(error)),
    )
    this.#on(server, 'frame.refused', ({ connection, error }) => this.#frames.add(1, nameOf(connection), codeOf(error)))
    this.#on(server, 'handler.failed', ({ connection }) => this.#failed.add(1, nameOf(connection)))
    this.#on(server, 'listener.fault', ({ listener, error }) => {
      if (error.name === 'HandshakeError') this.#handshakeFailures.add(1, listener, codeOf(error))
      else this.#faults.add(1, listener, codeOf(error))
    })
    this.#on(server, 'alarm.raised', ({ alarm }) => this.#alarms.add(1, alarm))
    this.#on(server, 'executor.lost', ({ executor }) => this.#lost.add(1, executor))
  }

  #on<N extends keyof Events>(server: ObservedServer, name: N, listener: (event: Events[N]) => void): void {
    server.on(name, listener)
    this.#undo.push(() => server.off(name, listener))
  }

  #watchLoop(): void {
    const { clock } = this.#services
    const due = clock.now() + DELAY_MS
    this.#stopTimer = clock.after(DELAY_MS, () => {
      this.#delay.add(Math.max(0, clock.now() - due) / 1_000)
      this.#watchLoop()
    })
  }

  #moved(of: Map<string, Map<string, Moved>>, connection: Connection): Moved {
    const listener = nameOf(connection)
    const byTransport = of.get(listener) ?? new Map<string, Moved>()
    of.set(listener, byTransport)
    const known = byTransport.get(connection.transport)
    if (known !== undefined) return known
    const made = { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0, open: 0 }
    byTransport.set(connection.transport, made)
    return made
  }

  // -- when somebody asks --------------------------------------------------------------------------------------------

  report(): Snapshot {
    return this.snapshot()
  }

  snapshot(): Snapshot {
    const server = this.#server
    const families =
      server === undefined
        ? []
        : [...this.#traffic(server), ...this.#outcomes(), ...this.#state(server), ...processFamilies()]
    return { worker: this.#options.worker, workers: 1, families }
  }

  #traffic(server: ObservedServer): Family[] {
    const now = new Map<string, Map<string, Moved>>()
    for (const [listener, byTransport] of this.#over)
      now.set(listener, new Map([...byTransport].map(([transport, moved]) => [transport, { ...moved }])))
    for (const connection of this.#open) {
      const moved = this.#moved(now, connection)
      add(moved, connection.stats)
      moved.open++
    }
    const accepted = new Values('listener', 'transport')
    const limits = new Values('listener')
    const handshaking = new Values('listener')
    for (const {
      name,
      accepted: byTransport,
      limits: { connections },
      handshaking: arriving,
      endpoints,
    } of server.listeners) {
      for (const { scheme } of endpoints) accepted.add(0, name, scheme)
      for (const [transport, count] of byTransport) accepted.set(count, name, transport)
      limits.set(connections, name)
      handshaking.set(arriving, name)
    }
    const of = (key: keyof Moved) => {
      const values = new Values('listener', 'transport')
      for (const { labels } of accepted.samples) values.set(0, labels.listener as string, labels.transport as string)
      for (const [listener, byTransport] of now)
        for (const [transport, moved] of byTransport) values.set(moved[key], listener, transport)
      return values
    }
    return [
      counter('gaidaros_connections_accepted_total', 'Peers accepted, refused ones included.', accepted),
      gauge('gaidaros_connections_open', 'Connections open now.', of('open')),
      gauge(
        'gaidaros_connections_handshaking',
        'Peers accepted and no connections yet: in a handshake, an upgrade or before a header.',
        handshaking,
      ),
      gauge('gaidaros_connections_limit', 'Connections that may be open at a time.', limits),
      counter('gaidaros_received_bytes_total', 'Bytes that came from peers.', of('bytesIn')),
      counter('gaidaros_sent_bytes_total', 'Bytes handed over for peers.', of('bytesOut')),
      counter('gaidaros_messages_received_total', 'Messages handed to handlers.', of('messagesIn')),
      counter('gaidaros_messages_sent_total', 'Messages sent: replies and others.', of('messagesOut')),
    ]
  }

  #outcomes(): Family[] {
    return [
      histogram('gaidaros_message_duration_seconds', 'From a message to its reply, encoded.', this.#options.buckets, [
        ...this.#latency.values(),
      ]),
      histogram('gaidaros_connection_duration_seconds', 'From open to close.', LIFE_BOUNDS, [...this.#lives.values()]),
      counter(
        'gaidaros_connections_closed_total',
        'Connections that are over, by reason and who decided.',
        this.#closed,
      ),
      counter('gaidaros_connections_refused_total', 'Peers that were not let in, by reason.', this.#refused),
      counter('gaidaros_messages_dropped_total', 'Messages nobody answers for, by reason.', this.#dropped),
      counter('gaidaros_frames_refused_total', 'Frames that broke a limit or the grammar.', this.#frames),
      counter('gaidaros_handler_failures_total', 'Throws of handlers, middleware and hooks.', this.#failed),
      counter('gaidaros_listener_faults_total', 'Accepts that failed, before there was a connection.', this.#faults),
      counter(
        'gaidaros_tls_handshakes_total',
        'TLS handshakes done, and whether a session was resumed.',
        this.#handshakes,
      ),
      counter('gaidaros_tls_handshake_failures_total', 'TLS handshakes that failed.', this.#handshakeFailures),
      counter('gaidaros_alarms_raised_total', 'Alarms raised so far.', this.#alarms),
      counter('gaidaros_executor_places_lost_total', 'Threads, processes or nodes that were lost.', this.#lost),
    ]
  }

  #state(server: ObservedServer): Family[] {
    const state = new Values('state')
    for (const one of states) state.set(one === server.state ? 1 : 0, one)
    const paused = new Values('cause')
    for (const [name, count] of Object.entries(server.counters))
      if (name.startsWith('paused.')) paused.set(count, name.slice('paused.'.length))
    const alarms = new Values('alarm', 'listener')
    for (const { alarm, listener } of server.alarms) alarms.set(1, alarm, listener ?? '')
    const running = new Values('executor')
    const queued = new Values('executor')
    const places = new Values('executor', 'state')
    const memory = new Values('executor')
    for (const executor of server.executors) {
      const load = executor.load()
      running.add(load.running, executor.name)
      queued.add(load.queued, executor.name)
      for (const place of load.places ?? []) {
        places.add(1, executor.name, place.state)
        memory.add(place.memoryBytes, executor.name)
      }
    }
    const utilization = performance.eventLoopUtilization(this.#load)
    this.#load = performance.eventLoopUtilization()
    const usage = server.usage()
    const held = (value: number | undefined) => (value === undefined ? none() : one(value))
    return [
      gauge(
        'gaidaros_server_state',
        'Server processes by state: of a server of one process, the state it is in is 1.',
        state,
      ),
      gauge('gaidaros_alarms', 'Alarms that are raised now.', alarms),
      counter('gaidaros_reads_paused_total', 'Times that reading of a connection stopped, by cause.', paused),
      gauge('gaidaros_executor_running', 'Messages handed to an executor and not answered yet.', running),
      gauge('gaidaros_executor_queued', 'Messages that wait for an executor.', queued),
      gauge('gaidaros_executor_places', 'Threads, processes and nodes, by state.', places),
      gauge('gaidaros_executor_memory_bytes', 'Memory that these said they use.', memory),
      histogram(
        'gaidaros_event_loop_delay_seconds',
        `How late the event loop is, asked every ${DELAY_MS} ms.`,
        DELAY_BOUNDS,
        [this.#delay],
      ),
      gauge(
        'gaidaros_event_loop_utilization_ratio',
        'Share of time the loop was at work since it was last asked.',
        one(utilization.utilization),
        'max',
      ),
      gauge(
        'gaidaros_memory_held_bytes',
        'Bytes held for connections (limits.memoryBytes counts them).',
        held(usage.heldBytes),
      ),
      gauge('gaidaros_memory_limit_bytes', 'limits.memoryBytes.', held(usage.heldLimit)),
      gauge('process_resident_memory_bytes', 'Resident memory of the process.', one(usage.residentBytes)),
      gauge('process_open_fds', 'Open descriptors.', held(usage.descriptors)),
      gauge('process_max_fds', 'Descriptors that may be open.', held(usage.descriptorLimit)),
      gauge('nodejs_heap_size_used_bytes', 'JavaScript heap in use.', one(usage.heapBytes)),
      gauge('nodejs_heap_size_limit_bytes', 'The most it may be.', one(usage.heapLimit)),
    ]
  }
}

function processFamilies(): Family[] {
  const { user, system } = process.cpuUsage()
  const info = new Values('version')
  info.set(1, process.version)
  return [
    counter('process_cpu_seconds_total', 'CPU time of the process.', one(additive((user + system) / 1e6))),
    gauge(
      'process_start_time_seconds',
      'When the process began, since 1970.',
      one(performance.timeOrigin / 1_000),
      'max',
    ),
    gauge('nodejs_version_info', 'The version of Node.', info, 'max'),
  ]
}

function none(): Values {
  return new Values()
}

function one(value: number): Values {
  const values = new Values()
  values.set(value)
  return values
}

function counter(name: string, help: string, { samples }: Values): Family {
  return { name, help, type: 'counter', merge: 'sum', samples }
}

function gauge(name: string, help: string, { samples }: Values, merge: 'sum' | 'max' = 'sum'): Family {
  return { name, help, type: 'gauge', merge, samples }
}

function histogram(name: string, help: string, bounds: readonly number[], all: readonly Histogram[]): Family {
  return { name, help, type: 'histogram', bounds, samples: all.map(({ sample }) => sample) }
}

function add(to: Moved, { bytesIn, bytesOut, messagesIn, messagesOut }: Omit<Moved, 'open'>): void {
  to.bytesIn += bytesIn
  to.bytesOut += bytesOut
  to.messagesIn += messagesIn
  to.messagesOut += messagesOut
}

function nameOf({ listener }: Connection): string {
  return listener ?? ''
}

function codeOf(error: Error): string {
  return error instanceof GaidarosError ? error.code : 'UNKNOWN'
}
