import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type ConformanceReport,
  capabilityTable,
  codecConformance,
  conformanceReports,
  readConformanceReports,
  transportCaseTitles,
  transportConformance,
} from '#src/testing/index.js'
import { createMemoryTransport, memory } from '#src/transports/memory.js'
import { collect } from './collecting-runner.js'
import { lines } from './sample-codecs.js'

const quick = { transport: memory, endpoint: 'memory:', quietMs: 5, timeoutMs: 1_000 }
const allBut = (...kept: string[]) => transportCaseTitles.map(({ id }) => id).filter((id) => !kept.includes(id))

test('a skip is printed with its reason and reported', async () => {
  const skip = [{ reason: 'the test wants it so', cases: allBut('unbind-twice') }]
  const { report, printed, failed } = await collect((runner) =>
    transportConformance({ ...quick, name: 'a', skip }, runner),
  )
  assert.equal(failed, [])
  assert.is(report.cases.length, transportCaseTitles.length + 1)
  assert.equal(
    report.cases.find(({ id }) => id === 'unbind-twice'),
    { id: 'unbind-twice', result: 'passed' },
  )
  assert.equal(
    report.cases.find(({ id }) => id === 'one-byte-writes'),
    {
      id: 'one-byte-writes',
      result: 'skipped',
      reason: 'the test wants it so',
    },
  )
  assert.ok(printed.includes('# transport a: skipped one-byte-writes: the test wants it so'))
})

for (const [title, cases, expected] of [
  ['an unknown case', ['unbind-thrice'], /`unbind-thrice`, which does not exist/],
  ['a case twice', ['unbind-twice', 'unbind-twice'], /twice/],
] as const) {
  test(`a skip that names ${title} is a failure`, async () => {
    const others = { reason: 'not looked at', cases: allBut('unbind-twice') }
    const skip = [others, { reason: 'some', cases }]
    const { failed, reasons } = await collect((runner) => transportConformance({ ...quick, name: 'b', skip }, runner))
    assert.equal(failed, ['skips-name-known-cases'])
    assert.match(reasons['skips-name-known-cases']!, expected)
  })
}

test('a skip without a reason is a failure', async () => {
  const skip = [{ reason: ' ', cases: allBut() }]
  const { failed } = await collect((runner) => transportConformance({ ...quick, name: 'c', skip }, runner))
  assert.equal(failed, ['skips-name-known-cases'])
})

test('capabilities that work undeclared are told, and what does not is no failure', async () => {
  const inner = createMemoryTransport()
  const transport: typeof inner = {
    ...inner,
    capabilities: (...given) => ({
      ...inner.capabilities(...given),
      halfClose: false,
      reset: false,
      backpressure: 'local',
    }),
  }
  const kept = ['half-close-by-connector', 'half-close-by-listener', 'abort-is-reset', 'paused-reader-stops-writer']
  const skip = [{ reason: 'not looked at', cases: allBut(...kept) }]
  const works = await collect((runner) => transportConformance({ ...quick, name: 'd', transport, skip }, runner))
  assert.equal(works.failed, [])
  assert.equal(works.report.undeclared, ['end-to-end', 'halfClose', 'reset'])
  assert.ok(works.printed.includes('# transport d: works though undeclared: reset'))

  const connect = transport.connect!
  transport.connect = (endpoint, options, sink, signal) =>
    connect(endpoint, options, { ...bound(sink), close: (link) => sink.close(link) }, signal)
  const fails = await collect((runner) => transportConformance({ ...quick, name: 'e', transport, skip }, runner))
  assert.equal(fails.failed, [])
  assert.equal(fails.report.undeclared, ['end-to-end', 'halfClose'])
  assert.is(fails.report.cases.find(({ id }) => id === 'abort-is-reset')?.reason, 'not declared: reset')
})

const bound = (sink: import('#src/core/transport.js').LinkSink) => ({
  open: sink.open.bind(sink),
  data: sink.data.bind(sink),
  end: sink.end.bind(sink),
  drain: sink.drain.bind(sink),
})

test('a case that never ran is not reported as passed', () => {
  const report = codecConformance({ name: 'never', codec: lines, messages: ['a'] }, { test: () => {} })
  assert.ok(report.cases.every(({ result }) => result === 'failed'))
  assert.is(report.cases[0]?.reason, 'did not run')
  assert.ok(conformanceReports.includes(report))
})

test("skipped cases go to the runner's own skip, where it has one, and after writes the report", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gaidaros-'))
  const file = join(folder, 'report.jsonl')
  const bodies: (() => Promise<void>)[] = []
  const skipped: string[] = []
  const finals: (() => void)[] = []
  const runner = {
    test: Object.assign((_name: string, body: () => Promise<void>) => void bodies.push(body), {
      skip: (name: string) => void skipped.push(name),
    }),
    after: (body: () => void) => void finals.push(body),
    print: () => {},
  }
  const skip = [{ reason: 'not looked at', cases: allBut('unbind-twice') }]
  transportConformance({ ...quick, name: 'f', version: '1.2.3', skip }, runner)
  for (const body of bodies) await body()
  process.env.GAIDAROS_CONFORMANCE_REPORT = file
  for (const body of finals) body()
  delete process.env.GAIDAROS_CONFORMANCE_REPORT
  assert.is(skipped.length, allBut('unbind-twice').length)
  const [report] = readConformanceReports(readFileSync(file, 'utf8'))
  rmSync(folder, { recursive: true })
  assert.is(report?.name, 'f')
  assert.is(report?.version, '1.2.3')
  assert.is(report?.capabilities?.kind, 'stream')
})

test('the table of capabilities is made from the reports, whatever their order', () => {
  const report = (name: string, more: Partial<ConformanceReport>): ConformanceReport => ({
    kind: 'transport',
    name,
    version: '1',
    cases: [
      { id: 'a', result: 'passed' },
      { id: 'b', result: 'skipped' },
    ],
    capabilities: {
      kind: 'stream',
      ordered: true,
      reliable: true,
      halfClose: true,
      reset: true,
      backpressure: 'end-to-end',
      upgrade: ['tls'],
    },
    undeclared: [],
    ...more,
  })
  const udp = report('udp', {
    capabilities: {
      kind: 'message',
      ordered: false,
      reliable: false,
      halfClose: false,
      reset: false,
      backpressure: 'none',
      maxMessageBytes: 65_507,
      upgrade: [],
    },
    cases: [{ id: 'a', result: 'failed' }],
    undeclared: ['reset'],
  })
  const reports = [udp, report('tcp', {}), report('a codec', { kind: 'codec' })]
  const table = capabilityTable(reports)
  assert.is(
    table,
    `| transport | kind | ordered | reliable | half-close | reset | back-pressure | largest message | upgrade | cases |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| tcp | stream | yes | yes | yes | yes | end-to-end | – | tls | 1 passed, 1 skipped |
| udp | message | no | no | no | undeclared | none | 65,507 | – | 0 passed, 0 skipped, 1 FAILED |
`,
  )
  assert.is(capabilityTable([...reports].reverse()), table)
  assert.is(capabilityTable(readConformanceReports(reports.map((each) => JSON.stringify(each)).join('\n'))), table)
})

test.run()
