/**
 * The conductor: one connection's life, from its link's opening to its close.
 *
 * Room: core, mechanism. Read it top to bottom as the walk of a byte: open, bytes in, frames, messages, replies, bytes out,
 * the peer's end, failures, deadlines, drain, close. Everything it calls is a leaf.
 *
 * Rules it keeps:
 * - a handler that returns a plain value runs synchronously, end to end, and its replies leave in one write a turn;
 * - whatever is a reason not to go on (a handler at work, a slow peer, a pause ...) is one bit of `#stops`; zero means go;
 * - one reason of closing, settled by whoever comes first; one `closed`, last.
 */

import type { Duplex } from 'node:stream'
import { Attributes } from './attributes.js'
import type { Holder, MemoryBudget } from './budget.js'
import type { Clock } from './clock.js'
import type { CodecContext, FrameReader } from './codec.js'
import type { CloseReason, Connection, ConnectionState, ConnectionStats, DrainCode } from './connection.js'
import type { Bucket, Deadlines, Expiring } from './deadlines.js'
import { agreed, type Candidate, detect } from './detection.js'
import { ConnectionStream } from './duplex.js'
import type { Endpoint } from './endpoint.js'
import {
  ConnectionError,
  ExecutorError,
  FrameError,
  GaidarosError,
  HandlerError,
  ShutdownError,
  toError,
  UnroutedMessageError,
} from './errors.js'
import type { EventHub } from './events.js'
import type { FeatureToken } from './feature.js'
import type { BoundHandler } from './handler.js'
import { Hold } from './hold.js'
import { lastWords } from './last-words.js'
import { Outbox, type Piece } from './outbox.js'
import { PACE_MS, Pace } from './pace.js'
import type { SessionPlan } from './plan.js'
import type { Protocol } from './plugin.js'
import { Port } from './protocol-port.js'
import { isThenable } from './thenable.js'
import type { Capabilities, LentStream, Link } from './transport.js'
import { pipelineOf, runMethod, Turn, unrouted } from './turn.js'
import { overhear, tappedPlan, type Watcher } from './watched-plan.js'

/** What sessions need of the server (or client) they belong to. */
export interface SessionHost {
  readonly clock: Clock
  readonly deadlines: Deadlines
  readonly events: EventHub
  /** Where all connections share one (`limits.memoryBytes`). */
  readonly budget?: MemoryBudget | undefined
  /** @param by - How many more. Default: 1. */
  count(counter: string, by?: number): void
  nextId(): string
}

/** What all sessions of one bound endpoint share. */
export interface SessionScope {
  readonly host: SessionHost
  readonly plan: SessionPlan
  /** Several protocols on this endpoint: each with the scope of its sessions. Undefined: the plan is the one. */
  readonly candidates?: readonly (Candidate & { readonly scope: SessionScope })[] | undefined
  readonly endpoint: Endpoint
  readonly listener: string | undefined
  readonly transport: string
  readonly capabilities: Capabilities
  /** Ends the connection after its first message was handled (`server.handle()`). */
  readonly once: boolean
  /** Told once, after everything of the session has ended. */
  closed(session: Session, reason: CloseReason): void
}

/** Totals of what passed. */
export interface Traffic {
  bytesIn: number
  bytesOut: number
  messagesIn: number
  messagesOut: number
}

/** What a session is at, for the operator. */
export interface SessionWork {
  readonly ageMs: number
  /** Since bytes came or went. */
  readonly idleMs: number
  readonly unsentBytes: number
  /** Received, and waiting for its turn or its rest. */
  readonly unhandledBytes: number
  readonly inFlight: number
  /** It is not read from. */
  readonly isPaused: boolean
}

/** Reasons not to go on. */
const OPENING = 1 // connection middleware or @OnOpen runs
const BUSY = 2 // as many handlers at work as the order allows
const PAUSED = 4 // the application said pause()
const WRITE_HIGH = 8 // more waits to be sent than writeHighBytes
const YIELDED = 16 // other connections have their turn
const SWITCHING = 32 // upgrade() or stream()
const OVER = 64 // nothing more is handled
const ENDING = 128 // it ends once what is at work has been answered

/** A connection gives way to others after so much work. */
const YIELD_MS = 5
/** Frames between two looks at the clock at most; as few as this, because the next ones may take long. */
const LOOK_FRAMES = 4
/** Frames that take longer than this are each looked at. */
const LOOK_MS = 0.25
/** A chunk this large may have further ones right behind it, in the same turn of the loop. */
const LARGE_CHUNK_BYTES = 32 * 1024
/** What a message that was refused holds while it waits for its turn. */
const REFUSAL_BYTES = 1_024
/** Nothing waits for the peer for long. */
const UNWATCHED = Number.NEGATIVE_INFINITY
/** After close(): what the peer still sends is discarded up to here. */
const LINGER_BYTES = 64 * 1024

/** A message has begun that is not whole, and it is we who do not read on. */
const UNTIMED = -1

const DONE: Promise<void> = Promise.resolve()
const ignore = () => {}

/** A promise somebody waits for: a reply, a hook. */
interface Pending {
  /** Of its deadline; moved on by a stream of replies that makes progress. */
  since: number
  /** When its turn began, for the plan's probe; 0: it is measured already. */
  readonly began: number
  readonly stop: number
  readonly isMessage: boolean
  over: boolean
  /** That nobody will get its reply was said already. */
  isTold: boolean
  /** `@OnError` itself. */
  readonly isErrorHook?: boolean
  /** Told of a handler that hangs, where a protocol waits for it. */
  readonly fail?: (error: Error) => void
  /** Where the replies of a stream come from; undefined once it was ended. */
  items?: Items | undefined
}

type Items = Iterator<unknown> | AsyncIterator<unknown>

/** How the connection ends once what is at work has been answered. */
interface Ending {
  readonly verb: 'end' | 'close'
  readonly code: string
  readonly by: CloseReason['by']
  readonly error?: Error | undefined
  /** Said before the end: the reply to an error. */
  words?: (() => void) | undefined
  /** Of the clock: from then on nothing is waited for. */
  until: number
}

export class Session implements Connection, Expiring, Holder {
  // What each message touches stands together, at the front: a thousand connections share few lines of cache.
  readonly #link: Link
  /** Another one once it is known which of several protocols the peer speaks. */
  #scope: SessionScope
  #stops = OPENING
  /** The link is gone. */
  #isClosed = false
  /** We are done with the peer; what it sends is counted and dropped. */
  #isDiscarding = false
  /**
   * In whole milliseconds, rounded up, as `#frameSince`: V8 keeps small integers in the object itself, but fractions each in a
   * box, which every message would have to fetch.
   */
  #lastActivity: number
  #bytesIn = 0
  #feed: ConnectionStream | undefined
  /** Inside a turn of the transport: replies gather until it ends. */
  #inTurn = false
  readonly #isStream: boolean
  readonly #hold = new Hold()
  #reader: FrameReader | undefined
  readonly #context: CodecContext
  #isPumping = false
  #handler: BoundHandler | undefined
  #messagesIn = 0
  #isInHandler = false
  #inFlight = 0
  #hasEnded = false
  readonly #outbox = new Outbox()
  #messagesOut = 0
  /** Asked for while something is at work whose reply comes first. */
  #ending: Ending | undefined
  /** Since when messages are handled without a turn for others; as `#lastActivity`, in whole milliseconds. */
  #stretchSince = 0
  /** When the first byte of the unfinished frame came; 0: there is none. */
  #frameSince = 0
  #isDraining = false
  /** With which a drain ends it. */
  #drainCode: DrainCode = 'SHUTDOWN'
  #isFlushQueued = false

  readonly id: string
  readonly #openedAt: number
  #isOpen = false
  #isReadingPaused = false
  /** Memory is short: nothing more is read; what was read is handled. */
  #isHeld = false
  #hasPeerEnded = false
  /** The peer finished before we did. */
  #wasPeerFirst = false
  #wasPeerEndTold = false
  #discarded = 0
  /** It is not known yet what the peer speaks. */
  #isDetecting = false
  /** The protocol has taken the connection over. */
  #port: Port | undefined

  #pendings: Pending[] | undefined
  /** Whole messages of a message transport that wait, and why one of them is refused in its turn. */
  #waiting: (Buffer | FrameError)[] | undefined
  #waitingBytes = 0
  /** A library reads and writes the link's own stream. */
  #lent: LentStream | undefined

  /** Where `limits.minBytesPerSecond` is set. */
  readonly #pace: Pace | undefined
  /** When the present message's turn began, for the plan's probe; without one, 0. */
  #turnSince = 0
  /** @internal The budget's. */
  charged = 0
  /** After our end, from the moment everything was sent. */
  #lingerUntil = Number.POSITIVE_INFINITY
  /** After our end the deadlines are its own, and not the drain's. */
  #isLingering = false
  /** What the peer had taken of a queue at the last look. */
  #takenSeen = UNWATCHED

  #reason: CloseReason | undefined
  #attributes: Attributes | undefined
  #closedPromise: Promise<CloseReason> | undefined
  #resolveClosed: ((reason: CloseReason) => void) | undefined
  #drained: { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } | undefined
  #abortion: AbortController | undefined
  /** Of the message at hand; a new one once it was given up. */
  #messageAbortion: AbortController | undefined

  bucket: Bucket | undefined = undefined
  before: Expiring | undefined = undefined
  after: Expiring | undefined = undefined

  constructor(link: Link, scope: SessionScope) {
    this.#link = link
    this.#scope = scope
    this.#isStream = scope.capabilities.kind === 'stream'
    this.#context = {
      connection: this,
      kind: scope.capabilities.kind,
      limits: scope.plan.limits,
      limit: 0,
      state: undefined,
    }
    this.id = scope.host.nextId()
    this.#openedAt = scope.host.clock.now()
    this.#lastActivity = Math.ceil(this.#openedAt)
    const { limits, timeouts } = scope.plan
    if (limits.minBytesPerSecond > 0 && this.#isStream)
      this.#pace = new Pace(limits.minBytesPerSecond, timeouts.slowGraceMs)
  }

