/**
 * A network in memory with seeded faults: chunks cut and joined, delay, loss, resets, slow readers, vanished peers.
 *
 * Room: testing. The memory transport with a wire in each direction of a link. Every direction draws from a random
 * stream of its own, named by the seed, the link's number and the direction, so one link's traffic never shifts
 * another's faults.
 */
import type { Clock } from '../core/clock.js'
import type { Transport } from '../core/transport.js'
import { createMemoryTransport, type MemoryOptions } from '../transports/memory.js'
import { HOLD, LOST, type MemoryWire, RESET } from '../transports/memory-link.js'
import { MemoryTurns } from '../transports/memory-turns.js'
import { createRandom, type Random } from './random.js'
import type { VirtualClock } from './virtual-clock.js'

/** What goes wrong in one direction of a link. Nothing of it is on unless given. Probabilities are 0 to 1. */
export interface MemoryFaults {
  /** Chunks are cut at random points into pieces of 1 to `split` bytes, each a `data` call of its own. Stream kind. */
  readonly split?: number
  /** Probability that what waits is held back for a turn and arrives joined with what comes then. Stream kind. */
  readonly coalesce?: number
  /** Each write, and a connect, arrives so much later; `[least, most]` draws for each. Order is kept. */
  readonly delayMs?: number | readonly [number, number]
  /**
   * The link is cut: both sides see `RESET`. After so many bytes have arrived, or with a probability for each chunk.
   */
  readonly reset?: { readonly afterBytes?: number; readonly probability?: number }
  /** The reader takes no more than so many bytes each so many milliseconds (default 1). */
  readonly slow?: { readonly bytes: number; readonly everyMs?: number }
  /** Nothing passes any more, not even a reset, for so long (default: for ever): the peer has vanished. */
  readonly stall?: { readonly afterBytes?: number; readonly probability?: number; readonly forMs?: number }
  /** Probability that a message is lost. Message kind. */
  readonly loss?: number
}

/** One direction of one link. */
export interface MemoryDirection {
  /** The link's number, from 1 in the order of connecting. */
  readonly link: number
  /** The side the bytes arrive at: requests go toward the listener, replies toward the connector. */
  readonly toward: 'listener' | 'connector'
}

export interface MemoryNetworkOptions {
  /** Decides every fault. Default: drawn; print `network.seed` when a test fails, and give it here to see it again. */
  readonly seed?: number | string
  /** Drives delays, slow readers and stalls. Default: the process's own. */
  readonly clock?: Clock
  /** The same for every direction, or chosen for each. */
  readonly faults?: MemoryFaults | ((direction: MemoryDirection) => MemoryFaults | undefined)
}

export interface MemoryNetwork {
  /** Serves the scheme `memory`, with names of its own; give it to a server through a plugin. */
  readonly transport: Transport<MemoryOptions>
  readonly seed: number | string
  /** For links made from now on. */
  faults: MemoryNetworkOptions['faults']
}

/**
 * Makes a network of its own.
 *
 * The same seed and the same calls give the same run, to the byte, under a virtual clock; under the process's clock
 * only the cuts are the same, since time is not.
 *
 * @example
 * // A handler sees every cut of its requests, and a reply takes 200 ms, in no time at all.
 * const clock = createVirtualClock()
 * const network = createMemoryNetwork({ seed: 7, clock, faults: { split: 3, delayMs: 200 } })
 * const plugin = definePlugin({ name: 'network', setup: (registry) => void registry.transport(network.transport, { replace: true }) })
 * const handler = (line: string) => line.toUpperCase()
 * const server = await createServer({ listen: 'memory:shout', handler, plugins: [plugin] })
 * await server.start()
 * const dialled = network.transport.connect(server.listeners.get('default').endpoint, {}, sink, signal)
 * await clock.advance(200)
 * const link = await dialled
 * link.write(Buffer.from('hello\n'))
 * await clock.advance(400) // there and back: the sink has seen HELLO
 */
