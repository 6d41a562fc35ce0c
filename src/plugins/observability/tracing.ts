/**
 * `tracing`: a span for each connection and each message, by OpenTelemetry.
 *
 * Room: plugins/observability. Only the API is used (an optional package); which SDK records and where it sends is the
 * application's, which sets it up before the server is made. Payloads are never recorded. A handler in another thread,
 * process or on another machine finds its message's context in `connection.attributes`, as W3C Trace Context writes it.
 */

import type { Context, Span, SpanContext, SpanKind, SpanStatusCode, TraceAPI } from '@opentelemetry/api'
import type { Connection } from '../../core/connection.js'
import type { ConnectionContext, MessageContext } from '../../core/context.js'
import { toError } from '../../core/errors.js'
import type { Observer } from '../../core/observer.js'
import { optionSchema } from '../../core/option-schema.js'
import { peerPackage } from '../../core/peer-package.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import { definePlugin } from '../../core/plugin.js'
import { isThenable } from '../../core/thenable.js'

/** Of the API, what is used. */
interface Api {
  readonly trace: TraceAPI
  readonly context: { with<T>(context: Context, run: () => T): T; active(): Context }
  readonly ROOT_CONTEXT: Context
  readonly SpanKind: typeof SpanKind
  readonly SpanStatusCode: typeof SpanStatusCode
}

export interface TracingOptions {
  traces: 'connection' | 'message'
  propagate: boolean
  name: string
}

/** Where a connection's attributes hold the context of its message: W3C Trace Context, level 1. */
export const TRACEPARENT = 'traceparent'

export const tracing = definePlugin<TracingOptions>({
  name: 'tracing',
  options: optionSchema<TracingOptions>({
    traces: {
      unit: 'choice',
      choices: ['connection', 'message'],
      default: 'connection',
      why: 'A trace is a connection with its messages, or each message alone with a link to its connection.',
    },
    propagate: {
      unit: 'switch',
      default: true,
      why: 'Keeps the context of the present message in `connection.attributes` under `traceparent`, which reaches handlers elsewhere.',
    },
    name: { unit: 'text', default: 'gaidaros', why: 'The name of the tracer.' },
  }),
  setup(registry, options) {
    const api = peerPackage<Api>('@opentelemetry/api', 'plugin tracing')
    registry.observer((): Observer => ({ name: 'tracing', middleware: spans(api, options) }))
  },
})

export default tracing

/**
 * Runs code in the context of the message that a handler elsewhere has been given, so that spans it makes are children of
 * that message's span.
 *
 * @param connection - As the handler got it. Without a context there, `run` runs as it is.
 */
export function inTraceOf<T>(connection: Pick<Connection, 'attributes'>, run: () => T): T {
  const api = peerPackage<Api>('@opentelemetry/api', 'inTraceOf')
  const parent = parseTraceparent(connection.attributes.get(TRACEPARENT))
  if (parent === undefined) return run()
  return api.context.with(api.trace.setSpanContext(api.context.active(), parent), run)
}

/** A span of another process, as far as it is known here. */
export interface RemoteSpan {
  readonly traceId: string
  readonly spanId: string
  readonly traceFlags: number
  readonly isRemote?: boolean
}

/** @returns undefined for what is no traceparent of version 00 (or a later one that begins the same). */
export function parseTraceparent(given: unknown): RemoteSpan | undefined {
  if (typeof given !== 'string') return undefined
  const parts = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(given)
  if (parts === null) return undefined
  const [, version, traceId = '', spanId = '', flags = '', more] = parts
  if (version === 'ff' || (version === '00' && more !== undefined)) return undefined
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true }
}

export function formatTraceparent({ traceId, spanId, traceFlags }: RemoteSpan): string {
  return `00-${traceId}-${spanId}-${(traceFlags & 1).toString(16).padStart(2, '0')}`
}

function spans(api: Api, { traces, propagate, name }: TracingOptions): MiddlewareSet {
  const { trace, context, ROOT_CONTEXT, SpanKind, SpanStatusCode } = api
  const tracer = trace.getTracer(name)
  const connections = new WeakMap<Connection, Span>()

  const fail = (span: Span, error: Error) => {
    span.recordException(error)
    span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
  }

  const contextOf = ({
    connection,
    message,
  }: MessageContext): { parent: Context; links: { context: SpanContext }[] } => {
    const own = connections.get(connection)
    // A message that brings a context (a request with headers) belongs to its sender's trace.
    const sent = parseTraceparent((message as { headers?: Record<string, unknown> } | null)?.headers?.traceparent)
    const links = own === undefined ? [] : [{ context: own.spanContext() }]
    if (sent !== undefined) return { parent: trace.setSpanContext(ROOT_CONTEXT, sent), links }
    if (traces === 'message' || own === undefined) return { parent: ROOT_CONTEXT, links }
    return { parent: trace.setSpan(ROOT_CONTEXT, own), links: [] }
  }

  return {
    name: 'tracing',
    connection({ connection }: ConnectionContext, next) {
      const { transport, listener = '', remote, local, id } = connection
      const span = tracer.startSpan(
        `connection ${listener}`,
        {
          kind: SpanKind.SERVER,
          attributes: {
            'network.transport': transport,
            'gaidaros.listener': listener,
            'gaidaros.connection.id': id,
            ...addressOf('network.peer', remote),
            ...addressOf('server', local),
          },
        },
        ROOT_CONTEXT,
      )
      connections.set(connection, span)
      void connection.closed.then(({ code, by, error }) => {
        const { bytesIn, bytesOut, messagesIn, messagesOut } = connection.stats
        span.setAttributes({
          'gaidaros.close.code': code,
          'gaidaros.close.by': by,
          'gaidaros.received.bytes': bytesIn,
          'gaidaros.sent.bytes': bytesOut,
          'gaidaros.received.messages': messagesIn,
          'gaidaros.sent.messages': messagesOut,
        })
        if (error !== undefined) fail(span, error)
        span.end()
      })
      return context.with(trace.setSpan(ROOT_CONTEXT, span), next)
    },
    message(turn: MessageContext, next) {
      const { connection, route, frameBytes } = turn
      const { parent, links } = contextOf(turn)
      const attributes = {
        'gaidaros.listener': connection.listener ?? '',
        'gaidaros.connection.id': connection.id,
        'gaidaros.message.bytes': frameBytes,
        ...(route === undefined ? {} : { 'gaidaros.route': route }),
      }
      const span = tracer.startSpan(route ?? 'message', { kind: SpanKind.SERVER, attributes, links }, parent)
      if (propagate) connection.attributes.set(TRACEPARENT, formatTraceparent(span.spanContext()))
      let reply: unknown
      try {
        reply = context.with(trace.setSpan(parent, span), next)
      } catch (thrown) {
        fail(span, toError(thrown))
        span.end()
        throw thrown
      }
      if (!isThenable(reply)) {
        span.end()
        return reply
      }
      return reply.then(
        (value) => {
          span.end()
          return value
        },
        (thrown) => {
          fail(span, toError(thrown))
          span.end()
          throw thrown
        },
      )
    },
  }
}

function addressOf(prefix: string, endpoint: Connection['remote']): Record<string, string | number> {
  const { host, port, path } = endpoint ?? {}
  if (host === undefined) return path === undefined ? {} : { [`${prefix}.address`]: path }
  return { [`${prefix}.address`]: host, ...(port === undefined ? {} : { [`${prefix}.port`]: port }) }
}
