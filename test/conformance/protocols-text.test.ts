// time limit: 400 s
/** The codecs of the text protocols keep every promise of the published suite, over 100,000 generated cases each. */
import { test } from 'uvu'
import { encodeReply, encodeRequest } from '#src/plugins/protocols/resp/encode.js'
import { push, RespError, resp, simple } from '#src/plugins/protocols/resp/index.js'
import { codecConformance, type Random } from '#src/testing/index.js'
import { make } from '../unit/plugins/codecs/harness.js'

const cases = 100_000
const letters = [...'abcdefghijkl mnopqrstuvwxyzäß€😀\r\n\0"*$:']
const text = (random: Random): string =>
  Array.from({ length: random.below(20) }, () => letters[random.below(letters.length)]).join('')
const joined = (encoded: string | Uint8Array | readonly Uint8Array[]): Uint8Array | string =>
  typeof encoded === 'string' || encoded instanceof Uint8Array ? encoded : Buffer.concat(encoded)

const { codec, clientCodec } = make(resp)
codecConformance(
  {
    name: 'resp requests',
    codec: codec as never,
    messages: (random) => ({
      command: ['GET', 'SET', 'MGET', 'PING'][random.below(4)],
      args: Array.from({ length: random.below(6) }, () => text(random)),
    }),
    encodeAsPeer: (message) => joined(encodeRequest(message)),
    replies: ['x', 1, null, true, ['a', [1]], { a: 1 }, Buffer.alloc(600), simple('OK'), new RespError('no')],
    large: (size) => ({ command: 'SET', args: ['x'.repeat(size)] }),
    malformed: ['*x\r\n', '*1\r\n$-1\r\n', '*1\r\n:1\r\n', '*1\r\n$1\r\nab\r\n', '*01\r\n', 'get "a\r\n'].map((bytes) =>
      Buffer.from(bytes),
    ),
    cases,
  },
  { test },
)

const value = (random: Random, depth = 0): unknown => {
  const kind = random.below(depth > 2 ? 7 : 10)
  if (kind < 3) return text(random)
  if (kind === 3) return random.below(1_000_000) - 500_000
  if (kind === 4) return null
  if (kind === 5) return random.below(2) === 0
  if (kind === 6) return random.below(1_000) / 7
  if (kind === 7) return Array.from({ length: random.below(4) }, () => value(random, depth + 1))
  if (kind === 8) return new Map([[text(random), value(random, depth + 1)]])
  return depth === 0 ? push(['message', value(random, 1)]) : 2n ** 70n
}
codecConformance(
  {
    name: 'resp replies',
    codec: clientCodec as never,
    messages: (random) => value(random),
    encodeAsPeer: (message) => joined(encodeReply(message, 3)),
    replies: [['GET', 'k'], ['SET', 'k', Buffer.alloc(600)], 'PING'],
    large: (size) => 'x'.repeat(size),
    malformed: ['?\r\n', ':x\r\n', '%-1\r\n', '#x\r\n', '$1\r\nab\r\n', '$?\r\n'].map((bytes) => Buffer.from(bytes)),
    cases,
  },
  { test },
)

test.run()
