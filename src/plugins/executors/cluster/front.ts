/**
 * `cluster`: handlers on other machines, found and reached over NATS.
 *
 * Room: plugins/executors. Nodes say who they are and how busy; a connection gets the least busy one and keeps it. All
 * connections of a node share one link (`link.ts`), which is one place to the rest of Gaidaros: seats, order, iterable
 * replies and credit are those of threads and processes.
 */
import { randomBytes } from 'node:crypto'
import type { Connection } from '../../../core/connection.js'
import { ExecutorError, HandlerError, toError, WiringError } from '../../../core/errors.js'
import type { Executor, Load, Placement, Task } from '../../../core/executor.js'
import type { HandlerPlan } from '../../../core/handler.js'
import type { HandlerSource } from '../../../core/places/handler-source.js'
import { PlaceHandle, type PlaceOwner, type Seat } from '../../../core/places/place-handle.js'
import { type PlaceChooser, placedPlan } from '../../../core/places/placed-plan.js'
import { PulledItems } from '../../../core/places/pulled-items.js'
import type { Factory, PluginServices } from '../../../core/plugin.js'
import { loadKey } from '../pool.js'
import type { AffinityKey } from '../pool-options.js'
import { Bus } from './bus.js'
import * as envelopes from './envelope.js'
import { readEnvelope, subjectsOf, writeEnvelope } from './envelope.js'
import { ClusterLink } from './link.js'
import { nameAbroad } from './names.js'
import { type ClusterOptions, clusterSchema, warnIfOpen } from './options.js'
import { readPresence } from './presence.js'
import { type KnownNode, Roster } from './roster.js'
import { Ticker } from './ticker.js'

/** A server starts without nodes; but those that are there have this long to answer first. */
const DISCOVERY_MS = 1_000

/** A place and the link beneath. */
interface Berth {
  readonly place: PlaceHandle
  readonly link: ClusterLink
  /** Undefined: it waits for the first node that comes. */
  instance: string | undefined
}

/** @param base - The configuration's `cluster`: stands under what the executor says. */
export function cluster(base?: string | object): Factory<Executor, ClusterOptions> {
  return {
    name: 'cluster',
    options: clusterSchema(base),
    create: (options, services) => new Front(options, services),
  }
}

export class Front implements Executor, PlaceOwner, PlaceChooser {
  readonly name = 'cluster'
  readonly runners = Number.POSITIVE_INFINITY
  readonly clock: PluginServices['clock']
  readonly isPerMessage: boolean
  readonly reopens: boolean
  readonly mostRecordBytes: number
  readonly #options: ClusterOptions
  readonly #services: PluginServices
  readonly #subjects: ReturnType<typeof subjectsOf>
  /** Nobody can guess where answers go. */
  readonly #id = randomBytes(16).toString('base64url')
  readonly #sources = new Map<number, HandlerSource>()
  readonly #nodes: Roster
  readonly #links = new Map<string, Berth>()
  readonly #berths = new Map<PlaceHandle, Berth>()
  readonly #defined = new Map<PlaceHandle, Map<number, Promise<unknown>>>()
  /** Undefined until it is loaded, where it is named. */
  #keyOf: AffinityKey | undefined
  #bus: Bus | undefined
  #starting: Promise<void> | undefined
  #ticker: Ticker | undefined
  #waiting = 0
  #waitingBytes = 0
  #dropped = 0
  #downSince: number | undefined
  #isEnding = false
  /** A handler here wants to hear of it. */
  #hasDrain = false
  #whenEmpty: (() => void) | undefined
  #whenReady: (() => void) | undefined

  constructor(options: ClusterOptions, services: PluginServices) {
    this.#options = options
    this.#services = services
    this.#subjects = subjectsOf(options.name)
    this.clock = services.clock
    this.isPerMessage = options.affinity === 'none'
    this.#nodes = new Roster(services.clock, this.isPerMessage)
    this.reopens = options.whenLost === 'reopen'
    this.mostRecordBytes = options.messageBytes
  }

  // -- the executor --------------------------------------------------------------------------------------------------

