// time limit: 400 s
/** JSON-RPC in both framings, and syslog, keep every promise of the published suite over 100,000 generated cases each. */
import { test } from 'uvu'
import { jsonRpc } from '#src/plugins/protocols/json-rpc.js'
import { type SyslogMessage, syslog } from '#src/plugins/protocols/syslog.js'
import { codecConformance, type Random } from '#src/testing/index.js'
import { make } from '../unit/plugins/codecs/harness.js'

const letters = [...'abcdefghijkl mnopqrstuvwxyzäß€😀\\":{}[]\u2028']
const text = (random: Random): string =>
  Array.from({ length: random.below(20) }, () => letters[random.below(letters.length)]).join('')
const value = (random: Random, depth = 0): unknown => {
  const kind = random.below(depth > 2 ? 4 : 6)
  if (kind === 0) return text(random)
  if (kind === 1) return random.below(1_000) / 4
  if (kind === 2) return null
  if (kind === 3) return random.below(2) === 0
  if (kind === 4) return Array.from({ length: random.below(4) }, () => value(random, depth + 1))
  return { [text(random)]: value(random, depth + 1) }
}
const request = (random: Random) => ({
  jsonrpc: '2.0',
  method: text(random),
  params: [value(random)],
  ...(random.below(2) === 0 ? {} : { id: random.below(100) }),
})

for (const framing of ['lines', 'headers'] as const) {
  const { codec, clientCodec } = make(jsonRpc, { framing })
  for (const [side, one] of Object.entries({ codec, clientCodec })) {
    codecConformance(
      {
        name: `json-rpc ${framing}, ${side}`,
        codec: one as never,
        messages: request,
        large: (size) => ({ jsonrpc: '2.0', method: 'x', params: ['x'.repeat(size)] }),
        // Between lines there is white space at most, so that anything is a line.
        ...(framing === 'lines'
          ? {}
          : {
              malformed: [
                'Content-Length: x\r\n\r\n',
                'X: 1\r\n\r\n',
                'Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}',
                'x'.repeat(5_000),
              ].map((bytes) => Buffer.from(bytes)),
            }),
        // Both sides read by the same parser.
        cases: side === 'codec' ? 100_000 : 25_000,
      },
      { test },
    )
  }
}

const visible = (random: Random): string | undefined =>
  random.below(3) === 0 ? undefined : ['host', 'a-b.c', 'x[1]', '="]'][random.below(4)]
const { codec } = make(syslog)
codecConformance(
  {
    name: 'syslog',
    codec: codec as never,
    messages: (random): SyslogMessage => ({
      facility: random.below(24),
      severity: (['emergency', 'error', 'debug'] as const)[random.below(3)] as 'error',
      format: '5424',
      timestamp: '2026-01-02T03:04:05.678Z',
      host: visible(random),
      app: visible(random),
      pid: undefined,
      msgid: visible(random),
      structured: random.below(2) === 0 ? {} : { 'x@1': { a: `${text(random)}]"\\` }, y: {} },
      message: `m${text(random)}.`,
    }),
    equal: (decoded, sent) => JSON.stringify(decoded) === JSON.stringify(sent) || sameText(decoded, sent),
    large: (size) => ({
      facility: 1,
      severity: 'info',
      format: '5424',
      timestamp: '-',
      structured: {},
      message: 'x'.repeat(Math.max(1, size - 40)),
    }),
    malformed: ['0 <13>x', 'x', '99999999999 <13>', '5x<13>', '9999999 '].map((bytes) => Buffer.from(bytes)),
    cases: 100_000,
  },
  { test },
)

/** Fields in any order; `-` is none. */
function sameText(decoded: unknown, sent: unknown): boolean {
  const flat = (one: unknown) => {
    const { facility, severity, timestamp, host, app, msgid, structured, message } = one as SyslogMessage
    const time = timestamp === '-' ? undefined : timestamp
    return JSON.stringify([facility, severity, time, host, app, msgid, Object.entries(structured ?? {}), message])
  }
  return flat(decoded) === flat(sent)
}

test.run()