export function createMemoryNetwork(options: MemoryNetworkOptions = {}): MemoryNetwork {
  if (typeof options.faults === 'object') checked(options.faults)
  const seed = options.seed ?? Math.floor(Math.random() * 0x1_0000_0000)
  const clock = options.clock ?? processClock
  const random = createRandom(seed)
  const turns = new MemoryTurns()
  ;(clock as Partial<VirtualClock>).watch?.(() => turns.isBusy)

  const faultsOf = (direction: MemoryDirection): MemoryFaults | undefined =>
    typeof network.faults === 'function' ? network.faults(direction) : network.faults

  const base = createMemoryTransport({
    turns,
    wire(link, toward, kind, wake) {
      const faults = faultsOf({ link, toward })
      if (faults === undefined) return undefined
      return new FaultyWire(checked(faults), kind, clock, random.fork(`${link}/${toward}`), wake)
    },
    dial(link, proceed) {
      const delay = faultsOf({ link, toward: 'listener' })?.delayMs
      if (delay !== undefined) return clock.after(drawDelay(delay, random.fork(`${link}/dial`)), proceed)
      proceed()
      return () => {}
    },
  })
  const transport: Transport<MemoryOptions> = {
    ...base,
    // What the faults take away is declared, so that a handler's needs are held against it. Faults chosen for each link
    // are not known beforehand, and declare nothing.
    capabilities(endpoint, given) {
      const declared = base.capabilities(endpoint, given)
      const isLossy =
        declared.kind === 'message' && typeof network.faults === 'object' && (network.faults.loss ?? 0) > 0
      return isLossy ? { ...declared, reliable: false } : declared
    },
  }
  const network: MemoryNetwork = { seed, faults: options.faults, transport }
  return network
}

// Unlike core's clock it keeps the process alive while bytes are on their way, as a socket would.
const processClock: Clock = {
  now: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
}

function drawDelay(delay: number | readonly [number, number], random: Random): number {
  return typeof delay === 'number' ? delay : random.between(delay[0], delay[1])
}

function checked(faults: MemoryFaults): MemoryFaults {
  const { split, slow } = faults
  if (split !== undefined && !(Number.isSafeInteger(split) && split >= 1)) {
    throw new RangeError(`faults.split: expected bytes, a whole number of at least 1, got ${split}`)
  }
  if (slow !== undefined && !(slow.bytes >= 1 && (slow.everyMs ?? 1) > 0)) {
    throw new RangeError(`faults.slow: expected at least 1 byte each some milliseconds, got ${JSON.stringify(slow)}`)
  }
  return faults
}

/** One write on its way: `upTo` units (bytes, or messages) are there at `due`. */
interface Arrival {
  upTo: number
  due: number
}

class FaultyWire implements MemoryWire {
  readonly #faults: MemoryFaults
  readonly #isMessage: boolean
  readonly #clock: Clock
  readonly #random: Random
  readonly #wake: () => void

  #arrivals: Arrival[] = []
  #writtenUnits = 0
  #passedUnits = 0
  #passedBytes = 0
  #lastDue = 0
  #endDue = 0
  #allowance = 0
  #allowanceSince = Number.NEGATIVE_INFINITY
  #heldBack = false
  #hasStalled = false
  #isStalled = false
  #cancels = new Map<string, () => void>()

  constructor(faults: MemoryFaults, kind: 'stream' | 'message', clock: Clock, random: Random, wake: () => void) {
    this.#faults = faults
    this.#isMessage = kind === 'message'
    this.#clock = clock
    this.#random = random
    this.#wake = wake
    this.#stallWhenHit()
  }

  get isStalled(): boolean {
    return this.#isStalled
  }

  get isCut(): boolean {
    return this.#untilHit(this.#faults.reset) <= 0
  }