  // -- what handlers see ---------------------------------------------------------------------------------------------

  /** Resolves after `closed`, when the close hook and the disposal of what was made for this connection are done. */
  get ended(): Promise<void> {
    this.#ended ??= new Promise((resolve) => {
      this.#resolveEnded = resolve
      if (this.#isOver) resolve()
    })
    return this.#ended
  }
  #ended: Promise<void> | undefined
  #resolveEnded: (() => void) | undefined
  #isOver = false
  /** @internal */
  get link(): Link {
    return this.#link
  }
  get endpoint(): Endpoint {
    return this.#scope.endpoint
  }
  get local(): Endpoint | undefined {
    return this.#link.local
  }
  get remote(): Endpoint | undefined {
    return this.#link.remote
  }
  /** @internal Its transport keeps what it takes; where it does not (UDP) a peer is only known by being heard. */
  get isReliable(): boolean {
    return this.#scope.capabilities.reliable
  }
  get transport(): string {
    return this.#scope.transport
  }
  get listener(): string | undefined {
    return this.#scope.listener
  }
  get state(): ConnectionState {
    if (this.#isClosed) return 'closed'
    if (this.#hasEnded || this.#isDiscarding || this.#ending !== undefined) return 'ending'
    if (this.#hasPeerEnded) return 'peer-ended'
    return this.#isOpen ? 'open' : 'opening'
  }
  get attributes(): Map<unknown, unknown> {
    this.#attributes ??= new Attributes()
    return this.#attributes
  }
  /** @internal Grows with each change of the attributes; 0 while there are none. */
  get attributesVersion(): number {
    return this.#attributes?.version ?? 0
  }
  get stats(): ConnectionStats {
    this.#countLent()
    const age = this.#scope.host.clock.now() - this.#openedAt
    return {
      openedAt: new Date(Date.now() - age),
      bytesIn: this.#bytesIn,
      bytesOut: this.#outbox.written,
      messagesIn: this.#messagesIn,
      messagesOut: this.#messagesOut,
    }
  }
  get closed(): Promise<CloseReason> {
    if (this.#closedPromise === undefined) {
      this.#closedPromise = this.#isClosed
        ? Promise.resolve(this.#reason as CloseReason)
        : new Promise((resolve) => {
            this.#resolveClosed = resolve
          })
    }
    return this.#closedPromise
  }
  get signal(): AbortSignal {
    const isOfMessage = (this.#isInHandler || this.#inFlight > 0) && !(this.#stops & OPENING)
    let abortion = isOfMessage ? this.#messageAbortion : this.#abortion
    if (abortion === undefined) {
      abortion = new AbortController()
      if (this.#isClosed) abortion.abort(this.#closedError())
      if (isOfMessage) this.#messageAbortion = abortion
      else this.#abortion = abortion
    }
    return abortion.signal
  }
  feature<T>(token: FeatureToken<T>): T | undefined {
    return this.#link.feature?.(token)
  }

  send(message: unknown): Promise<void> {
    if (!this.#canWrite) return this.#rejected(this.#closedError())
    try {
      this.#encodeOut(message)
    } catch (error) {
      return this.#rejected(toError(error))
    }
    return this.#mayGoOn()
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.writePiece(bytes) ?? DONE
  }

  /** @internal Bytes or text, of streams too. @returns undefined when more may be written at once. */
  writePiece(piece: Piece): Promise<void> | undefined {
    if (!this.#canWrite) return this.#rejected(this.#closedError())
    try {
      this.#put(piece)
    } catch (error) {
      return this.#rejected(toError(error))
    }
    return this.#stops & WRITE_HIGH ? this.#mayGoOn() : undefined
  }

  end(): void {
    if (this.#canWrite) this.#endAfterWork({ verb: 'end', code: 'ENDED', by: 'handler', until: 0 })
  }

  close(reason?: string): Promise<CloseReason> {
    const closed = this.closed
    this.#endAfterWork({ verb: 'close', code: reason ?? 'ENDED', by: 'handler', until: 0 })
    return closed
  }

  abort(reason?: string | Error): void {
    const error = reason instanceof Error ? reason : undefined
    const code = error === undefined ? ((reason as string | undefined) ?? 'ABORTED') : codeOf(error, 'ABORTED')
    this.#cut(code, 'handler', error)
  }

  pause(): void {
    if (this.#stops & PAUSED) return
    this.#stops |= PAUSED
    this.#pauseReading('application')
  }

  resume(): void {
    if (!(this.#stops & PAUSED)) return
    this.#stops &= ~PAUSED
    // A peer that was not read from was not idle.
    this.#touch(this.#scope.host.clock.now())
    // Not from within the caller's frame: resume() must not run a handler before it returns.
    queueMicrotask(() => this.#proceed())
  }

  async upgrade(layer: string, options?: unknown): Promise<void> {
    const link = this.#link
    if (link.upgrade === undefined || !this.#scope.capabilities.upgrade.includes(layer)) {
      const can = this.#scope.capabilities.upgrade.join(', ') || 'nothing'
      throw new ConnectionError(
        'NOT_SUPPORTED',
        `${this.transport} cannot upgrade to ${layer}; it can upgrade to: ${can}`,
      )
    }
    this.#stops |= SWITCHING
    // The rest of the chunk this call came from reaches the hold only when the handler has returned.
    await DONE
    this.#flush()
    if (this.#hold.size > 0) {
      // RFC 3207, section 6 and CVE-2011-0411: what came in plain text before the handshake must not be read after it.
      const error = new ConnectionError(
        'NOT_SUPPORTED',
        `${this.#hold.size} bytes came before the upgrade to ${layer}; refused`,
      )
      this.#cut('MALFORMED', 'server', error)
      throw error
    }
    try {
      await link.upgrade(layer, options)
    } catch (thrown) {
      const error = toError(thrown)
      this.#cut(codeOf(error, 'HANDSHAKE_FAILED'), 'network', error)
      throw error
    }
    this.#release(SWITCHING)
  }

  stream(): Duplex {
    this.#stops |= SWITCHING
    const feed = new ConnectionStream(this, {
      // By its name each time: a tap stands in front of it.
      write: (piece) => this.writePiece(piece),
      // Its own order is the library's: what it has written is all it wants sent.
      end: () => this.#endOurSide(),
      abort: (error) => this.abort(error ?? 'ABORTED'),
      pause: () => this.#pauseReading('application'),
      resume: () => this.#resumeReading(),
    })
    this.#watchErrors(feed)
    this.#frameSince = 0
    // As in upgrade(): the rest of the present chunk comes first, and the messages that waited. Until then all that comes waits
    // behind them.
    queueMicrotask(() => {
      this.#feed = feed
      if (this.#hold.size > 0) feed.feed((this.#hold.buffer as Buffer).subarray(this.#hold.start, this.#hold.end))
      for (const message of this.#waiting ?? []) if (!(message instanceof Error)) feed.feed(message)
      this.#hold.clear()
      this.#waiting = undefined
      this.#waitingBytes = 0
      if (this.#hasPeerEnded) feed.feedEnd()
      if (this.#isClosed) feed.feedClose(this.#reason?.error)
    })
    return feed
  }

  /** @internal The link's own stream, where all that is ours to do can be done from beside it. */
  lend(): Duplex | undefined {
    if (this.#hold.size > 0 || this.#pace !== undefined || this.#scope.host.budget !== undefined) return undefined
    const lent = this.#link.lend?.()
    if (lent === undefined) return undefined
    this.#lent = lent
    this.#watchErrors(lent)
    this.#stops |= SWITCHING
    this.#armDeadlines()
    return lent
  }

  /** A reset is what any peer can do: a stream whose holder does not listen for errors must not end the process. */
  #watchErrors(stream: Duplex): void {
    stream.on('error', (error) => {
      if (stream.listenerCount('error') === own) this.#report(error, 'a stream without a listener for `error`')
    })
    const own = stream.listenerCount('error')
  }

  /** Something passed, or was done. */
  #touch(now: number): void {
    this.#lastActivity = Math.ceil(now)
  }

  /** What passed beside us. That something has is known; when, only to a quarter of `idleMs`. */
  #countLent(): void {
    const lent = this.#lent
    if (lent === undefined || (lent.bytesRead === this.#bytesIn && lent.bytesWritten === this.#outbox.written)) return
    this.#bytesIn = lent.bytesRead
    this.#outbox.written = lent.bytesWritten
    this.#touch(this.#scope.host.clock.now())
  }

  // -- opening -------------------------------------------------------------------------------------------------------

  /** Runs connection middleware and the handler's `open`. Called once, by the sink. */
  start(): void {
    this.#armDeadlines()
    const { candidates } = this.#scope
    if (candidates !== undefined) {
      const chosen = agreed(candidates, this.#link)
      if (chosen === undefined) {
        this.#isDetecting = true
        this.#armDeadlines()
        return this.#detect(false)
      }
      this.#scope = chosen.scope
    }
    this.#letIn()
  }

  /** Asks the candidates. @param isFinal - No further bytes, or no time for them. */
  #detect(isFinal: boolean): void {
    const { candidates, plan, host } = this.#scope
    const { buffer, start, end } = this.#hold
    const isFull = end - start >= plan.limits.detectBytes
    const most = Math.min(end, start + plan.limits.detectBytes)
    const chosen = detect(candidates ?? [], buffer, start, most, isFinal || isFull)
    if (chosen === 'more') return
    this.#isDetecting = false
    if (chosen !== undefined) {
      this.#scope = chosen.scope
      return this.#letIn()
    }
    const names = (candidates ?? []).length
    const message = `none of ${names} protocols is what the peer speaks (${end - start} bytes in ${plan.timeouts.detectMs} ms at most)`
    const error = new ConnectionError('UNDETECTED', message)
    if (isFinal && !this.#hasPeerEnded) this.#expired('UNDETECTED')
    host.count('refused.UNDETECTED')
    this.#hold.clear()
    this.#finish('UNDETECTED', 'server', error)
  }

  #letIn(): void {
    const pipeline = this.#scope.plan.connectionPipeline
    const wasInTurn = this.#inTurn
    this.#inTurn = true
    if (pipeline === undefined) this.#open()
    else this.#passMiddleware(pipeline)
    this.#inTurn = wasInTurn
    if (!wasInTurn) this.#flush()
  }

  #passMiddleware(pipeline: NonNullable<SessionPlan['connectionPipeline']>): void {
    let result: unknown
    try {
      result = pipeline({ connection: this }, () => {
        if (this.#isClosed || this.#reason !== undefined) throw this.#closedError()
        if (!this.#isOpen) this.#open()
        return this.closed
      })
    } catch (thrown) {
      this.#refuseConnection(toError(thrown))
      return
    }
    if (!isThenable(result)) {
      if (!this.#isOpen) this.#refuseConnection(undefined)
      return
    }
    // Nothing is read before the middleware has let the connection in.
    if (!this.#isOpen) this.#pauseReading('application')
    result.then(
      () => {
        if (!this.#isOpen) this.#refuseConnection(undefined)
      },
      (thrown) => this.#refuseConnection(toError(thrown)),
    )
  }

  #refuseConnection(error: Error | undefined): void {
    if (this.#isClosed) return
    if (this.#isOpen) {
      if (this.#reason === undefined) this.#failed(error ?? new Error('middleware'), 'connection middleware', false)
      return
    }
    const code = error === undefined ? 'REFUSED' : codeOf(error, 'HANDLER_FAILED')
    if (error !== undefined && !(error instanceof ConnectionError)) this.#report(error, 'connection middleware')
    const { host, listener } = this.#scope
    host.count(`refused.${code}`)
    if (host.events.wants('connection.refused')) {
      host.events.emit('connection.refused', { listener: listener ?? '', remote: this.remote, reason: code })
    }
    this.#finish(code, 'server', error)
  }

  #open(): void {
    const { host, plan } = this.#scope
    let opening: unknown
    try {
      this.#handler = plan.handler.bind(this)
    } catch (thrown) {
      const error = toError(thrown)
      this.#report(error, 'construction')
      this.#finish(codeOf(error, 'CONSTRUCTION_FAILED'), 'server', error)
      return
    }
    this.#isOpen = true
    host.count('opened')
    if (host.events.wants('connection.opened')) host.events.emit('connection.opened', { connection: this })
    if (plan.protocol?.serve !== undefined && this.#takeOver(plan.protocol)) return
    const open = this.#handler.open
    if (open !== undefined) {
      this.#isInHandler = true
      try {
        opening = open(this)
      } catch (thrown) {
        this.#isInHandler = false
        this.#failed(thrown, '@OnOpen', false)
      }
      this.#isInHandler = false
    }
    if (isThenable(opening)) this.#await(opening, OPENING, false)
    else {
      if (opening !== undefined) this.#answer(opening)
      this.#endIfDone()
      this.#release(OPENING)
    }
  }

  /** Hands the connection to its protocol. The handler's `open` and `peerEnd` have no place in it; `close` has. */
  #takeOver(protocol: Protocol): boolean {
    this.#port = new Port(this)
    this.#stops &= ~OPENING
    try {
      protocol.serve?.(this.#port)
    } catch (thrown) {
      this.#failed(thrown, 'the protocol', false)
    }
    return true
  }

  // -- bytes in ------------------------------------------------------------------------------------------------------

  /** Bytes from the link: `buffer[start, end)`. */
  data(buffer: Buffer, start: number, end: number): void {
    if (this.#isClosed) return
    if (this.#isDiscarding) return this.#discard(end - start)
    const { clock } = this.#scope.host
    const now = clock.now()
    this.#touch(now)
    this.#stretchSince = this.#lastActivity
    this.#bytesIn += end - start
    if (this.#feed !== undefined) {
      const bytes = buffer.subarray(start, end)
      return this.#feed.feed(this.#link.stable ? bytes : Buffer.from(bytes))
    }
    this.#inTurn = true
    try {
      if (!this.#isStream) {
        if (this.#scope.plan.probe !== undefined) this.#turnSince = now
        this.#takeMessage(buffer, start, end)
      } else if (this.#stops === 0 && this.#hold.size === 0 && this.#link.stable) {
        const rest = this.#pump(buffer, start, end, now)
        if (rest < end) this.#keep(buffer, rest, end)
      } else {
        this.#hold.append(buffer, start, end, this.#reader?.need ?? 0)
        if (this.#isDetecting) this.#detect(false)
        if (this.#stops === 0 && this.#hold.size > 0) this.#pumpHeld(now)
      }
    } catch (thrown) {
      // Only a defect of ours or of a codec's route() comes here; it stays with its connection.
      this.#failed(thrown, 'session', false)
    }
    this.#inTurn = false
    if (this.#stops !== 0) this.#checkUnprocessed()
    else if (this.#isDraining) this.#finishDrain()
    else if (end - start >= LARGE_CHUNK_BYTES && clock.now() - now > YIELD_MS) this.#yield()
    this.#flush()
    this.#scope.host.budget?.charge(this)
  }

  /** What the pump left: the rest of a frame, or frames that have to wait. */
  #keep(buffer: Buffer, start: number, end: number): void {
    if (!(this.#stops & OVER)) this.#hold.append(buffer, start, end, this.#reader?.need ?? 0)
    else if (this.#reason?.by === 'handler') this.#dropBytes(end - start)
  }

  /** Of a message transport: something that is no message yet. @param part - What it leaves; undefined: what there was. */
  heard(part: 'begun' | 'whole' | undefined): void {
    if (this.#isClosed || this.#isDiscarding) return
    const { host, plan } = this.#scope
    const now = host.clock.now()
    this.#touch(now)
    if (part === undefined) return
    this.#frameSince = part === 'whole' ? 0 : this.#isReadingPaused ? UNTIMED : Math.ceil(now)
    if (this.#frameSince > 0) host.deadlines.arm(this, now + plan.timeouts.frameMs)
  }

  #discard(bytes: number): void {
    // What a peer says that still takes our last words costs it nothing; their progress is watched.
    if (this.#link.buffered > 0) return
    this.#discarded += bytes
    if (this.#discarded > LINGER_BYTES) this.#link.abort(this.#reason?.error)
  }

  #takeMessage(buffer: Buffer, start: number, end: number): void {
    const { frameBytes } = this.#scope.plan.limits
    if (end - start > frameBytes) {
      const error = new FrameError('TOO_LARGE', `a message of ${end - start} bytes is over frameBytes (${frameBytes})`)
      if (this.#stops === 0) this.#tooLarge(error)
      else if (!(this.#stops & OVER)) {
        this.#waiting ??= []
        this.#waiting.push(error)
        this.#waitingBytes += REFUSAL_BYTES
      }
    } else if (this.#stops === 0) {
      const own = this.#link.stable ? buffer : Buffer.from(buffer.subarray(start, end))
      this.#deliver(own, own === buffer ? start : 0, own === buffer ? end : own.length)
    } else if (!(this.#stops & OVER)) {
      this.#waiting ??= []
      this.#waiting.push(Buffer.from(buffer.subarray(start, end)))
      this.#waitingBytes += end - start + 64 // an empty datagram takes room too
    }
  }

  /** It ends who sent it, unless anybody could have sent it in another's name. */
  #tooLarge(error: FrameError): void {
    if (this.#scope.capabilities.reliable) this.#refuse(error)
    else this.#refuseMessage(error)
  }

  /** Goes on with what waits, if nothing stands against it. */
  #proceed(isSameStretch = false): void {
    if (this.#isPumping || this.#stops !== 0 || this.#isClosed) return
    const { clock } = this.#scope.host
    if (this.#hold.size > 0 || this.#waiting !== undefined) {
      const now = clock.now()
      if (!isSameStretch) this.#stretchSince = Math.ceil(now)
      // Promises that are settled already let nobody else have a turn.
      else if (now - this.#stretchSince > YIELD_MS) return this.#yield()
    }
    const wasInTurn = this.#inTurn
    this.#inTurn = true
    try {
      while (this.#stops === 0 && this.#waiting !== undefined) {
        const next = this.#waiting.shift()
        if (next === undefined) this.#waiting = undefined
        else if (next instanceof Error) {
          this.#waitingBytes -= REFUSAL_BYTES
          this.#tooLarge(next)
        } else {
          this.#waitingBytes -= next.length + 64
          if (this.#scope.plan.probe !== undefined) this.#turnSince = clock.now()
          this.#deliver(next, 0, next.length)
          if (clock.now() - this.#stretchSince > YIELD_MS) this.#yield()
        }
      }
      if (this.#stops === 0 && this.#hold.size > 0) this.#pumpHeld(clock.now())
      if (this.#stops === 0 && this.#hasPeerEnded) this.#afterPeerEnd()
    } catch (thrown) {
      this.#failed(thrown, 'session', false)
    }
    this.#inTurn = wasInTurn
    if (this.#stops === 0) {
      this.#resumeReading()
      if (this.#isDraining) this.#finishDrain()
    } else this.#checkUnprocessed()
    // Not at once: a chain of handlers whose promises are settled already shares one write.
    if (!wasInTurn && this.#outbox.gathered > 0) this.#flushSoon()
  }

  #pumpHeld(now: number): void {
    const hold = this.#hold
    const rest = this.#pump(hold.buffer as Buffer, hold.start, hold.end, now)
    // The application may have ended it all meanwhile.
    if (hold.buffer !== undefined) hold.consume(rest)
  }

  /** Finds frames and handles them. @returns the index of the first byte not consumed. */
  #pump(buffer: Buffer, start: number, end: number, now: number): number {
    const { plan, host } = this.#scope
    if (plan.probe !== undefined) this.#turnSince = now
    let reader = this.#reader
    if (reader === undefined) {
      const framer = plan.codec.framer
      if (framer === undefined) {
        this.#context.limit = end
        this.#deliver(buffer, start, end)
        return end
      }
      reader = this.#reader = framer.open(plan.limits)
    }
    let at = start
    // Frames until the next look at the clock. It is looked at before a further frame, so that one alone costs no look.
    let untilLook = 1
    let stride = 1
    let lookedAt = now
    this.#context.limit = end
    this.#isPumping = true
    while (at < end && this.#stops === 0) {
      let after: number
      try {
        if (reader.skip !== undefined) {
          at = reader.skip(buffer, at, end)
          if (at === end) break
        }
        after = reader.next(buffer, at, end)
      } catch (error) {
        this.#isPumping = false
        this.#refuse(toError(error))
        return end
      }
      if (after < 0) break
      at = after
      this.#deliver(buffer, reader.start, reader.end)
      if (--untilLook > 0 || at === end || this.#stops !== 0) continue
      const time = host.clock.now()
      if (time - now > YIELD_MS) this.#yield()
      if (time - lookedAt > LOOK_MS) stride = 1
      else if (stride < LOOK_FRAMES) stride *= 2
      untilLook = stride
      lookedAt = time
    }
    this.#isPumping = false
    if (at === end || this.#stops !== 0) this.#frameSince = 0
    else if (at > start || this.#frameSince === 0) {
      this.#frameSince = Math.ceil(now)
      host.deadlines.arm(this, now + plan.timeouts.frameMs)
    }
    return at
  }

  #yield(): void {
    this.#stops |= YIELDED
    setImmediate(() => this.#release(YIELDED))
  }

  /** Takes away a reason to stop. */
  #release(stop: number): void {
    this.#stops &= ~stop
    if (this.#stops === 0) this.#proceed()
  }

  #checkUnprocessed(): void {
    const limit = this.#scope.plan.limits.readPauseBytes
    if (this.#hold.size >= limit || this.#waitingBytes >= limit) this.#pauseReading('unprocessed')
  }

  #pauseReading(cause: 'write' | 'unprocessed' | 'application' | 'memory'): void {
    if (this.#isReadingPaused || this.#isClosed) return
    this.#isReadingPaused = true
    if (this.#frameSince > 0 && !this.#isStream) this.#frameSince = UNTIMED
    this.#link.pause()
    const { host } = this.#scope
    host.count(`paused.${cause}`)
    if (host.events.wants('connection.paused')) host.events.emit('connection.paused', { connection: this, cause })
  }

  #resumeReading(): void {
    if (!this.#isReadingPaused || this.#isClosed || this.#isHeld) return
    this.#isReadingPaused = false
    const { clock, deadlines, events } = this.#scope.host
    if (this.#frameSince === UNTIMED) {
      this.#frameSince = Math.ceil(clock.now())
      deadlines.arm(this, this.#frameSince + this.#scope.plan.timeouts.frameMs)
    }
    if (events.wants('connection.resumed')) events.emit('connection.resumed', { connection: this })
    this.#link.resume()
  }

  // -- messages ------------------------------------------------------------------------------------------------------

  /** One frame's payload, `buffer[start, end)`, to the handler and its reply back. */
  #deliver(buffer: Buffer, start: number, end: number): void {
    const { plan } = this.#scope
    const { codec, probe } = plan
    const handler = this.#handler as BoundHandler
    const atWork = probe === undefined ? 0 : this.#inFlight
    let reply: unknown
    let message: unknown
    try {
      message =
        codec.decodeAt === undefined
          ? codec.decode(buffer.subarray(start, end), this.#context)
          : codec.decodeAt(buffer, start, end, this.#context)
    } catch (error) {
      this.#refuseMessage(toError(error))
      return
    }
    this.#messagesIn++
    let route: string | undefined
    let method = handler.message
    /** The route, if the method is its own. */
    let own: string | undefined
    if (handler.routes !== undefined) {
      route = codec.route?.(message)
      const found = route === undefined ? undefined : handler.routes.get(route)
      if (found !== undefined) {
        method = found
        own = route
      }
    }
    // A protocol may answer by itself what the handler has no method for.
    if (method === undefined && plan.protocol?.middleware?.message === undefined) {
      this.#unrouted(route)
      return
    }
    this.#isInHandler = true
    try {
      const pipeline = pipelineOf(plan, own)
      if (pipeline === null) reply = (method as NonNullable<typeof method>)(message, this)
      else reply = pipeline(new Turn(this, message, route, end - start, method), runMethod)
    } catch (thrown) {
      this.#isInHandler = false
      if (probe !== undefined) this.#turnSince = probe.handled(this.#turnSince)
      this.#failed(thrown, 'the message', true)
      this.#messageDone()
      return
    }
    this.#isInHandler = false
    if (typeof reply === 'string') this.#answerPlain(reply)
    else if (reply !== undefined) this.#answer(reply)
    // One that is waited for is measured when it settles.
    if (probe !== undefined && this.#inFlight === atWork) this.#turnSince = probe.handled(this.#turnSince)
    if (this.#ending !== undefined || this.#scope.once) this.#messageDone()
  }

  /**
   * A message that a protocol has read by itself.
   *
   * @internal `ProtocolPort.handle`
   */
  handleFor(message: unknown, route: string | undefined, frameBytes: number): unknown {
    const { plan } = this.#scope
    const handler = this.#handler as BoundHandler
    this.#messagesIn++
    const isRouted = route !== undefined && handler.routes?.has(route)
    const method = isRouted ? handler.routes?.get(route) : handler.message
    const pipeline = pipelineOf(plan, isRouted ? route : undefined)
    const { probe } = plan
    const since = probe === undefined ? 0 : this.#scope.host.clock.now()
    let reply: unknown
    const wasInHandler = this.#isInHandler
    this.#isInHandler = true
    try {
      const turn = new Turn(this, message, route, frameBytes, method)
      reply = pipeline === null ? runMethod(turn) : pipeline(turn, runMethod)
    } catch (thrown) {
      this.#isInHandler = wasInHandler
      probe?.handled(since)
      this.#endSoon()
      return this.#failedFor(thrown)
    }
    this.#isInHandler = wasInHandler
    if (isThenable(reply)) return this.#awaitFor(reply)
    probe?.handled(since)
    this.#endSoon()
    return reply
  }

  /** @internal What middleware forgot to wait for has failed; the message was answered without it. */
  failedLate(thrown: unknown, place: string): void {
    if (thrown instanceof UnroutedMessageError) this.#dropped(thrown)
    this.#report(thrown, place)
  }

  /** Once a protocol has written what its handler replied. */
  #endSoon(): void {
    if (this.#ending !== undefined) setImmediate(endIfDone, this)
  }

  /** Its `@OnError` answers, or else its protocol. */
  #failedFor(thrown: unknown): unknown {
    if (thrown instanceof UnroutedMessageError) this.#dropped(thrown)
    const error = this.#report(thrown, 'the message')
    const onError = this.#handler?.error
    if (onError === undefined) throw error
    return onError(toError(thrown), this)
  }

  #awaitFor(promise: PromiseLike<unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const { clock, deadlines } = this.#scope.host
      const since = clock.now()
      const pending: Pending = {
        since,
        began: since,
        stop: 0,
        isMessage: true,
        over: false,
        isTold: false,
        fail: reject,
      }
      this.#inFlight++
      this.#pendings ??= []
      this.#pendings.push(pending)
      deadlines.arm(this, pending.since + this.#scope.plan.timeouts.handlerMs)
      promise.then(
        (reply) => {
          if (this.#finishPending(pending)) resolve(reply)
          else reject(this.#closedError())
          this.#endSoon()
        },
        (thrown) => {
          if (!this.#finishPending(pending)) return reject(this.#closedError())
          this.#endSoon()
          if (thrown instanceof ExecutorError && thrown.code === 'TIMEOUT') this.#abortMessage(thrown)
          try {
            resolve(this.#failedFor(thrown))
          } catch (error) {
            reject(error)
          }
        },
      )
    })
  }

  /** @internal */
  get plan(): SessionPlan {
    return this.#scope.plan
  }

  /** After a message whose handling ended in the same turn. */
  #messageDone(): void {
    this.#endIfDone()
    if (this.#scope.once && this.#inFlight === 0) this.#finish('ENDED', 'server')
  }

  #unrouted(route: string | undefined): void {
    const error = unrouted(route)
    this.#dropped(error)
    this.#failed(error, 'routing', true)
  }

  #dropped(error: Error): void {
    const { host } = this.#scope
    host.count(`dropped.${codeOf(error, 'UNKNOWN')}`)
    if (host.events.wants('message.dropped')) host.events.emit('message.dropped', { connection: this, error })
  }

  // -- replies -------------------------------------------------------------------------------------------------------

  #answer(reply: unknown): void {
    if (reply === undefined) return
    if (typeof reply === 'object' && reply !== null) {
      if (isThenable(reply)) return void this.#await(reply, BUSY, true)
      if (isIterable(reply) && !(reply instanceof Uint8Array) && !this.#scope.plan.codec.isMessage?.(reply)) {
        let items: Items
        try {
          items = itemsOf(reply)
        } catch (thrown) {
          return this.#failed(thrown, 'the reply', true)
        }
        const own: { pending?: Pending } = {}
        // Up to the first wait a generator's body runs here and now.
        const wasInHandler = this.#isInHandler
        this.#isInHandler = true
        const sending = this.#sendEach(items, own)
        this.#isInHandler = wasInHandler
        own.pending = this.#await(sending, BUSY, true)
        own.pending.items = items
        return
      }
    }
    this.#answerPlain(reply)
  }

  #answerPlain(reply: unknown): void {
    if (!this.#canWrite) {
      this.#dropped(this.#closedError())
      return
    }
    try {
      this.#encodeOut(reply)
    } catch (thrown) {
      this.#failed(thrown, 'encoding the reply', false)
    }
  }

  /** A reply per item, at the pace of the peer. */
  async #sendEach(items: Items, own: { readonly pending?: Pending }): Promise<undefined> {
    const { clock } = this.#scope.host
    let since = clock.now()
    for (;;) {
      const { done, value } = await items.next()
      // It is there since the first wait.
      const pending = own.pending as Pending
      if (done) {
        pending.items = undefined
        return
      }
      const item = isThenable(value) ? await value : value
      // Given up: what still comes would stand between other replies.
      if (pending.isTold) return this.#endItems(pending)
      if (!this.#canWrite) {
        this.#dropped(this.#closedError())
        return this.#endItems(pending)
      }
      try {
        if (item !== undefined) this.#encodeOut(item)
        // A long stream that makes progress is no handler that hangs.
        this.#progressed(pending)
        if (this.#stops & WRITE_HIGH) await this.#mayGoOn()
      } catch (thrown) {
        this.#endItems(pending)
        throw thrown
      }
      // Promises alone let nobody else have a turn, and a generator has no others.
      if (clock.now() - since <= YIELD_MS) continue
      await new Promise<void>((resolve) => setImmediate(resolve))
      since = clock.now()
    }
  }

  /** Nobody wants the rest: a generator runs its `finally`, a source lets go of what it holds. */
  #endItems(pending: Pending): undefined {
    const { items } = pending
    if (items === undefined) return
    pending.items = undefined
    const failed = (thrown: unknown) => void this.#report(thrown, 'the end of a reply')
    try {
      const ended = items.return?.()
      if (isThenable(ended)) ended.then(undefined, failed)
    } catch (thrown) {
      failed(thrown)
    }
  }

  /** It begins anew, as far as `handlerMs` goes; the one that waits longest stays in front. */
  #progressed(pending: Pending): void {
    const pendings = this.#pendings as Pending[]
    pending.since = this.#scope.host.clock.now()
    if (pendings.at(-1) === pending || pending.over) return
    pendings.splice(pendings.indexOf(pending), 1)
    pendings.push(pending)
  }

  /** Waits for a handler. @param stop - The reason not to go on meanwhile. */
  #await(promise: PromiseLike<unknown>, stop: number, isMessage: boolean, isErrorHook = false): Pending {
    const { plan, host } = this.#scope
    const since = host.clock.now()
    const began = isErrorHook ? 0 : this.#turnSince || since
    const pending: Pending = { since, began, stop, isMessage, over: false, isTold: false, isErrorHook }
    this.#inFlight++
    this.#pendings ??= []
    this.#pendings.push(pending)
    if (stop !== BUSY || plan.order === 'serial' || this.#inFlight >= plan.limits.inFlight) this.#stops |= stop
    host.deadlines.arm(this, pending.since + plan.timeouts.handlerMs)
    promise.then(
      (reply) => {
        if (this.#finishPending(pending)) {
          if (reply !== undefined) this.#answer(reply)
          this.#afterPending(pending)
        } else if (reply !== undefined && !pending.isTold) this.#dropped(this.#closedError())
      },
      (thrown) => {
        if (!this.#finishPending(pending)) return
        if (thrown instanceof ExecutorError && thrown.code === 'TIMEOUT') this.#abortMessage(thrown)
        if (isErrorHook) this.#giveUp(thrown)
        else this.#failed(thrown, 'the handler', isMessage)
        this.#afterPending(pending)
      },
    )
    return pending
  }

  /** @returns false when nobody waits any more. */
  #finishPending(pending: Pending): boolean {
    if (pending.over || this.#isClosed) return false
    pending.over = true
    this.#inFlight--
    this.#pendings?.splice(this.#pendings.indexOf(pending), 1)
    const { host, plan } = this.#scope
    this.#touch(host.clock.now())
    if (pending.isMessage && pending.began > 0) plan.probe?.handled(pending.began)
    return true
  }

  #afterPending(pending: Pending): void {
    if (this.#ending !== undefined || (this.#scope.once && pending.isMessage)) this.#messageDone()
    // The answer itself may be a promise or a stream, and hold the place.
    const { plan } = this.#scope
    const isBusy = plan.order === 'serial' ? this.#inFlight > 0 : this.#inFlight >= plan.limits.inFlight
    if (pending.stop !== BUSY) this.#stops &= ~pending.stop
    if (!isBusy) this.#stops &= ~BUSY
    if (this.#stops === 0) this.#proceed(true)
    else if (this.#isDraining) this.#finishDrain()
    if (this.#outbox.gathered > 0) this.#flushSoon()
  }

  // -- bytes out -----------------------------------------------------------------------------------------------------

  get #canWrite(): boolean {
    return !this.#hasEnded && !this.#isDiscarding && !this.#isClosed
  }

  #encodeOut(message: unknown): void {
    const codec = this.#scope.plan.codec
    const out =
      codec.encodePieces === undefined
        ? codec.encode(message, this.#context)
        : codec.encodePieces(message, this.#context)
    if (typeof out === 'string' || out instanceof Uint8Array) this.#put(out)
    else if (this.#isStream) for (const piece of out) this.#put(piece)
    else this.#put(Buffer.concat(out))
    this.#messagesOut++
  }

  #put(piece: Piece): void {
    if (!this.#isStream) {
      const most = this.#scope.capabilities.maxMessageBytes
      if (most !== undefined && piece.length > most / 3) {
        const bytes = typeof piece === 'string' ? Buffer.byteLength(piece) : piece.length
        if (bytes > most) {
          throw new ConnectionError(
            'MESSAGE_TOO_LARGE',
            `a message of ${bytes} bytes; ${this.transport} carries at most ${most}`,
          )
        }
      }
      this.#checkAmplification(piece)
      if (!this.#outbox.writeMessage(this.#link, piece)) this.#overHigh()
      if (this.#inTurn) return
      this.#touch(this.#scope.host.clock.now())
      this.#scope.host.budget?.charge(this)
      return
    }
    this.#outbox.add(piece)
    if (this.#outbox.gathered > this.#scope.plan.limits.writeHighBytes) this.#flush()
    else if (!this.#inTurn) this.#flushSoon()
  }

  /** Only where the source of what came may be forged. */
  #checkAmplification(piece: Piece): void {
    const { replyRatio } = this.#scope.plan.limits
    if (replyRatio === Number.POSITIVE_INFINITY || this.#scope.capabilities.reliable) return
    const bytes = this.#outbox.written + (typeof piece === 'string' ? Buffer.byteLength(piece) : piece.length)
    if (bytes <= this.#bytesIn * replyRatio) return
    const message = `${bytes} bytes to a peer that sent ${this.#bytesIn}: over replyRatio (${replyRatio})`
    this.#scope.host.count('failed.AMPLIFIED')
    throw new ConnectionError('AMPLIFIED', message, { bytes })
  }

  #flushSoon(): void {
    if (this.#isFlushQueued) return
    this.#isFlushQueued = true
    process.nextTick(flushQueued, this)
  }

  /** @internal */
  flushNow(): void {
    this.#isFlushQueued = false
    if (this.#outbox.gathered > 0) this.#touch(this.#scope.host.clock.now())
    this.#flush()
    this.#scope.host.budget?.charge(this)
  }

  #flush(): void {
    if (this.#outbox.gathered === 0) return
    if (this.#isClosed || this.#hasEnded) return this.#loseGathered()
    // What waited before this write decides: one large reply to a good reader is no slow peer.
    const waiting = this.#link.buffered
    if (waiting > this.#scope.plan.limits.writeHardBytes) {
      const most = this.#scope.plan.limits.writeHardBytes
      this.#cut(
        'SLOW_PEER',
        'server',
        new ConnectionError(
          'SLOW_PEER',
          `${waiting} bytes wait for a peer that does not read; writeHardBytes is ${most}`,
        ),
      )
      return
    }
    if (!this.#outbox.flush(this.#link)) this.#overHigh()
  }

  /** Replies for which the end came too early. */
  #loseGathered(): void {
    const { gathered } = this.#outbox
    if (gathered === 0) return
    this.#outbox.clear()
    this.#dropped(new ConnectionError('CLOSED', `replies of ${gathered} bytes were not sent`, { bytes: gathered }))
  }

  #overHigh(): void {
    this.#stops |= WRITE_HIGH
    this.#pauseReading('write')
    if (this.#takenSeen !== UNWATCHED) return
    this.#takenSeen = this.#bytesTaken
    const { host, plan } = this.#scope
    host.deadlines.arm(this, host.clock.now() + plan.timeouts.idleMs / 4)
  }

  /** The link's queue is below the low mark again. */
  drained(): void {
    const hadSenders = this.#drained !== undefined
    this.#drained?.resolve()
    this.#drained = undefined
    this.#touch(this.#scope.host.clock.now())
    if (this.#stops & WRITE_HIGH) {
      // Whoever waited for room goes on sending before our side ends behind the peer's.
      if (hadSenders && this.#hasPeerEnded) this.#yield()
      this.#release(WRITE_HIGH)
    }
    this.#scope.host.budget?.charge(this)
  }

  #mayGoOn(): Promise<void> {
    if (!(this.#stops & WRITE_HIGH)) return DONE
    if (this.#drained === undefined) {
      let resolve: () => void = ignore
      let reject: (error: Error) => void = ignore
      const promise = new Promise<void>((yes, no) => {
        resolve = yes
        reject = no
      })
      promise.catch(ignore)
      this.#drained = { promise, resolve, reject }
    }
    return this.#drained.promise
  }

  #rejected(error: Error): Promise<never> {
    const promise = Promise.reject(error)
    promise.catch(ignore)
    return promise
  }

  #closedError(): ConnectionError {
    const code = this.#reason?.code
    return new ConnectionError('CLOSED', `connection ${this.id} is ${this.state}${code ? ` (${code})` : ''}`, {
      cause: this.#reason?.error,
    })
  }

  // -- ending --------------------------------------------------------------------------------------------------------

  /** The peer finished its side. @param code - Its reason, where the transport carries one. */
  peerEnded(code?: string): void {
    if (this.#isClosed || this.#hasPeerEnded) return
    this.#hasPeerEnded = true
    if (code !== undefined) this.#reason ??= { code, by: 'peer' }
    this.#wasPeerFirst = !this.#hasEnded
    this.#touch(this.#scope.host.clock.now())
    if (this.#feed !== undefined) return this.#feed.feedEnd()
    if (this.#isDetecting) this.#detect(true)
    if (this.#isDiscarding) return
    this.#scope.host.deadlines.arm(this, this.#lastActivity + this.#idleMs)
    this.#proceed()
    this.#flush()
  }

  /** Everything the peer sent is handled, or is a frame without its end. */
  #afterPeerEnd(): void {
    const hold = this.#hold
    if (hold.size > 0) {
      const reader = this.#reader as FrameReader
      const buffer = hold.buffer as Buffer
      const { start, end } = hold
      hold.clear()
      this.#frameSince = 0
      let after = -1
      try {
        after = reader.finish?.(buffer, start, end) ?? -1
      } catch (error) {
        this.#refuse(toError(error))
        return
      }
      if (after < 0) {
        this.#refuse(
          new FrameError('TRUNCATED', `the peer finished ${end - start} bytes into a frame`, { bytes: end - start }),
        )
        return
      }
      this.#deliver(buffer, reader.start, reader.end)
    }
    if (this.#inFlight > 0 || this.#stops !== 0) return
    if (!this.#wasPeerEndTold) {
      this.#wasPeerEndTold = true
      if (this.#callHook('peerEnd', '@OnPeerEnd')) return
    }
    if (this.#scope.plan.halfOpen !== true) this.#endOurSide()
  }

  /** Runs a hook whose reply, if any, is sent. @returns true when it is still at work. */
  #callHook(name: 'idle' | 'peerEnd', place: string): boolean {
    const hook = this.#handler?.[name]
    if (hook === undefined) return false
    this.#turnSince = 0
    this.#isInHandler = true
    let reply: unknown
    try {
      reply = hook(this)
    } catch (thrown) {
      this.#isInHandler = false
      this.#failed(thrown, place, false)
      return false
    }
    this.#isInHandler = false
    this.#answer(reply)
    this.#endIfDone()
    return this.#inFlight > 0
  }

  /** A handler, hook or reply is under way; what a client reads from is none. */
  get #isAtWork(): boolean {
    return (this.#isInHandler || this.#inFlight > 0) && this.#scope.listener !== undefined
  }

  /** Ends after the replies of all that is at work, at most `handlerMs` later; what came behind it waits meanwhile. */
  #endAfterWork(ending: Ending): void {
    if (this.#isClosed || this.#isDiscarding) return
    const present = this.#ending
    if (present === undefined && !this.#isAtWork) return this.#leave(ending)
    const { host, plan } = this.#scope
    // The first reason stays; whoever finishes both sides goes before whoever finishes ours.
    if (present === undefined || (present.verb === 'end' && ending.verb === 'close')) {
      ending.until = present?.until ?? host.clock.now() + plan.timeouts.handlerMs
      this.#ending = ending
      this.#stops |= ENDING
      host.deadlines.arm(this, ending.until)
    } else if (ending.words !== undefined) present.words ??= ending.words
  }

  /** @internal */
  endIfDone(): void {
    this.#endIfDone()
    if (this.#stops === 0) this.#proceed()
  }

  #endIfDone(): void {
    if (this.#ending !== undefined && !this.#isInHandler && this.#inFlight === 0) this.#leave(this.#ending)
  }

  #leave(ending: Ending, isDue = false): void {
    const { words } = ending
    if (words !== undefined) {
      ending.words = undefined
      words()
      // An `@OnError` that takes its time is at work as well.
      if (this.#inFlight > 0 && !isDue) {
        this.#ending ??= ending
        if (ending.until === 0) ending.until = this.#scope.host.clock.now() + this.#scope.plan.timeouts.handlerMs
        this.#stops |= ENDING
        return
      }
    }
    this.#ending = undefined
    this.#stops &= ~ENDING
    if (ending.verb === 'end') this.#endOurSide()
    else this.#finish(ending.code, ending.by, ending.error)
  }

  #endOurSide(): void {
    if (!this.#canWrite) return
    this.#flush()
    if (!this.#canWrite) return
    this.#hasEnded = true
    const { host, plan } = this.#scope
    this.#touch(host.clock.now())
    this.#takenSeen = this.#link.buffered > 0 ? this.#bytesTaken : UNWATCHED
    const { halfClosedMs } = plan.timeouts
    host.deadlines.arm(this, this.#lastActivity + (this.#takenSeen === UNWATCHED ? halfClosedMs : halfClosedMs / 4))
    this.#link.end()
  }

  /** Sends what waits, ends our side, discards what still comes for a while. */
  #finish(code: string, by: CloseReason['by'], error?: Error): void {
    if (this.#isClosed || this.#isDiscarding) return
    this.#ending = undefined
    this.#flush()
    if (this.#isClosed || this.#isDiscarding) return
    this.#reason ??= error === undefined ? { code, by } : { code, by, error }
    this.#stops |= OVER
    this.#isDiscarding = true
    this.#isHeld = false
    this.#frameSince = 0
    this.#reportUnhandled()
    for (const pending of this.#pendings ?? []) this.#endItems(pending)
    if (!this.#hasEnded) {
      this.#hasEnded = true
      this.#link.end(this.#reason.code)
    }
    if (!this.#isDraining || code !== 'SHUTDOWN') {
      const now = this.#scope.host.clock.now()
      this.#touch(now)
      this.#isLingering = true
      this.#takenSeen = this.#bytesTaken
      this.#linger(now)
      this.#armDeadlines()
    }
    this.#resumeReading()
  }

  /**
   * After our end: what waits is sent as long as the peer takes it; `lingerMs` begins when all is sent.
   *
   * @returns true when the link was let go.
   */
  #linger(now: number): boolean {
    const { buffered } = this.#link
    if (buffered === 0) {
      if (this.#lingerUntil === Number.POSITIVE_INFINITY) this.#lingerUntil = now + this.#scope.plan.timeouts.lingerMs
      if (now < this.#lingerUntil) return false
      this.#letGo()
      return true
    }
    this.#countTaken(now)
    if (now < this.#lastActivity + this.#idleMs) return false
    this.#dropped(new ConnectionError('CLOSED', `the peer took no more of the ${buffered} bytes that waited for it`))
    this.#link.abort(this.#reason?.error)
    return true
  }

  /** Our side has been finished and sent; what the kernel still has of it is its own to deliver. */
  #letGo(): void {
    if (this.#link.close === undefined || this.#link.buffered > 0) this.#link.abort(this.#reason?.error)
    else this.#link.close()
  }

  /** Messages that were received and will not be handled are said. */
  #reportUnhandled(): void {
    if (this.#hold.size > 0 || this.#waiting !== undefined) this.#dropBytes(this.#hold.size + this.#waitingBytes)
    this.#hold.clear()
    this.#waiting = undefined
    this.#waitingBytes = 0
  }

  #dropBytes(bytes: number): void {
    const code = this.#reason?.code
    this.#dropped(new ConnectionError('CLOSED', `${bytes} bytes received and not handled (${code})`, { bytes }))
  }

  /** Both sides, now. */
  #cut(code: string, by: CloseReason['by'], error?: Error): void {
    if (this.#isClosed) return
    this.#reason ??= error === undefined ? { code, by } : { code, by, error }
    this.#stops |= OVER
    this.#isDiscarding = true
    this.#hasEnded = true
    this.#ending = undefined
    this.#outbox.clear()
    this.#link.abort(error)
  }

  // -- the operator --------------------------------------------------------------------------------------------------

  /** @internal Adds what passed so far. */
  addTraffic(total: Traffic): void {
    this.#countLent()
    total.bytesIn += this.#bytesIn
    total.bytesOut += this.#outbox.written
    total.messagesIn += this.#messagesIn
    total.messagesOut += this.#messagesOut
  }

  /** @internal What it is at. */
  get work(): SessionWork {
    const now = this.#scope.host.clock.now()
    return {
      ageMs: now - this.#openedAt,
      idleMs: Math.max(0, now - this.#lastActivity),
      unsentBytes: this.#link.buffered,
      unhandledBytes: this.#hold.size + this.#waitingBytes,
      inFlight: this.#inFlight,
      isPaused: this.#isReadingPaused,
    }
  }

  /**
   * @internal Ends it for the operator.
   * @param isNow - Without sending what waits.
   * @returns false where it was ending already.
   */
  kill(error: ConnectionError, isNow: boolean): boolean {
    if (this.#isClosed || (this.#isDiscarding && !isNow)) return false
    if (isNow) this.#cut(error.code, 'server', error)
    else this.#finish(error.code, 'server', error)
    return true
  }

  /**
   * @internal Lets a watcher hear what is decoded and encoded. Costs sessions that are not tapped nothing: this one gets a
   * scope of its own.
   * @returns what ends it.
   */
  tap(watcher: Watcher): () => void {
    if (this.#isDetecting || this.#isClosed) {
      const why = this.#isClosed ? 'is closed' : 'has not shown yet which protocol it speaks'
      throw new ConnectionError('NOT_SUPPORTED', `connection ${this.id} ${why}`)
    }
    const plain = this.#scope
    const tapped = { ...plain, plan: tappedPlan(plain.plan, watcher, this.#port !== undefined) }
    this.#scope = tapped
    // A library reads it as a stream: bytes are all there is to see. Shadows the methods of this one object.
    const deafen =
      this.#lent === undefined
        ? this.#feed?.overhear((piece) => watcher.passed('out', 'chunk', piece))
        : overhear(this.#lent, watcher)
    if (this.#feed !== undefined) {
      this.data = (buffer, start, end) => {
        watcher.passed('in', 'chunk', buffer.subarray(start, end))
        Session.prototype.data.call(this, buffer, start, end)
      }
      this.writePiece = (piece) => {
        watcher.passed('out', 'chunk', typeof piece === 'string' ? Buffer.from(piece) : piece)
        return Session.prototype.writePiece.call(this, piece)
      }
    }
    return () => {
      if (this.#scope === tapped) this.#scope = plain
      deafen?.()
      Reflect.deleteProperty(this, 'data')
      Reflect.deleteProperty(this, 'writePiece')
    }
  }

  // -- failures ------------------------------------------------------------------------------------------------------

  /** A frame that breaks a limit or the grammar: the framer has lost its place, the connection ends. */
  #refuse(error: Error): void {
    this.#tellRefused(error)
    this.#endRefused(error)
  }

  /** A frame that was whole, and means nothing: others may follow. */
  #refuseMessage(error: Error): void {
    this.#tellRefused(error)
    if (this.#handler?.error !== undefined) return this.#tellHandler(error, true)
    if ((this.#scope.plan.badFrame ?? (this.#isStream ? 'close' : 'skip')) === 'close') return this.#endRefused(error)
    this.#dropped(error)
    this.#sayError(error)
  }

  #tellRefused(error: Error): void {
    const { events } = this.#scope.host
    if (events.wants('frame.refused')) events.emit('frame.refused', { connection: this, error })
  }

  /** What was read before it is answered first. */
  #endRefused(error: Error): void {
    this.#frameSince = 0
    this.#hold.clear()
    const by = error instanceof FrameError && error.code === 'TRUNCATED' ? 'peer' : 'server'
    const words = () => {
      this.#hold.clear()
      if (this.#handler?.error === undefined) this.#sayError(error)
      else this.#tellHandler(error, false)
    }
    this.#endAfterWork({ verb: 'close', code: codeOf(error, 'MALFORMED'), by, error, words, until: 0 })
  }

  /** Its `@OnError`, whose reply is sent. */
  #tellHandler(error: Error, isMessage: boolean): void {
    try {
      const reply = this.#handler?.error?.(error, this)
      if (isThenable(reply)) this.#await(reply, BUSY, isMessage, true)
      else this.#answer(reply)
    } catch (second) {
      this.#giveUp(second)
    }
  }

  /** Something the application wrote threw. */
  #failed(thrown: unknown, place: string, isMessage: boolean): void {
    if (this.#isClosed) return
    if (thrown instanceof FrameError) return this.#refuseMessage(thrown)
    const error = this.#report(thrown, place)
    if (this.#handler?.error === undefined) this.#replyError(error)
    else this.#tellHandler(toError(thrown), isMessage)
  }

  /** The protocol's own words for it, if it has them; the connection survives only if the protocol says so. */
  #replyError(error: Error): void {
    const { capabilities, plan } = this.#scope
    // A datagram's source may be forged: what means nothing takes no session away from whom it belongs to.
    const isBadDatagram = error instanceof UnroutedMessageError && !capabilities.reliable
    let survives = isBadDatagram
    try {
      survives ||= plan.protocol?.survives?.(error) === true
    } catch (thrown) {
      this.#report(thrown, 'the error reply')
    }
    if (survives && !(this.#stops & OVER)) return this.#sayError(error)
    const words = () => this.#sayError(error)
    this.#endAfterWork({ verb: 'close', code: codeOf(error, 'HANDLER_FAILED'), by: 'server', error, words, until: 0 })
  }

  #sayError(error: Error): void {
    try {
      const reply = this.#scope.plan.protocol?.errorReply?.(error, this)
      if (reply !== undefined && this.#canWrite) this.#encodeOut(reply)
    } catch (thrown) {
      this.#report(thrown, 'the error reply')
    }
  }

  #giveUp(thrown: unknown): void {
    const error = this.#report(thrown, '@OnError')
    this.#endAfterWork({ verb: 'close', code: error.code, by: 'server', error, until: 0 })
  }

  #report(thrown: unknown, place: string): GaidarosError {
    const cause = toError(thrown)
    const error =
      cause instanceof GaidarosError
        ? cause
        : new HandlerError('HANDLER_FAILED', `${place} failed: ${cause.message}`, { cause })
    const { host } = this.#scope
    host.count('failed')
    if (host.events.wants('handler.failed')) host.events.emit('handler.failed', { connection: this, error })
    return error
  }

  // -- deadlines -----------------------------------------------------------------------------------------------------

  /** One armed time a connection: the nearest. Activity only stores when it was; what is due is found out here. */
  expire(now: number): void {
    if (this.#isClosed) return
    this.#countLent()
    if (this.#isLingering && this.#linger(now)) return
    this.#countTaken(now)
    const { timeouts } = this.#scope.plan
    const hung = this.#pendings?.[0]
    const slow = this.#pace?.check(now, this.#frameBegan, this.#bytesIn, this.#link.buffered, this.#bytesTaken)
    if (slow !== undefined && !this.#isDiscarding) this.#tooSlow(slow)
    else if (this.#isDetecting && now >= this.#openedAt + timeouts.detectMs) this.#detect(true)
    else if (hung !== undefined && now >= hung.since + timeouts.handlerMs) this.#handlerHangs(hung)
    else if (this.#ending !== undefined && now >= this.#ending.until) this.#endDue(this.#ending)
    else if (this.#frameSince > 0 && now >= this.#frameSince + timeouts.frameMs) {
      this.#expired('TIMEOUT')
      this.#refuse(new FrameError('TIMEOUT', `a frame was not whole ${timeouts.frameMs} ms after its first byte`))
    } else if (
      this.#isOpen &&
      this.#bytesIn === 0 &&
      this.#feed === undefined &&
      now >= this.#openedAt + timeouts.firstByteMs
    ) {
      this.#timeOut('FIRST_BYTE_TIMEOUT', `no byte came within ${timeouts.firstByteMs} ms`)
    } else if (this.#isResting && now >= this.#lastActivity + this.#idleMs) this.#idle(this.#isHalf, this.#idleMs)
    if (this.#isClosed) return
    if (now >= this.#pingAt(now)) {
      this.#pingedAt = Math.ceil(now)
      this.#link.ping?.()
    }
    this.#armDeadlines()
  }

  /** The next question whether the peer is there; its answer would not be read in a pause. */
  #pingAt(now: number): number {
    if (this.#link.ping === undefined || this.#hasEnded || this.#hasPeerEnded) return Number.POSITIVE_INFINITY
    const { pingMs } = this.#scope.plan.timeouts
    return pingMs + (this.#isReadingPaused ? now : Math.max(this.#lastActivity, this.#pingedAt))
  }
  #pingedAt = 0

  /** Nothing more is waited for. */
  #endDue(ending: Ending): void {
    this.#leave(ending, true)
    for (const pending of this.#pendings ?? []) this.#endItems(pending)
    if (this.#stops === 0) this.#proceed()
  }

  /** What a peer takes of a long queue shows in the queue alone; when it did, only to a quarter of its deadline. */
  #countTaken(now: number): void {
    // A lent stream fills its queue beside us.
    if (this.#takenSeen === UNWATCHED && this.#lent === undefined) return
    const taken = this.#bytesTaken
    if (this.#takenSeen !== UNWATCHED && taken > this.#takenSeen) this.#touch(now)
    this.#takenSeen = this.#link.buffered > 0 ? taken : UNWATCHED
  }

  /** One side alone is finished, and nobody said that the other stays open for that. */
  get #isHalf(): boolean {
    // The end of a lent stream is heard by its borrower alone.
    const hasPeerEnded = this.#hasPeerEnded || this.#lent?.readableEnded === true
    return this.#hasEnded || this.#isDiscarding || (hasPeerEnded && this.#scope.plan.halfOpen !== true)
  }

  get #idleMs(): number {
    const { halfClosedMs, idleMs } = this.#scope.plan.timeouts
    return this.#isHalf ? Math.min(halfClosedMs, idleMs) : idleMs
  }

  /** Nothing of ours keeps the connection busy. */
  get #isResting(): boolean {
    return this.#inFlight === 0 && !this.#isDiscarding && !(this.#stops & PAUSED)
  }

  #armDeadlines(): void {
    const { host, plan } = this.#scope
    const { timeouts } = plan
    const idleMs = this.#idleMs
    if (this.#isDiscarding) {
      if (!this.#isLingering) return
      const look = host.clock.now() + Math.min(timeouts.lingerMs, idleMs) / 4
      return host.deadlines.arm(this, this.#link.buffered > 0 ? look : this.#lingerUntil)
    }
    let next = this.#isResting ? this.#lastActivity + idleMs : host.clock.now() + idleMs
    if (this.#link.ping !== undefined) next = Math.min(next, this.#pingAt(host.clock.now()))
    if (this.#lent !== undefined || this.#takenSeen !== UNWATCHED) next = Math.min(next, host.clock.now() + idleMs / 4)
    if (this.#ending !== undefined) next = Math.min(next, this.#ending.until)
    if (this.#isDetecting) next = Math.min(next, this.#openedAt + timeouts.detectMs)
    if (this.#bytesIn === 0) next = Math.min(next, Math.max(this.#openedAt + timeouts.firstByteMs))
    if (this.#frameSince > 0) next = Math.min(next, this.#frameSince + timeouts.frameMs)
    const oldest = this.#pendings?.[0]
    if (oldest !== undefined) next = Math.min(next, oldest.since + timeouts.handlerMs)
    if (this.#pace !== undefined) next = Math.min(next, host.clock.now() + PACE_MS)
    host.deadlines.arm(this, next)
  }

  /** When the frame began that the peer owes us the rest of; 0: none, or it is we who do not go on. */
  get #frameBegan(): number {
    return this.#stops === 0 && !this.#isHeld ? this.#frameSince : 0
  }

  get #bytesTaken(): number {
    return this.#outbox.written - this.#link.buffered
  }

  #tooSlow(at: 'sending' | 'taking'): void {
    const { limits, timeouts } = this.#scope.plan
    const what = at === 'sending' ? 'sent the rest of a frame' : 'took its replies'
    const least = `${limits.minBytesPerSecond} bytes a second (minBytesPerSecond) over ${timeouts.slowGraceMs} ms`
    const error = new ConnectionError('TOO_SLOW', `the peer ${what} at less than ${least}`)
    this.#expired(error.code)
    // Words to one that does not read would only wait with the others.
    if (at === 'taking') this.#cut(error.code, 'server', error)
    else this.#finish(error.code, 'server', error)
  }

  #idle(isHalf: boolean, idleMs: number): void {
    if (isHalf)
      return this.#timeOut('HALF_CLOSED_TIMEOUT', `one side finished and nothing came or went for ${idleMs} ms`)
    const before = this.#lastActivity
    if (this.#handler?.idle !== undefined) {
      const isAtWork = this.#callHook('idle', '@OnIdle')
      this.#flush()
      if (this.#messagesOutSince(before) || isAtWork || this.#reason !== undefined) return
    }
    this.#timeOut('IDLE_TIMEOUT', `nothing came or went for ${idleMs} ms`)
  }

  #messagesOutSince(activity: number): boolean {
    // #put outside a turn queues a flush that will store the time; what is gathered counts at once.
    if (this.#outbox.written !== this.#writtenWhenIdle) {
      this.#writtenWhenIdle = this.#outbox.written
      this.#touch(this.#scope.host.clock.now())
      return true
    }
    return this.#lastActivity > activity
  }
  #writtenWhenIdle = 0

  #expired(code: string): void {
    const { host } = this.#scope
    if (host.events.wants('connection.expired')) host.events.emit('connection.expired', { connection: this, code })
  }

  #timeOut(code: 'IDLE_TIMEOUT' | 'FIRST_BYTE_TIMEOUT' | 'HALF_CLOSED_TIMEOUT', message: string): void {
    this.#expired(code)
    const error = new ConnectionError(code, message)
    if (code !== 'HALF_CLOSED_TIMEOUT') this.#finish(code, 'server', error)
    else if (!this.#hasEnded || this.#link.buffered > 0) this.#cut(code, 'server', error)
    else {
      this.#reason ??= { code, by: 'server', error }
      this.#stops |= OVER
      this.#isDiscarding = true
      this.#letGo()
    }
  }

  #handlerHangs(pending: Pending): void {
    const { timeouts } = this.#scope.plan
    this.#finishPending(pending)
    pending.isTold = true
    this.#endItems(pending)
    const error = new ExecutorError(
      'TIMEOUT',
      `the handler has not answered within handlerMs (${timeouts.handlerMs} ms)`,
    )
    this.#dropped(error)
    this.#abortMessage(error)
    this.#handler?.abandon?.(this, error)
    if (pending.fail !== undefined) {
      pending.fail(error)
      return this.#endSoon()
    }
    if (pending.isErrorHook) this.#giveUp(error)
    else this.#failed(error, 'the handler', pending.isMessage)
    this.#afterPending(pending)
  }

  /** Nobody waits for the message any more. Others at work share the signal, and keep it. */
  #abortMessage(error: Error): void {
    if (this.#inFlight > 0) return
    this.#messageAbortion?.abort(error)
    this.#messageAbortion = undefined
  }

  // -- memory --------------------------------------------------------------------------------------------------------

  /** @internal Bytes held here: what came and waits, what is to be sent and waits. */
  get heldBytes(): number {
    if (this.#isClosed) return 0
    const held = (this.#hold.buffer?.length ?? 0) + this.#waitingBytes
    return held + this.#outbox.gathered + this.#link.buffered
  }

  /** @internal */
  holdReading(): void {
    if (this.#isClosed || this.#isDiscarding) return
    this.#isHeld = true
    // That its frame takes longer now is our doing.
    if (this.#isStream) this.#frameSince = 0
    this.#pauseReading('memory')
  }

  /** @internal */
  releaseReading(): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    if (this.#stops === 0 || this.#isDiscarding) this.#resumeReading()
  }

  /** @internal The server needs the memory back. */
  shed(error: ConnectionError): void {
    this.#cut(error.code, 'server', error)
    this.#reportUnhandled()
  }

  /** @internal Since when it does nothing at all; undefined: it is at work. */
  get idleSince(): number | undefined {
    const isIdle = this.#isOpen && this.#isResting && this.#hold.size === 0 && this.#link.buffered === 0
    return isIdle && this.#port === undefined ? this.#lastActivity : undefined
  }

  /** @internal An idle one, asked to leave in order. */
  dismiss(error: ConnectionError): void {
    this.#finish(error.code, 'server', error)
  }

  // -- drain and close -----------------------------------------------------------------------------------------------

  /**
   * The server (or this listener) is ending: what was received whole is handled, then the connection is ended.
   *
   * @param code - Of the reason that handler, peer and counters are told.
   */
  drain(deadline: Date, code: DrainCode = 'SHUTDOWN'): void {
    if (this.#isDraining || this.#isClosed || this.#isDiscarding) return
    this.#isDraining = true
    this.#drainCode = code
    this.#port?.drain()
    const drain = this.#handler?.drain
    if (drain !== undefined) {
      try {
        const said = drain(this, deadline)
        if (isThenable(said)) this.#await(said, BUSY, false)
        else this.#answer(said)
      } catch (thrown) {
        this.#failed(thrown, '@OnDrain', false)
      }
      this.#flush()
    }
    // A turn later: what the kernel holds already has been read by then.
    setImmediate(() => setImmediate(() => this.#finishDrain()))
  }

  #finishDrain(): void {
    if (this.#inFlight > 0 || (this.#stops & ~(WRITE_HIGH | PAUSED)) !== 0 || this.#isPumping) return
    // What was read before a pause is handled behind it.
    if (this.#stops & (WRITE_HIGH | PAUSED) && this.#hold.size > 0) return
    if (this.#isDiscarding || this.#isClosed) return
    // It was told; it ends the connection in its own words, or the deadline does.
    if (this.#port !== undefined) return
    try {
      const goodbye = this.#scope.plan.protocol?.goodbye?.(this)
      if (goodbye !== undefined) this.#encodeOut(goodbye)
    } catch (thrown) {
      this.#report(thrown, 'the goodbye')
    }
    this.#finish(this.#drainCode, 'server')
  }

  /** The drain deadline has come. */
  forceClose(): void {
    if (this.#isClosed) return
    const code = this.#drainCode
    const error = new ShutdownError(code, 'the drain deadline has come')
    if (this.#inFlight > 0) this.#dropped(error)
    for (const pending of this.#pendings ?? []) pending.over = pending.isTold = true
    this.#abortion?.abort(error)
    this.#messageAbortion?.abort(error)
    this.#reason = { code, by: 'server', error }
    this.#cut(code, 'server', error)
  }

  get #didPeerEnd(): boolean {
    return this.#lent === undefined ? this.#wasPeerFirst || !this.#hasEnded : this.#lent.readableEnded
  }

  /** The link is gone; the last call of all. */
  linkClosed(error: Error | undefined): void {
    if (this.#isClosed) return
    this.#countLent()
    const { host, plan } = this.#scope
    if (this.#reason === undefined) {
      if (error !== undefined) this.#reason = { code: codeOf(error, 'TRANSPORT_FAILED'), by: 'network', error }
      else this.#reason = { code: 'ENDED', by: this.#didPeerEnd ? 'peer' : 'handler' }
    }
    const reason = this.#reason
    this.#reportUnhandled()
    this.#isClosed = true
    this.#stops |= OVER
    this.#ending = undefined
    if (error === undefined) this.#loseGathered()
    else this.#outbox.clear()
    for (const pending of this.#pendings ?? []) this.#endItems(pending)
    host.deadlines.disarm(this)
    host.budget?.forget(this)
    this.#drained?.reject(this.#closedError())
    this.#drained = undefined
    this.#abortion?.abort(reason.error ?? this.#closedError())
    this.#messageAbortion?.abort(reason.error ?? this.#closedError())
    this.#feed?.feedClose(reason.error)
    host.count(`closed.${reason.code}`)
    const isOpen = this.#isOpen
    if (isOpen) {
      host.count('closed')
      if (host.events.wants('connection.closed')) host.events.emit('connection.closed', { connection: this, reason })
    }
    this.#resolveClosed?.(reason)
    const finish = () => {
      this.#isOver = true
      this.#scope.closed(this, reason)
      this.#resolveEnded?.()
    }
    if (!isOpen) return finish()
    const left = lastWords(this, plan, {
      clock: host.clock,
      handler: this.#handler,
      report: (thrown, place) => this.#report(thrown, place),
    })
    if (left === undefined) this.#afterLastWords(reason, finish)
    else void left.then(() => this.#afterLastWords(reason, finish))
  }

  /** `@OnClose`, and what the handler is let go with. */
  #afterLastWords(reason: CloseReason, finish: () => void): void {
    const { plan } = this.#scope
    let closing: unknown
    try {
      closing = this.#handler?.close?.(this, reason)
    } catch (thrown) {
      this.#report(thrown, '@OnClose')
    }
    const release = (): void | Promise<void> => plan.handler.release(this)
    if (isThenable(closing)) {
      Promise.resolve(closing)
        .catch((thrown) => this.#report(thrown, '@OnClose'))
        .then(release)
        .catch((thrown) => this.#report(thrown, 'disposal'))
        .then(finish)
      return
    }
    const releasing = release()
    if (releasing === undefined) finish()
    else releasing.catch((thrown) => this.#report(thrown, 'disposal')).then(finish)
  }
}

const endIfDone = (session: Session): void => session.endIfDone()

const flushQueued = (session: Session): void => session.flushNow()

function codeOf(error: Error, otherwise: string): string {
  return error instanceof GaidarosError ? error.code : otherwise
}

function itemsOf(reply: Iterable<unknown> | AsyncIterable<unknown>): Items {
  return Symbol.asyncIterator in reply ? reply[Symbol.asyncIterator]() : reply[Symbol.iterator]()
}

function isIterable(value: object): value is Iterable<unknown> | AsyncIterable<unknown> {
  return Symbol.asyncIterator in value || Symbol.iterator in value
}
