/**
 * Sinks that write down everything a transport tells them, for the transport cases.
 *
 * Room: testing. A recorder stands where core stands and judges nothing: cases do.
 */
import type { Endpoint } from '../core/endpoint.js'
import type { Arrival, Arrived, Link, LinkSink } from '../core/transport.js'

export type Callback = 'open' | 'data' | 'end' | 'drain' | 'close'

/** One link and all that its sink was told. */
export class RecordedLink {
  readonly link: Link
  /** Callbacks in their order; a run of the same one stands once. */
  readonly events: Callback[] = []
  /** Copies of what came, a chunk or message each. */
  readonly chunks: Buffer[] = []
  /** The very buffers, where the transport says they stay. */
  readonly views: Uint8Array[] = []
  bytes = 0
  drains = 0
  ends = 0
  closes = 0
  error: Error | undefined = undefined
  /** Callbacks that came from inside one of our own calls. */
  readonly reentrant: string[] = []
  /** Counts bytes without keeping them. */
  isCounting = false
  onData: (() => void) | undefined = undefined
  onEnd: (() => void) | undefined = undefined
  #inside: string | undefined = undefined

  constructor(link: Link) {
    this.link = link
  }

  get isClosed(): boolean {
    return this.closes > 0
  }

  /** Everything received, joined. */
  received(from = 0): Buffer {
    return Buffer.concat(this.chunks).subarray(from)
  }

  write(bytes: Uint8Array): boolean {
    return this.within('write', () => this.link.write(bytes))
  }

  pause(): void {
    this.within('pause', () => this.link.pause())
  }

  resume(): void {
    this.within('resume', () => this.link.resume())
  }

  end(): void {
    this.within('end', () => this.link.end())
  }

  abort(reason?: Error): void {
    this.within('abort', () => this.link.abort(reason))
  }

  within<T>(name: string, call: () => T): T {
    const before = this.#inside
    this.#inside = name
    try {
      return call()
    } finally {
      this.#inside = before
    }
  }

  note(callback: Callback): void {
    if (this.#inside !== undefined) this.reentrant.push(`${callback} from inside ${this.#inside}`)
    if (this.events.at(-1) !== callback || callback === 'open' || callback === 'close') this.events.push(callback)
  }
}

/** A peer that is no link yet, and what became of its place. */
export class RecordedArrival implements Arrived {
  arrival: Arrival
  isLeft = false
  readonly #changed: () => void

  constructor(arrival: Arrival, changed: () => void) {
    this.arrival = arrival
    this.#changed = changed
  }

  next(arrival: Arrival): boolean {
    this.arrival = arrival
    return true
  }

  left(): void {
    this.isLeft = true
    this.#changed()
  }
}

/** A sink for any number of links. */
export class LinkRecorder implements LinkSink {
  /** In the order of opening. */
  readonly opened: RecordedLink[] = []
  readonly faults: { error: Error; remote: Endpoint | undefined }[] = []
  /** Those that took a place, and those that were refused one. */
  readonly arrivals: RecordedArrival[] = []
  /** Asked for each; false refuses it. */
  onArrive: ((recorded: RecordedArrival) => boolean) | undefined = undefined
  /** Called with each new link, inside `open`. */
  onOpen: ((recorded: RecordedLink) => void) | undefined = undefined
  readonly #records = new Map<Link, RecordedLink>()
  readonly #changed: () => void

  constructor(changed: () => void) {
    this.#changed = changed
  }

  /** The record of a link; made at once for one that was never opened, so that its callbacks are seen. */
  of(link: Link): RecordedLink {
    let recorded = this.#records.get(link)
    if (recorded === undefined) {
      recorded = new RecordedLink(link)
      this.#records.set(link, recorded)
      // Core keeps its session there; a case looks whether it is still there at the end.
      link.state = recorded
    }
    return recorded
  }

  arrive(arrival: Arrival): Arrived | undefined {
    const recorded = new RecordedArrival(arrival, this.#changed)
    this.arrivals.push(recorded)
    return this.onArrive?.(recorded) === false ? undefined : recorded
  }

  open(link: Link): void {
    const recorded = this.of(link)
    recorded.note('open')
    this.opened.push(recorded)
    recorded.within('open', () => this.onOpen?.(recorded))
    this.#changed()
  }

  data(link: Link, buffer: Uint8Array, start: number, end: number): void {
    const recorded = this.of(link)
    recorded.note('data')
    recorded.bytes += end - start
    if (!recorded.isCounting) recorded.chunks.push(Buffer.from(buffer.subarray(start, end)))
    if (link.stable && !recorded.isCounting) recorded.views.push(buffer.subarray(start, end))
    recorded.onData?.()
    this.#changed()
  }

  end(link: Link): void {
    const recorded = this.of(link)
    recorded.note('end')
    recorded.ends++
    recorded.onEnd?.()
    this.#changed()
  }

  drain(link: Link): void {
    const recorded = this.of(link)
    recorded.note('drain')
    recorded.drains++
    this.#changed()
  }

  close(link: Link, error?: Error): void {
    const recorded = this.of(link)
    recorded.note('close')
    recorded.closes++
    recorded.error = error
    this.#changed()
  }

  fault(error: Error, remote?: Endpoint): void {
    this.faults.push({ error, remote })
    this.#changed()
  }
}