  written(bytes: number): void {
    this.#writtenUnits += this.#isMessage ? 1 : bytes
    if (this.#faults.delayMs === undefined) return
    const due = this.#dueNow(this.#faults.delayMs)
    const last = this.#arrivals.at(-1)
    if (last !== undefined && last.due === due) last.upTo = this.#writtenUnits
    else this.#arrivals.push({ upTo: this.#writtenUnits, due })
  }

  ended(): void {
    if (this.#faults.delayMs !== undefined) this.#endDue = this.#dueNow(this.#faults.delayMs)
  }

  next(waiting: number): number {
    const { split, coalesce, reset, slow, stall, loss } = this.#faults
    if (this.#isStalled) return HOLD
    if (this.#untilHit(reset) <= 0) return RESET
    let size = waiting
    if (this.#faults.delayMs !== undefined) {
      const there = this.#arrivedUnits() - this.#passedUnits
      if (there <= 0) return this.#wakeAt('arrival', (this.#arrivals[0] as Arrival).due)
      if (!this.#isMessage) size = Math.min(size, there)
    }
    if (slow !== undefined) {
      const allowed = this.#allowed(slow.bytes, slow.everyMs ?? 1)
      if (allowed <= 0) return this.#wakeAt('slow', this.#allowanceSince + (slow.everyMs ?? 1))
      if (!this.#isMessage) size = Math.min(size, allowed)
    }
    if (reset?.probability !== undefined && this.#random.chance(reset.probability)) return RESET
    if (stall?.probability !== undefined && !this.#hasStalled && this.#random.chance(stall.probability)) {
      return this.#stall(stall.forMs)
    }
    if (!this.#isMessage) {
      if (coalesce !== undefined && !this.#heldBack && this.#random.chance(coalesce)) {
        this.#heldBack = true
        this.#wake()
        return HOLD
      }
      this.#heldBack = false
      if (split !== undefined) size = Math.min(size, this.#random.between(1, split))
      size = Math.min(size, this.#untilHit(reset), this.#hasStalled ? size : this.#untilHit(stall))
    }
    this.#passedUnits += this.#isMessage ? 1 : size
    this.#passedBytes += size
    this.#allowance -= size
    this.#stallWhenHit()
    return this.#isMessage && loss !== undefined && this.#random.chance(loss) ? LOST : size
  }

  mayEnd(): boolean {
    if (this.#isStalled) return false
    if (this.#endDue <= this.#clock.now()) return true
    this.#wakeAt('end', this.#endDue)
    return false
  }

  close(): void {
    for (const cancel of this.#cancels.values()) cancel()
    this.#cancels.clear()
    this.#arrivals = []
  }

  #untilHit(fault: { readonly afterBytes?: number } | undefined): number {
    return fault?.afterBytes === undefined ? Number.POSITIVE_INFINITY : fault.afterBytes - this.#passedBytes
  }

  #stallWhenHit(): void {
    const { stall } = this.#faults
    if (!this.#hasStalled && this.#untilHit(stall) <= 0) this.#stall(stall?.forMs)
  }

  #stall(forMs: number | undefined): number {
    this.#hasStalled = true
    this.#isStalled = true
    if (forMs === undefined) return HOLD
    const cancel = this.#clock.after(forMs, () => {
      this.#isStalled = false
      this.#wake()
    })
    this.#cancels.set('stall', cancel)
    return HOLD
  }

  /** When what is written now arrives; never before what was written earlier. */
  #dueNow(delay: number | readonly [number, number]): number {
    this.#lastDue = Math.max(this.#lastDue, this.#clock.now() + drawDelay(delay, this.#random))
    return this.#lastDue
  }

  #arrivedUnits(): number {
    const now = this.#clock.now()
    while (this.#arrivals.length > 0) {
      const first = this.#arrivals[0] as Arrival
      if (first.due > now) return this.#passedUnits
      if (first.upTo > this.#passedUnits) return first.upTo
      this.#arrivals.shift()
    }
    return this.#passedUnits
  }

  #allowed(bytes: number, everyMs: number): number {
    const now = this.#clock.now()
    if (now >= this.#allowanceSince + everyMs) {
      // A message larger than the allowance goes whole and is paid for by the next ticks.
      const ticks = Number.isFinite(this.#allowanceSince) ? Math.floor((now - this.#allowanceSince) / everyMs) : 1
      this.#allowance = Math.min(bytes, this.#allowance + ticks * bytes)
      this.#allowanceSince = Number.isFinite(this.#allowanceSince) ? this.#allowanceSince + ticks * everyMs : now
    }
    return this.#allowance
  }

  #wakeAt(what: string, due: number): number {
    // Keyed: a link that is written to often asks often, and needs one timer.
    if (!this.#cancels.has(what)) {
      const cancel = this.#clock.after(due - this.#clock.now(), () => {
        this.#cancels.delete(what)
        this.#wake()
      })
      this.#cancels.set(what, cancel)
    }
    return HOLD
  }
}