  place(plan: HandlerPlan, placement: Placement): HandlerPlan {
    const { name, options } = plan.definition
    const { source, place } = placement
    if (source === undefined) {
      const message = `${place}: handler ${name} was given as a value in code, and a node has no way to find it; name it by its file: './handlers.ts#${name}'`
      throw new WiringError('BAD_HANDLER', message, { handler: name, executor: this.name })
    }
    if (this.isPerMessage && options.scope === 'connection') {
      const message = `${place}: affinity 'none' sends each message of a connection to any node, and handler ${name} has the scope 'connection'; use affinity 'connection'`
      throw new WiringError('BAD_OPTION', message, { handler: name, executor: this.name })
    }
    if (plan.definition.hooks.drain !== undefined) this.#hasDrain = true
    const key = this.#sources.size + 1
    this.#sources.set(key, nameAbroad(source, name, this.#services.places?.base ?? process.cwd()))
    return placedPlan(plan, key, this, placement)
  }

  start(): Promise<void> {
    this.#starting ??= this.#start()
    return this.#starting.then(() => this.#defineAll())
  }

  async #start(): Promise<void> {
    this.#keyOf = await loadKey(this.#options.affinity, this.name, this.#services)
    warnIfOpen(this.#options)
    const { who, nodes, front } = this.#subjects
    const bus = await Bus.connect(
      this.#options,
      {
        changed: (isUp) => this.#busChanged(isUp),
        refused: (error) => process.emitWarning(`cluster: NATS refuses: ${error.message}`, 'GaidarosWarning'),
      },
      `gaidaros front of ${this.#options.name}`,
    )
    this.#bus = bus
    bus.subscribe(nodes, (data) => this.#heardOf(data))
    bus.subscribe(
      front(this.#id, '*'),
      (data, subject, reply) => this.#take(data, subject, reply),
      (subject) => this.#links.get(lastOf(subject))?.link.nobody('it has left NATS'),
    )
    this.#ticker = new Ticker(this.clock, this.#options.heartbeatMs, (now, wasPunctual) => this.#tick(now, wasPunctual))
    bus.publish(who, Buffer.alloc(0))
    // So that `ready` means that messages can be handled, where there is a node at all.
    await new Promise<void>((resolve) => {
      const cancel = this.clock.after(DISCOVERY_MS, resolve)
      this.#whenReady = () => {
        cancel()
        resolve()
      }
    })
    this.#whenReady = undefined
  }

  run(_task: Task): never {
    throw new WiringError('BAD_STATE', 'executor cluster places handlers; it runs no single task')
  }

  load(): Load {
    const places = this.#nodes.places()
    const dropped = this.#dropped
    return { running: this.#waiting, queued: 0, places, dropped, isConnected: this.#bus?.isUp ?? false }
  }

  async drain(deadline: number): Promise<void> {
    this.#isEnding = true
    // A start that is still under way has nothing to wait for.
    this.#whenReady?.()
    await this.#starting?.catch(() => {})
    for (const { place, instance } of this.#links.values()) {
      if (instance === undefined) place.kill(new ExecutorError('LOST', 'the server has stopped'))
      else place.retire()
    }
    if (this.#links.size > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.clock.after(Math.max(0, deadline - this.clock.now()), () => {
          for (const { place } of [...this.#links.values()])
            place.kill(new ExecutorError('LOST', 'the drain deadline has come'))
        })
        this.#whenEmpty = () => {
          cancel()
          resolve()
        }
      })
    }
    this.#ticker?.stop()
    this.#nodes.stop()
    await this.#bus?.close()
  }

  // -- choosing ------------------------------------------------------------------------------------------------------

  choose(connection: Connection): PlaceHandle {
    const place =
      this.#keyOf === undefined ? this.#nodes.leastLoaded() : this.#nodes.byKey(String(this.#keyOf(connection)))
    const chosen = place ?? this.#nodes.starting()
    if (chosen !== undefined) return chosen
    const { name, whenDown } = this.#options
    if (whenDown === 'wait' && !this.#isEnding) return this.#lobby().place
    const why = this.#bus?.isUp
      ? `no node of cluster ${name} is there; start one with: gaidaros node`
      : `cluster ${name}: NATS is down`
    throw new ExecutorError('LOST', why)
  }

  admit(): void {
    const { queue, queueBytes } = this.#options
    if (this.#waiting >= queue) {
      const message = `${this.#waiting} messages wait for executor cluster; queue is ${queue}`
      throw new ExecutorError('OVERLOADED', message, { queue })
    }
    if (this.#waitingBytes >= queueBytes) {
      const message = `${this.#waitingBytes} bytes of messages wait for executor cluster; queueBytes is ${queueBytes}`
      throw new ExecutorError('OVERLOADED', message, { queueBytes })
    }
    this.#waiting++
  }

  undo(): void {
    this.#waiting--
  }

  // -- nodes ---------------------------------------------------------------------------------------------------------

  #heardOf(data: Uint8Array): void {
    const presence = readPresence(data)
    if (presence === undefined) {
      this.#dropped++
      return
    }
    const node = this.#nodes.heard(presence)
    if (node === 'tooMany') this.#dropped++
    if (node === undefined || node === 'tooMany') return
    const { state } = presence
    if (state !== 'ready') this.#retire(node.place)
    else if (node.place === undefined && !node.isResting && !this.#isEnding) this.#board(node)
  }

  /** A link to a node; whoever waits for the first one that comes gets it. */
  #board(node: KnownNode): void {
    const { instance } = node.presence
    const berth = [...this.#links.values()].find((one) => one.instance === undefined) ?? this.#berth()
    const { place, link } = berth
    berth.instance = instance
    link.name = `node ${instance}`
    node.place = place
    node.seatsThen = 0
    const asked = Buffer.from(this.#subjects.front(this.#id, link.id))
    this.#bus?.publish(this.#subjects.instance(instance, link.id), writeEnvelope(envelopes.OPEN, 0, 0, asked))
    link.open()
    void this.#define(place).then(
      () => {
        if (place.state !== 'starting') return
        place.state = 'ready'
        this.#whenReady?.()
      },
      (error) => {
        if (error instanceof ExecutorError) return
        process.emitWarning(`cluster: node ${instance} cannot be used: ${error.message}`, 'GaidarosWarning')
        // Without its handlers it is of no use.
        place.kill(new ExecutorError('LOST', error.message, { cause: error }))
      },
    )
  }

  /** Where messages wait for a node, where they may. */
  #lobby(): Berth {
    for (const berth of this.#links.values()) if (berth.instance === undefined) return berth
    const berth = this.#berth()
    void this.#define(berth.place).catch(() => {})
    return berth
  }

  #berth(): Berth {
    const place = new PlaceHandle(this)
    const { clock } = this
    const self = this
    let berth: Berth
    const link = new ClusterLink(
      randomBytes(16).toString('base64url'),
      'a node that is yet to come',
      {
        clock,
        get isUp() {
          return self.#bus?.isUp ?? false
        },
        get maxPayload() {
          return self.#bus?.maxPayload ?? 0
        },
        post: (envelope, isProbe) => {
          const subject = this.#subjects.instance(berth.instance as string, link.id)
          this.#bus?.publish(subject, envelope, isProbe ? this.#subjects.front(this.#id, link.id) : undefined)
        },
        ended: () => this.#links.delete(link.id),
        dropped: () => this.#dropped++,
      },
      this.#options,
      place,
    )
    berth = { place, link, instance: undefined }
    this.#links.set(link.id, berth)
    this.#berths.set(place, berth)
    this.#defined.set(place, new Map())
    place.attach(link)
    return berth
  }

  async #define(place: PlaceHandle): Promise<void> {
    const defined = this.#defined.get(place)
    if (defined === undefined) return
    for (const [key, source] of this.#sources) if (!defined.has(key)) defined.set(key, place.define(key, source))
    await Promise.all(defined.values())
  }

  async #defineAll(): Promise<void> {
    await Promise.all([...this.#berths.values()].map(({ place, instance }) => instance && this.#define(place)))
  }

  /**
   * No more connections; those it has move on, or end, once nothing of theirs is under way.
   *
   * @param leavesInMs - How long it stays for them, as far as is known.
   */
  #retire(place: PlaceHandle | undefined, leavesInMs = 0): void {
    if (place === undefined || place.state === 'retiring') return
    place.retire()
    const deadline = new Date(Date.now() + leavesInMs)
    for (const seat of [...place.taken]) {
      // Where connections move on, nothing ends for them.
      if (this.#hasDrain && !this.reopens && seat.hasHooks) void this.#tellDrain(seat, deadline)
      if (seat.running === 0) this.idle(seat)
    }
  }

  /** `@OnDrain` over there, as the session does it when the server itself drains; what it returns goes to the peer. */
  async #tellDrain(seat: Seat, deadline: Date): Promise<void> {
    const { connection } = seat
    let saying: Promise<unknown>
    // Not held back by the queue: a node that leaves has no other time for it.
    this.#waiting++
    try {
      saying = seat.place.hook(seat, 'drain', deadline)
    } catch {
      this.#waiting--
      return
    }
    try {
      const said = await saying
      if (said instanceof PulledItems) for await (const item of said) await connection.send(item)
      else if (said !== undefined) await connection.send(said)
    } catch (error) {
      const message = `@OnDrain on a node that leaves failed: ${toError(error).message}`
      const { events } = this.#services
      if (events.wants('handler.failed'))
        events.emit('handler.failed', {
          connection,
          error: new HandlerError('HANDLER_FAILED', message, { cause: error }),
        })
    }
  }

  idle(seat: Seat): void {
    if (seat.isLost || this.#isEnding) return
    if (this.reopens) seat.place.vacate(seat, { code: 'LOST', by: 'server' })
    else void seat.connection.close('LOST')
  }

  #take(data: Uint8Array, subject: string, reply: string | undefined): void {
    const envelope = readEnvelope(data)
    const berth = this.#links.get(lastOf(subject))
    if (envelope === undefined || berth === undefined) {
      this.#dropped++
      // A node that still holds seats for a link that is over is told so.
      if (envelope?.kind === envelopes.BEAT && reply !== undefined && this.#subjects.isOurs('inst', reply))
        this.#bus?.publish(reply, writeEnvelope(envelopes.BYE, 0, 0, Buffer.from('the server knows no such link')))
      return
    }
    if (envelope.kind === envelopes.RETIRE) this.#retire(berth.place, envelope.number)
    else berth.link.take(envelope)
  }

  // -- time, and NATS that comes and goes ----------------------------------------------------------------------------

  #busChanged(isUp: boolean): void {
    const now = this.clock.now()
    this.#downSince = isUp ? undefined : now
    if (!isUp) return
    this.#bus?.publish(this.#subjects.who, Buffer.alloc(0))
    for (const { link } of this.#links.values()) link.resume()
  }

  #tick(now: number, wasPunctual: boolean): void {
    const { timeoutMs, lostMs } = this.#options
    this.#expire(now, timeoutMs)
    if (this.#downSince !== undefined) {
      if (this.#options.whenDown === 'fail' && now - this.#downSince >= this.#options.downMs) {
        const seconds = ((now - this.#downSince) / 1_000).toFixed(1)
        for (const { place } of [...this.#links.values()])
          place.kill(new ExecutorError('LOST', `NATS has been away for ${seconds} s`))
      }
      return
    }
    for (const { link } of [...this.#links.values()]) {
      link.beat()
      if (wasPunctual) link.watch(now)
    }
    this.#nodes.forget(lostMs * 2)
  }

  #expire(now: number, timeoutMs: number): void {
    for (const { place } of this.#links.values()) {
      const { oldest } = place
      if (oldest === undefined || now - oldest <= timeoutMs) continue
      const message = `no answer from ${place.name} within ${timeoutMs} ms (executor.timeoutMs)`
      place.expire(now - timeoutMs, () => new ExecutorError('TIMEOUT', message, { timeoutMs }))
    }
  }

  // -- told by places ------------------------------------------------------------------------------------------------

  asked(bytes: number): void {
    this.#waitingBytes += bytes
  }

  settled(bytes: number): void {
    this.#waiting--
    this.#waitingBytes -= bytes
  }

  sendFailed(connection: Connection, cause: Error): void {
    const { events } = this.#services
    if (!events.wants('handler.failed')) return
    const message = `a send of a handler in the cluster failed: ${cause.message}`
    events.emit('handler.failed', { connection, error: new HandlerError('HANDLER_FAILED', message, { cause }) })
  }

  left(): void {}

  lost(place: PlaceHandle, error: Error, taken: readonly Seat[]): void {
    // Those that only wait to hear that what they had is released.
    const seats = taken.filter(({ connection }) => connection.state !== 'closed')
    const wasRetiring = place.state === 'retiring'
    const wasOfUse = place.state === 'ready'
    const instance = this.#berths.get(place)?.instance
    this.#berths.delete(place)
    this.#defined.delete(place)
    const node = instance === undefined ? undefined : this.#nodes.get(instance)
    if (node !== undefined) node.place = undefined
    if (!wasRetiring || seats.length > 0) {
      const { events } = this.#services
      events.emit('executor.lost', { executor: this.name, place: place.name, error, connections: seats.length })
      if (!this.reopens) for (const seat of seats) setImmediate(() => void seat.connection.close('LOST'))
    }
    if (this.#links.size === 0) this.#whenEmpty?.()
    if (node === undefined || this.#isEnding) return
    // It may be there still, or again: with its next word, unless this happens over and over.
    node.isResting = true
    node.backoff.next(wasOfUse, () => {
      node.isResting = false
    })
  }
}

function lastOf(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1)
}
