/**
 * What one transport case works with: listeners, links and waiting with a deadline.
 *
 * Room: testing. A rig is made for each case and cleans up after it, so that a case that fails leaves nothing to the
 * next.
 */
import assert from 'node:assert/strict'
import { Endpoint, parseEndpoint } from '../core/endpoint.js'
import { validate } from '../core/standard-schema.js'
import type { Capabilities, Link, Listener, Transport, TransportOptions } from '../core/transport.js'
import { LinkRecorder, type RecordedLink } from './link-recorder.js'
import { createRandom, type Random } from './random.js'

/** A transport to be proved. */
export interface TransportSubject {
  /** In reports and test names: `tcp`, or `tcp ipv6` for one of several runs. */
  readonly name: string
  // biome-ignore lint/suspicious/noExplicitAny: a transport of any options
  readonly transport: Transport<any>
  /** Where to listen; a port 0, or whatever picks a free one. A function is asked anew for each case. */
  readonly endpoint: string | Endpoint | (() => string | Endpoint)
  /**
   * Given to `listen`, and to `connect` where `connectOptions` is left out. Checked by the transport's schema first.
   */
  readonly options?: Readonly<Record<string, unknown>>
  readonly connectOptions?: Readonly<Record<string, unknown>>
  /** For each wait of a case. Default: 5,000. */
  readonly timeoutMs?: number
  /** How long nothing must happen to count as nothing. Default: 50. */
  readonly quietMs?: number
  /** Decides sizes and contents. Default: 1. */
  readonly seed?: number | string
  readonly version?: string
}

/** A listener and the record of its links. */
export interface BoundListener {
  readonly listener: Listener
  readonly sink: LinkRecorder
}

/** Both sides of a link. */
export interface LinkPair extends BoundListener {
  /** The side that connected. */
  readonly near: RecordedLink
  /** The listener's side. */
  readonly far: RecordedLink
}

// Not declared, not promised: the try is cut short.
const PROBE_TIMEOUT_MS = 1_000
const QUIET_TURNS = 20

export class TransportRig {
  readonly subject: TransportSubject
  readonly capabilities: Capabilities
  readonly random: Random
  readonly timeoutMs: number
  readonly quietMs: number
  readonly #connectOptions: TransportOptions
  readonly #options: TransportOptions
  readonly #bound: BoundListener[] = []
  readonly #connected: LinkRecorder[] = []
  readonly #waiting = new Set<() => void>()

  constructor(subject: TransportSubject, id: string, isDeclared: boolean) {
    this.subject = subject
    this.random = createRandom(`${subject.seed ?? 1}/${id}`)
    this.timeoutMs = isDeclared ? (subject.timeoutMs ?? 5_000) : PROBE_TIMEOUT_MS
    this.quietMs = subject.quietMs ?? 50
    this.#options = checkedOptions(subject, subject.options)
    this.#connectOptions = checkedOptions(subject, subject.connectOptions ?? subject.options)
    this.capabilities = capabilitiesOf(subject)
  }

  get isStream(): boolean {
    return this.capabilities.kind === 'stream'
  }

