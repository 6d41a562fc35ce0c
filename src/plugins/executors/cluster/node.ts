/**
 * The node's side of a cluster: it says that it is there, and runs handlers for whoever has the connections.
 *
 * Room: plugins/executors. What it may run it knows from its own configuration; a front only names it.
 */
import type { Clock } from '../../../core/clock.js'
import { ExecutorError } from '../../../core/errors.js'
import type { HandlerPlan } from '../../../core/handler.js'
import type { HandlerSource } from '../../../core/places/handler-source.js'
import { Place } from '../../../core/places/place.js'
import { residentMemory } from '../../../core/usage.js'
import { Bus } from './bus.js'
import * as envelopes from './envelope.js'
import { isToken, readEnvelope, subjectsOf, writeEnvelope } from './envelope.js'
import { ClusterLink } from './link.js'
import { type ClusterOptions, warnIfOpen } from './options.js'
import { type Presence, writePresence } from './presence.js'
import { Ticker } from './ticker.js'

export interface NodeParts {
  readonly options: ClusterOptions
  readonly clock: Clock
  readonly instance: string
  readonly host: string
  readonly version: string
  /** Finds a handler among those this node has. @throws {WiringError} `BAD_HANDLER`. */
  load(source: HandlerSource): Promise<HandlerPlan>
  /** Told of what the operator should know. */
  log(what: string): void
}

/** Every server hears of every node: less often than the two of a link hear of each other. */
const BEATS_A_WORD = 4
/** Links at a time: one for each front. */
/** Longer than any record is under way. */
const MOST_ENDED = 4_096
const MOST_LINKS = 1_024

interface Berth {
  readonly link: ClusterLink
  readonly place: Place
  readonly replyTo: string
}

export class ClusterNode {
  readonly #parts: NodeParts
  readonly #subjects: ReturnType<typeof subjectsOf>
  readonly #links = new Map<string, Berth>()
  #bus: Bus | undefined
  #ticker: Ticker | undefined
  #state: Presence['state'] = 'ready'
  #downSince: number | undefined
  /** Names of links that are over; each link has one of its own. */
  readonly #ended = new Set<string>()
  #dropped = 0
  #beats = 0
  #whenEmpty: (() => void) | undefined
  /** Of links that are over. */
  #handledBefore = 0
  #leaving: { readonly done: Promise<number>; sooner(timeoutMs: number): void } | undefined

  constructor(parts: NodeParts) {
    this.#parts = parts
    this.#subjects = subjectsOf(parts.options.name)
  }

