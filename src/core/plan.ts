/**
 * What a listener is once everything about it is settled: the names resolved, the limits filled in, the middleware
 * composed. Nothing is looked up after this.
 *
 * Room: core, contract. The door makes plans from a configuration; the server binds them; `explain` prints them.
 */
import type { Codec } from './codec.js'
import type { ConnectionContext, MessageContext } from './context.js'
import type { Candidate } from './detection.js'
import type { Endpoint } from './endpoint.js'
import type { Executor } from './executor.js'
import type { HandlerPlan } from './handler.js'
import type { PlacedLayer } from './layer-stack.js'
import type { Probe } from './observer.js'
import type { Limits, Timeouts } from './options.js'
import type { Pipeline, PlacedMiddleware } from './pipeline.js'
import type { Protocol } from './plugin.js'
import type { Capabilities, Transport, TransportOptions } from './transport.js'

/** One endpoint of a listener, with the transport that serves it. */
export interface Binding {
  readonly endpoint: Endpoint
  readonly transport: Transport
  readonly options: TransportOptions
  readonly capabilities: Capabilities
  /** From the wire inwards. */
  readonly layers: readonly PlacedLayer[]
  /** How many of them, from the wire, stand before the transport's own handshake (`Transport.preambles`). */
  readonly preambles: number
  /** The transport as the endpoint names it, where another one stands in for it (`Transport.over`). */
  readonly name: string
}

/** Everything a session needs, shared by all connections of a listener. */
export interface SessionPlan {
  readonly codec: Codec
  readonly handler: HandlerPlan
  readonly limits: Readonly<Limits>
  readonly timeouts: Readonly<Timeouts>
  /** Its error replies and goodbye, where the listener speaks one. */
  readonly protocol: Protocol | undefined
  readonly order: 'serial' | 'concurrent'
  /** After the peer finished its side ours stays open until the handler ends it. Default: false. */
  readonly halfOpen?: boolean | undefined
  /** What becomes of a connection whose frame was whole and means nothing. Default: `close` on streams, else `skip`. */
  readonly badFrame?: 'close' | 'skip' | undefined
  readonly connectionPipeline: Pipeline<ConnectionContext> | undefined
  /** For methods without middleware of their own. */
  readonly messagePipeline: Pipeline<MessageContext> | undefined
  /** For those that have another, by route; the key undefined is `@OnMessage()`; null where nothing stands before the method. */
  readonly methodPipelines: ReadonlyMap<string | undefined, Pipeline<MessageContext> | null> | undefined
  /** Told of each message that was handled, where somebody measures. */
  readonly probe: Probe | undefined
}

/** One of several protocols that share an endpoint, and what serves it. */
export interface CandidatePlan extends Candidate {
  /** The protocol's name, or the codec's of the one that takes the rest. */
  readonly name: string
  readonly plan: SessionPlan
}

export interface ListenerPlan extends SessionPlan {
  readonly name: string
  readonly bindings: readonly Binding[]
  /** Where handlers of this listener run besides inline; started before anything is bound. */
  readonly executors: readonly Executor[]
  /** Several protocols on one endpoint; the plan itself is the first one's. */
  readonly candidates: readonly CandidatePlan[] | undefined
  /** For `explain`: what was chosen, by name. */
  readonly chosen: {
    readonly codec: string
    readonly executor: string
    readonly middleware: readonly PlacedMiddleware[]
    /** Each of several protocols; empty where there is one. */
    readonly candidates: readonly { readonly codec: string; readonly handler: string }[]
    /** Middleware of single methods, by route. */
    readonly methods: ReadonlyMap<string | undefined, readonly PlacedMiddleware[]>
    /** The handler's needs, as it stated them, and where each choice came from. */
    readonly reasons: Readonly<Record<string, string>>
  }
}
