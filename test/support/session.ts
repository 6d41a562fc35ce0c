/** A session on a link that the test plays: what comes in is given by hand, what goes out is recorded. */
import type { Codec, FrameReader } from '#src/core/codec.js'
import { Deadlines } from '#src/core/deadlines.js'
import { parseEndpoint } from '#src/core/endpoint.js'
import { FrameError } from '#src/core/errors.js'
import { EventHub, type EventName, eventNames } from '#src/core/events.js'
import type { BoundHandler, HandlerPlan } from '#src/core/handler.js'
import { defaultLimits, defaultTimeouts, type Limits, type Timeouts } from '#src/core/options.js'
import type { SessionPlan } from '#src/core/plan.js'
import { Session, type SessionScope } from '#src/core/session.js'
import type { Capabilities, Link } from '#src/core/transport.js'
import { HandClock } from './clock.js'

/** Lines as text, the smallest codec that frames. */
export const lines: Codec<string, unknown> = {
  framer: {
    open(limits): FrameReader {
      const reader = {
        start: 0,
        end: 0,
        need: 0,
        next(buffer: Buffer, start: number, end: number) {
          const at = buffer.subarray(start, end).indexOf(10)
          if ((at < 0 ? end - start : at) > limits.lineBytes) throw new FrameError('TOO_LARGE', 'line')
          if (at < 0) return -1
          reader.start = start
          reader.end = start + at
          return start + at + 1
        },
      }
      return reader
    },
  },
  decode: (frame) => Buffer.from(frame).toString(),
  encode: (message) => `${String(message)}\n`,
}

export class PlayedLink implements Link {
  state: unknown
  stable = true
  buffered = 0
  /** What write answers. */
  isWritable = true
  readonly writes: string[] = []
  readonly calls: string[] = []
  constructor(readonly session: () => Session) {}

  get sent(): string {
    return this.writes.join('')
  }
  write(bytes: Uint8Array): boolean {
    this.writes.push(Buffer.from(bytes).toString())
    return this.isWritable
  }
  pause(): void {
    this.calls.push('pause')
  }
  resume(): void {
    this.calls.push('resume')
  }
  readonly reasons: (string | undefined)[] = []
  end(reason?: string): void {
    this.reasons.push(reason)
    this.calls.push('end')
  }
  abort(): void {
    this.calls.push('abort')
    setImmediate(() => this.session().linkClosed(undefined))
  }
}

export interface Played {
  readonly session: Session
  readonly scope: SessionScope
  readonly link: PlayedLink
  readonly clock: HandClock
  readonly events: string[]
  readonly counters: Record<string, number>
  /** Bytes come in, in one chunk. */
  give(text: string): void
  /** Both sides have finished. */
  gone(error?: Error): void
}

export interface Play {
  readonly handler?: Partial<BoundHandler>
  readonly codec?: Codec
  readonly limits?: Partial<Limits>
  readonly timeouts?: Partial<Timeouts>
  readonly order?: 'serial' | 'concurrent'
  readonly kind?: 'stream' | 'message'
  readonly plan?: Partial<SessionPlan>
  readonly capabilities?: Partial<Capabilities>
  readonly once?: boolean
  readonly candidates?: SessionScope['candidates']
}

export function play(given: Play): Played {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock)
  const hub = new EventHub()
  const events: string[] = []
  const counters: Record<string, number> = {}
  for (const name of eventNames) {
    hub.on(name as EventName, (event: unknown) => {
      const { code, error, reason, cause } = event as Record<string, { code?: string } & string>
      const detail = error?.code ?? reason?.code ?? code ?? cause
      events.push(detail === undefined ? name : `${name} ${detail}`)
    })
  }
  const bound: BoundHandler = {
    message: undefined,
    routes: undefined,
    open: undefined,
    idle: undefined,
    peerEnd: undefined,
    drain: undefined,
    error: undefined,
    close: undefined,
    ...given.handler,
  }
  const handler = { bind: () => bound, release: () => {} } as unknown as HandlerPlan
  let session: Session
  const link = new PlayedLink(() => session)
  const scope: SessionScope = {
    ...(given.candidates === undefined ? {} : { candidates: given.candidates }),
    host: {
      clock,
      deadlines,
      events: hub,
      count: (name) => void (counters[name] = (counters[name] ?? 0) + 1),
      nextId: () => '1',
    },
    plan: {
      codec: given.codec ?? (lines as Codec),
      handler,
      limits: { ...defaultLimits, ...given.limits },
      timeouts: { ...defaultTimeouts, ...given.timeouts },
      protocol: undefined,
      order: given.order ?? 'serial',
      connectionPipeline: undefined,
      messagePipeline: undefined,
      methodPipelines: undefined,
      probe: undefined,
      ...given.plan,
    },
    endpoint: parseEndpoint('memory:test'),
    listener: 'test',
    transport: 'played',
    capabilities: {
      kind: given.kind ?? 'stream',
      ordered: true,
      reliable: true,
      halfClose: true,
      reset: true,
      backpressure: 'end-to-end',
      upgrade: [],
      ...given.capabilities,
    },
    once: given.once ?? false,
    closed: () => {},
  }
  session = new Session(link, scope)
  session.start()
  return {
    session,
    scope,
    link,
    clock,
    events,
    counters,
    give(text) {
      const bytes = Buffer.from(text)
      session.data(bytes, 0, bytes.length)
    },
    gone: (error) => session.linkClosed(error),
  }
}

/** Lets microtasks, ticks and immediates run. */
export const settle = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)))