  get instance(): string {
    return this.#parts.instance
  }
  get connections(): number {
    let count = 0
    for (const { place } of this.#links.values()) count += place.seats
    return count
  }
  get fronts(): number {
    return this.#links.size
  }
  /** Messages and hooks under way. */
  get running(): number {
    let count = 0
    for (const { place } of this.#links.values()) count += place.running
    return count
  }
  /** Those that are done. */
  get handled(): number {
    let count = this.#handledBefore
    for (const { place } of this.#links.values()) count += place.handled
    return count
  }
  get isConnected(): boolean {
    return this.#bus?.isUp ?? false
  }
  /** Of what came and meant nothing. */
  get dropped(): number {
    return this.#dropped
  }

  /** @throws {ConfigError | ConnectionError} */
  async join(): Promise<void> {
    const { options, instance, clock, log } = this.#parts
    warnIfOpen(options)
    const refused = new Promise<never>((_, reject) => {
      this.#refused = (error) => reject(error)
    })
    refused.catch(() => {})
    const bus = await Bus.connect(
      options,
      {
        changed: (isUp) => this.#busChanged(isUp),
        refused: (error) => {
          log(`NATS refuses: ${error.message}`)
          this.#refused(error)
        },
      },
      `gaidaros node ${instance} of ${options.name}`,
    )
    this.#bus = bus
    bus.subscribe(
      this.#subjects.instance(instance, '*'),
      (data, subject, reply) => this.#take(data, subject, reply),
      (subject) => this.#links.get(lastOf(subject))?.link.nobody('the server has left NATS'),
    )
    bus.subscribe(this.#subjects.who, () => this.#announce())
    this.#announce()
    this.#ticker = new Ticker(clock, options.heartbeatMs, (now, wasPunctual) => this.#tick(now, wasPunctual))
    await Promise.race([bus.flush(), refused])
  }
  #refused: (error: Error) => void = () => {}

  /**
   * Takes no new seats, lets those there finish until the deadline, and goes. Another call with a shorter time shortens it.
   *
   * @returns how many connections were cut.
   */
  leave(timeoutMs: number): Promise<number> {
    if (this.#leaving !== undefined) {
      this.#leaving.sooner(timeoutMs)
      return this.#leaving.done
    }
    const { clock } = this.#parts
    let resolve = () => {}
    const over = new Promise<void>((done) => {
      resolve = done
    })
    let deadline = clock.now() + timeoutMs
    let cancel = clock.after(timeoutMs, resolve)
    this.#whenEmpty = () => {
      cancel()
      resolve()
    }
    this.#leaving = {
      done: this.#leave(timeoutMs, over),
      sooner(ms) {
        if (clock.now() + ms >= deadline) return
        deadline = clock.now() + ms
        cancel()
        cancel = clock.after(ms, resolve)
      },
    }
    if (this.#links.size === 0) this.#whenEmpty()
    return this.#leaving.done
  }

  async #leave(timeoutMs: number, over: Promise<void>): Promise<number> {
    this.#state = 'retiring'
    // Those that have connections here first: they hear how long there is.
    const forMs = Math.min(timeoutMs, 0xffffffff)
    for (const { replyTo, link } of this.#links.values())
      if (!link.isOver) this.#bus?.publish(replyTo, writeEnvelope(envelopes.RETIRE, forMs))
    this.#announce()
    await over
    const cut = this.connections
    for (const { link } of [...this.#links.values()]) link.close(new ExecutorError('LOST', 'the node has left'))
    this.#ticker?.stop()
    this.#state = 'gone'
    this.#announce()
    await this.#bus?.flush()
    await this.#bus?.close()
    return cut
  }

  #announce(): void {
    const { instance, host, version } = this.#parts
    const presence: Presence = {
      instance,
      state: this.#state,
      host,
      pid: process.pid,
      version,
      connections: this.connections,
      running: this.running,
      handled: this.handled,
      memoryBytes: residentMemory(),
    }
    this.#bus?.publish(this.#subjects.nodes, writePresence(presence))
  }

  #take(data: Uint8Array, subject: string, reply: string | undefined): void {
    const envelope = readEnvelope(data)
    const id = lastOf(subject)
    const berth = this.#links.get(id)
    if (envelope === undefined || (berth === undefined && envelope.kind !== envelopes.OPEN)) {
      this.#dropped++
      if (envelope?.kind === envelopes.BEAT && reply !== undefined && this.#subjects.isOurs('front', reply))
        this.#bus?.publish(reply, writeEnvelope(envelopes.BYE, 0, 0, Buffer.from('the node knows no such link')))
      return
    }
    if (berth !== undefined) berth.link.take(envelope)
    // A record that came twice must not have what was handled handled again.
    else if (this.#ended.has(id)) this.#dropped++
    else this.#open(id, envelope.payload.toString('latin1', 0, 300))
  }

  #remember(id: string): void {
    this.#ended.add(id)
    if (this.#ended.size <= MOST_ENDED) return
    for (const oldest of this.#ended) {
      this.#ended.delete(oldest)
      break
    }
  }

  #open(id: string, replyTo: string): void {
    if (!this.#subjects.isOurs('front', replyTo) || lastOf(replyTo) !== id || !isToken(id)) {
      this.#dropped++
      return
    }
    const refusal =
      this.#state !== 'ready' ? 'the node is leaving' : this.#links.size >= MOST_LINKS ? 'too many servers' : undefined
    if (refusal !== undefined) {
      this.#bus?.publish(replyTo, writeEnvelope(envelopes.BYE, 0, 0, Buffer.from(refusal)))
      return
    }
    const { options, clock, load } = this.#parts
    const self = this
    const place = new Place({
      // It stands on its own configuration.
      setUp: () => {},
      load,
      report: () => ({ memoryBytes: residentMemory() }),
      mostRecordBytes: options.messageBytes,
      finished: () => setImmediate(() => link.end(new ExecutorError('LOST', 'the last connection has left'))),
    })
    const link: ClusterLink = new ClusterLink(
      id,
      'the server',
      {
        clock,
        get isUp() {
          return self.#bus?.isUp ?? false
        },
        get maxPayload() {
          return self.#bus?.maxPayload ?? 0
        },
        post: (envelope, isProbe) => {
          const reply = isProbe ? this.#subjects.instance(this.#parts.instance, id) : undefined
          this.#bus?.publish(replyTo, envelope, reply)
        },
        ended: () => {
          this.#handledBefore += place.handled
          this.#links.delete(id)
          this.#remember(id)
          if (this.#links.size === 0) this.#whenEmpty?.()
        },
        dropped: () => this.#dropped++,
      },
      options,
      place,
    )
    place.attach(link)
    this.#links.set(id, { link, place, replyTo })
    link.open()
    this.#bus?.publish(replyTo, writeEnvelope(envelopes.ACCEPT))
  }

  #busChanged(isUp: boolean): void {
    const now = this.#parts.clock.now()
    this.#downSince = isUp ? undefined : now
    this.#parts.log(isUp ? 'NATS is back' : 'NATS is away')
    if (!isUp) return
    this.#announce()
    for (const { link } of this.#links.values()) link.resume()
  }

  #tick(now: number, wasPunctual: boolean): void {
    if (this.#downSince !== undefined) {
      const { whenDown, downMs, timeoutMs } = this.#parts.options
      // Twice as patient as the server, which has the last word.
      const patienceMs = whenDown === 'fail' ? downMs * 2 : timeoutMs
      if (now - this.#downSince >= patienceMs)
        for (const { link } of [...this.#links.values()])
          link.close(new ExecutorError('LOST', `NATS has been away for ${Math.round(now - this.#downSince)} ms`))
      return
    }
    if (++this.#beats % BEATS_A_WORD === 0) this.#announce()
    for (const { link } of [...this.#links.values()]) {
      link.beat()
      if (wasPunctual) link.watch(now)
    }
  }
}

function lastOf(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1)
}
