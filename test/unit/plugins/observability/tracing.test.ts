/** Spans, proved with the SDK and its exporter in memory. */
import { context, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import fc from 'fast-check'
import { connect, createServer, defineHandler, type ServerOptions } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatTraceparent, inTraceOf, parseTraceparent, tracing } from '#src/plugins/observability/tracing.js'
import { eventually } from '../../../support/faults.js'

const exporter = new InMemorySpanExporter()
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
const tracer = trace.getTracer('application')

/** Serves what these lines ask for, and gives the spans once the connection's has ended. */
async function spansOf(
  options: ServerOptions,
  lines: readonly unknown[],
  plugin: object = {},
): Promise<ReadableSpan[]> {
  exporter.reset()
  const server = await createServer({
    config: false,
    listen: 'tcp://127.0.0.1:0',
    plugins: [['gaidaros/plugins/tracing', plugin]],
    ...options,
  })
  await server.start()
  const codec = (options.codec as string | undefined) ?? 'line'
  const client = await connect(`${server.listeners.get('default')?.endpoint}`, { codec })
  for (const line of lines) await client.request(line)
  await client.close()
  await server.stop()
  await eventually(() => exporter.getFinishedSpans().some(({ name }) => name.startsWith('connection')), 'it has ended')
  return exporter.getFinishedSpans()
}

const named = (spans: readonly ReadableSpan[], name: string) => spans.filter((span) => span.name === name)
const idOf = (span: ReadableSpan | undefined) => span?.spanContext().spanId

test('a connection is a span from accept to close, its messages are children, and the handler’s spans theirs', async () => {
  const handler = async (line: string) => {
    await new Promise((resolve) => setTimeout(resolve, 5))
    return tracer.startActiveSpan('query', (span) => {
      span.end()
      return line
    })
  }
  const spans = await spansOf({ handler }, ['one', 'two'])
  const [connection] = named(spans, 'connection default')
  const messages = named(spans, 'message')
  const queries = named(spans, 'query')
  assert.is(messages.length, 2)
  assert.equal(
    messages.map(({ parentSpanContext }) => parentSpanContext?.spanId),
    [idOf(connection), idOf(connection)],
  )
  assert.equal(
    queries.map(({ parentSpanContext }) => parentSpanContext?.spanId),
    messages.map(idOf),
  )
  assert.is(new Set(spans.map((span) => span.spanContext().traceId)).size, 1)
  assert.ok(messages.every(({ duration: [seconds, nanos] }) => seconds * 1e9 + nanos >= 4e6))
  const { attributes } = connection as ReadableSpan
  assert.is(attributes['network.transport'], 'tcp')
  assert.is(attributes['network.peer.address'], '127.0.0.1')
  assert.is(attributes['gaidaros.close.code'], 'ENDED')
  assert.is(attributes['gaidaros.received.messages'], 2)
  assert.is(messages[0]?.attributes['gaidaros.message.bytes'], 3)
  assert.not(JSON.stringify(spans.map((span) => span.attributes)).includes('"one"'))
})

test('a throw is an error with its exception, and the connection goes on', async () => {
  const handler = defineHandler({
    codec: 'line',
    message: (line: string) => {
      if (line === 'bad') throw new Error('no such thing')
      return line
    },
    error: () => 'sorry',
  })
  const spans = await spansOf({ handler }, ['bad', 'good'])
  const [bad, good] = named(spans, 'message')
  assert.is(bad?.status.code, SpanStatusCode.ERROR)
  assert.is(bad?.events[0]?.name, 'exception')
  assert.is(good?.status.code, SpanStatusCode.UNSET)
})

test('each message alone: a trace of its own, with a link to its connection', async () => {
  const spans = await spansOf({ handler: (line: string) => line }, ['one', 'two'], { traces: 'message' })
  const [connection] = named(spans, 'connection default')
  const messages = named(spans, 'message')
  assert.is(new Set(spans.map((span) => span.spanContext().traceId)).size, 3)
  for (const message of messages) {
    assert.is(message.parentSpanContext, undefined)
    assert.is(message.links[0]?.context.spanId, idOf(connection))
  }
})

test('a message that brings a context is a child of its sender’s span', async () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const message = { headers: { traceparent }, ask: 1 }
  const spans = await spansOf({ handler: () => ({ ok: true }), codec: 'json-lines' }, [message])
  const [one] = named(spans, 'message')
  assert.is(one?.spanContext().traceId, '0af7651916cd43dd8448eb211c80319c')
  assert.is(one?.parentSpanContext?.spanId, 'b7ad6b7169203331')
})

test('a handler in a thread finds its message’s context, and continues it', async () => {
  const file = new URL('../../../fixtures/traced-handler.js', import.meta.url).pathname
  exporter.reset()
  const server = await createServer({
    config: false,
    listen: 'tcp://127.0.0.1:0',
    plugins: [tracing],
    executor: 'thread',
    handler: `${file}#traced`,
  })
  await server.start()
  const client = await connect(`${server.listeners.get('default')?.endpoint}`)
  const said = [await client.request<string>('one'), await client.request<string>('two')]
  await client.close()
  await server.stop()
  const messages = named(exporter.getFinishedSpans(), 'message')
  assert.equal(
    said.map(String).map((line) => line.trim()),
    messages.map((span) => formatTraceparent(span.spanContext())),
  )
  assert.is(new Set(said).size, 2)
})

test('inTraceOf runs as it is where there is no context', () => {
  assert.is(
    inTraceOf({ attributes: new Map() }, () => trace.getActiveSpan()),
    undefined,
  )
  const attributes = new Map([['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01']])
  inTraceOf({ attributes }, () => {
    assert.is(trace.getActiveSpan()?.spanContext().spanId, 'b7ad6b7169203331')
  })
})

test('traceparent is read as W3C says, and whatever else comes is none', () => {
  for (const bad of [
    '00-00000000000000000000000000000000-b7ad6b7169203331-01',
    '00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01',
    'ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more',
    '00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01',
    7,
    undefined,
  ])
    assert.is(parseTraceparent(bad), undefined, String(bad))
  const hex = (length: number) =>
    fc
      .array(fc.constantFrom(...'0123456789abcdef'), { minLength: length, maxLength: length })
      .map((all) => all.join(''))
  fc.assert(
    fc.property(hex(32), hex(16), fc.nat(1), (traceId, spanId, traceFlags) => {
      fc.pre(!/^0+$/.test(traceId) && !/^0+$/.test(spanId))
      const read = parseTraceparent(formatTraceparent({ traceId, spanId, traceFlags }))
      assert.equal(read, { traceId, spanId, traceFlags, isRemote: true })
    }),
    { numRuns: 5_000 },
  )
  fc.assert(
    fc.property(fc.string(), (text) => {
      const read = parseTraceparent(text)
      assert.ok(read === undefined || text.includes(read.traceId))
    }),
    { numRuns: 100_000 },
  )
})

test.run()
