// time limit: 120 s
/** From accept to reply across threads, processes, and other machines: a handler continues its message's trace wherever it runs. */
import { context, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { connect, createServer, type NamedExecutor } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, killAll, root } from '../support/command.js'
import { eventually } from '../support/faults.js'
import { noNats, startNats, stopNats } from '../support/nats.js'
import { skip } from '../support/skip.js'

const exporter = new InMemorySpanExporter()
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())

const handler = `${root}test/fixtures/traced-handler.ts#traced`

/** Three messages; each handler says the context that it found, as W3C writes it. */
async function assertCarried(executor: string | NamedExecutor): Promise<void> {
  exporter.reset()
  const server = await createServer({
    config: false,
    listen: 'tcp://127.0.0.1:0',
    plugins: ['gaidaros/plugins/tracing'],
    executor,
    handler,
  })
  await server.start()
  const client = await connect(`${server.listeners.get('default')?.endpoint}`)
  const said: string[] = []
  for (const line of ['one', 'two', 'three']) said.push(String(await client.request<string>(line)).trim())
  await client.close()
  await server.stop()
  await eventually(() => exporter.getFinishedSpans().some(({ name }) => name.startsWith('connection')), 'it has ended')
  const spans = exporter.getFinishedSpans()
  const messages = spans.filter(({ name }) => name === 'message')
  const contexts = messages.map((span) => span.spanContext())
  assert.equal(
    said,
    contexts.map(({ traceId, spanId, traceFlags }) => `00-${traceId}-${spanId}-0${traceFlags}`),
  )
  // One trace, from accept to close; the messages are its connection's.
  const connection = spans.find(({ name }) => name.startsWith('connection'))?.spanContext()
  assert.ok(messages.length === 3 && messages.every((span) => span.parentSpanContext?.spanId === connection?.spanId))
  assert.is(new Set(spans.map((span) => span.spanContext().traceId)).size, 1)
}

for (const executor of ['inline', 'task', 'thread-pool', 'process-pool'])
  test(`a message’s context reaches its handler: ${executor}`, () => assertCarried(executor))

test('a message’s context reaches its handler: a pool of processes of a node of a cluster', async () => {
  if (noNats !== undefined) return skip('tracing over the cluster', noNats)
  const nats = await startNats()
  const args = ['node', '--cluster', nats.url, '--set', 'cluster.name=traced', '--handler', handler]
  const node: Command = gaidaros([...args, '--executor', 'process-pool'], { limitMs: 100_000 })
  await node.shows(/^ready$/m)
  await assertCarried({ type: 'cluster', servers: nats.url, name: 'traced' } as NamedExecutor)
  node.child.kill('SIGTERM')
  assert.is(await node.ended, 0, node.stderr)
})

test.after(() => {
  killAll()
  stopNats()
})
test.run()
