// time limit: 400 s
/** STOMP keeps every promise of the published suite, on both sides, over 100,000 generated cases. */
import { test } from 'uvu'
import { type StompFrame, stomp } from '#src/plugins/protocols/stomp/index.js'
import { codecConformance, type Random } from '#src/testing/index.js'
import { make } from '../unit/plugins/codecs/harness.js'

const { codec, clientCodec } = make(stomp)
const letters = [...'abcdefghijkl mnopqrstuvwxyzäß€😀\r\n\\":']
const text = (random: Random, most: number): string =>
  Array.from({ length: random.below(most) }, () => letters[random.below(letters.length)]).join('')

const frame = (commands: readonly string[]) => (random: Random) => {
  const headers: Record<string, string> = Object.create(null)
  for (let count = random.below(5); count > 0; count--) headers[text(random, 8) || 'name'] = text(random, 20)
  const body = Buffer.from(random.below(3) === 0 ? random.bytes(random.below(30)) : text(random, 30))
  // What a length says is added by whoever writes the frame.
  if (body.length > 0) headers['content-length'] = String(body.length)
  return { command: commands[random.below(commands.length)], headers, body }
}
/** Our own order of headers is not the sender's. */
const equal = (decoded: unknown, sent: unknown): boolean => {
  const [one, other] = [decoded as StompFrame, sent as StompFrame]
  const pairs = ({ headers }: StompFrame) => JSON.stringify(Object.entries(headers).sort())
  return one.command === other.command && pairs(one) === pairs(other) && one.body.equals(other.body)
}
const large = (size: number) => {
  const length = Math.max(1, size - 60)
  return { command: 'SEND', headers: { 'content-length': String(length) }, body: Buffer.alloc(length, 'x') }
}
const malformed = [
  'send\n\n\0',
  '\0',
  'SEND\0',
  'SEND\na:b\0',
  'SEND\nno colon\n\n\0',
  'SEND\na:\\t\n\n\0',
  'SEND\na:b\\\n\n\0',
  'SEND\ncontent-length:x\n\n\0',
  'SEND\ncontent-length:\n\n\0',
  'SEND\ncontent-length:1\n\nab\0',
  'AVERYLONGCOMMANDOFNOBODY\n\n\0',
  'SEND\na:\xff\n\n\0',
].map((bytes) => Buffer.from(bytes, 'latin1'))

const shared = { large, malformed, equal, cases: 100_000 }
codecConformance(
  {
    name: 'stomp requests',
    codec: codec as never,
    messages: frame(['SEND', 'SUBSCRIBE', 'ACK', 'BEGIN', 'DISCONNECT']),
    replies: [{ command: 'MESSAGE', headers: { a: 'b:c' }, body: Buffer.of(0, 1) }, { command: 'RECEIPT' }],
    ...shared,
  },
  { test },
)
codecConformance(
  {
    name: 'stomp replies',
    codec: clientCodec as never,
    messages: frame(['MESSAGE', 'RECEIPT', 'ERROR']),
    ...shared,
    // By the same parser as requests.
    cases: 25_000,
  },
  { test },
)

test.run()