  async listen(endpoint: Endpoint = endpointOf(this.subject)): Promise<BoundListener> {
    const sink = new LinkRecorder(this.#changed)
    const listener = await this.within(
      this.subject.transport.listen(endpoint, this.#options, sink),
      `listen on ${endpoint}`,
    )
    const bound = { listener, sink }
    this.#bound.push(bound)
    return bound
  }

  /** The bare call, for cases about connecting. */
  dial(
    endpoint: Endpoint,
    signal: AbortSignal = new AbortController().signal,
  ): { sink: LinkRecorder; dialled: Promise<Link> } {
    const sink = new LinkRecorder(this.#changed)
    this.#connected.push(sink)
    const { transport } = this.subject
    assert.ok(transport.connect, `${transport.name} has no connect; the kit needs both sides`)
    const dialled = transport.connect(endpoint, this.#connectOptions, sink, signal)
    // A case may look at it late.
    dialled.catch(() => {})
    return { sink, dialled }
  }

  async connect(endpoint: Endpoint): Promise<RecordedLink> {
    const { sink, dialled } = this.dial(endpoint)
    return sink.of(await this.within(dialled, `connect to ${endpoint}`))
  }

  /** One link to a listener, known on both sides. */
  async pair(bound?: BoundListener): Promise<LinkPair> {
    const { listener, sink } = bound ?? (await this.listen())
    const before = sink.opened.length
    const near = await this.connect(listener.endpoint)
    if (this.isStream) {
      await this.until(() => sink.opened.length > before, "the listener's side to open")
      return { listener, sink, near, far: sink.opened[before] as RecordedLink }
    }
    // On datagram transports a peer is known by its first message.
    near.write(Buffer.from('greeting'))
    await this.until(() => (sink.opened[before]?.bytes ?? 0) > 0, "the listener's side to open with the first message")
    const far = sink.opened[before] as RecordedLink
    far.chunks.length = far.views.length = 0
    far.bytes = 0
    return { listener, sink, near, far }
  }

  /** Sends bytes in pieces, at the peer's pace, and proves that they came whole and in order. */
  async transfer(from: RecordedLink, to: RecordedLink, length: number): Promise<void> {
    const bytes = this.random.bytes(length)
    const before = to.bytes
    await this.send(from, bytes, to)
    await this.until(
      () => to.bytes - before >= length || to.isClosed,
      `${length} bytes to arrive`,
      () => summary(to),
    )
    assertSameBytes(to.received(before), bytes)
  }

  /** Writes random-sized pieces of `bytes`, holding back while the link says so. */
  async send(from: RecordedLink, bytes: Buffer, to?: RecordedLink): Promise<void> {
    const largest = this.isStream ? 64 * 1024 : Math.min(1_024, this.capabilities.maxMessageBytes ?? 1_024)
    for (let at = 0; at < bytes.length; ) {
      const size = Math.min(bytes.length - at, this.random.between(1, largest))
      const { drains } = from
      const arrived = to?.bytes ?? 0
      const mayGoOn = from.write(bytes.subarray(at, at + size))
      at += size
      // What may be lost is sent one by one: the cases are about promises, and a burst is promised nothing.
      if (!this.capabilities.reliable && to !== undefined) {
        await this.until(
          () => to.bytes >= arrived + size || to.isClosed,
          'a message to arrive',
          () => summary(to),
        )
      } else if (!mayGoOn && this.capabilities.backpressure !== 'none') {
        await this.until(() => from.drains > drains || from.isClosed, 'drain after a write that returned false')
      }
    }
  }

  /** Waits for a condition that a callback makes true. */
  async until(isMet: () => boolean, what: string, seen?: () => string): Promise<void> {
    if (await this.#isMetWithin(this.timeoutMs, isMet)) return
    throw new Error(`waited ${this.timeoutMs} ms for ${what}${seen === undefined ? '' : `; ${seen()}`}`)
  }

  /** Whether a condition comes true before it counts as not coming. */
  soon(isMet: () => boolean): Promise<boolean> {
    return this.#isMetWithin(this.quietMs, isMet)
  }

  #isMetWithin(ms: number, isMet: () => boolean): Promise<boolean> {
    if (isMet()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const settle = (result: boolean) => {
        clearTimeout(timer)
        this.#waiting.delete(check)
        resolve(result)
      }
      const check = () => {
        if (isMet()) settle(true)
      }
      // On a machine that was busy the timer is due before anything else had its turn.
      const timer = setTimeout(() => void turns(QUIET_TURNS).then(() => settle(false)), ms)
      this.#waiting.add(check)
    })
  }

  untilClosed(...links: RecordedLink[]): Promise<void> {
    return this.until(
      () => links.every(({ isClosed }) => isClosed),
      'close',
      () => links.map(summary).join('; '),
    )
  }

  async within<T>(promise: Promise<T>, what: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`waited ${this.timeoutMs} ms for ${what}`)), this.timeoutMs)
    })
    return Promise.race([promise, late]).finally(() => clearTimeout(timer))
  }

  /** Gives what must not happen the time to happen: the absence of a callback has no event to wait for. */
  async quiet(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, this.quietMs))
    // As above: time alone proves nothing.
    await turns(QUIET_TURNS)
  }

  /** Cuts every link and unbinds every listener; failures here are the business of the cases about ending. */
  async cleanUp(): Promise<void> {
    const links = [...this.#connected, ...this.#bound.map(({ sink }) => sink)].flatMap(({ opened }) => opened)
    for (const { link, isClosed } of links) if (!isClosed) ignoringErrors(() => link.abort())
    for (const { listener } of this.#bound) ignoringErrors(() => listener.resume())
    await Promise.allSettled(this.#bound.map(({ listener }) => this.within(listener.unbind(), 'unbind')))
    const late = [...this.#connected, ...this.#bound.map(({ sink }) => sink)].flatMap(({ opened }) => opened)
    for (const { link, isClosed } of late) if (!isClosed) ignoringErrors(() => link.abort())
    await this.untilClosed(...late).catch(() => {})
  }

  readonly #changed = (): void => {
    for (const check of this.#waiting) check()
  }
}

export function endpointOf({ endpoint }: TransportSubject): Endpoint {
  return parseEndpoint(typeof endpoint === 'function' ? endpoint() : endpoint)
}

export function capabilitiesOf(subject: TransportSubject): Capabilities {
  return subject.transport.capabilities(endpointOf(subject), checkedOptions(subject, subject.options))
}

/** As core does: the schema fills in defaults. What core adds itself (`tls`, `limits`, `timeouts`) goes past it. */
function checkedOptions(
  { transport }: TransportSubject,
  given: Readonly<Record<string, unknown>> = {},
): TransportOptions {
  if (transport.options === undefined) return { ...given }
  const { tls, limits, timeouts, ...own } = given
  const result = validate(transport.options, own)
  assert.ok(!(result instanceof Promise), `${transport.name}: the kit needs a schema that answers at once`)
  assert.equal(result.issues, undefined, `${transport.name}: the options given to the kit are refused`)
  const core = Object.fromEntries(Object.entries({ tls, limits, timeouts }).filter(([, value]) => value !== undefined))
  return { ...(result as { value: object }).value, ...core }
}

function ignoringErrors(call: () => void): void {
  try {
    call()
  } catch {}
}

export function summary({ events, bytes, error }: RecordedLink): string {
  const why = error === undefined ? '' : `; ${error.message}`
  return `the link has seen ${events.join(', ') || 'nothing'}; ${bytes} bytes${why}`
}

/** Names the first difference; a dump of a megabyte helps nobody. */
export function assertSameBytes(got: Buffer, expected: Buffer): void {
  if (got.equals(expected)) return
  let at = 0
  while (at < got.length && got[at] === expected[at]) at++
  assert.fail(`expected ${expected.length} bytes, got ${got.length}; the first difference is at byte ${at}`)
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}
