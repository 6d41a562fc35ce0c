// time limit: 400 s
/** Memcached's text protocol keeps every promise of the published suite, on both sides, over 100,000 generated cases each. */
import { test } from 'uvu'
import type { MemcachedCommand } from '#src/plugins/protocols/memcached/index.js'
import { memcached } from '#src/plugins/protocols/memcached/index.js'
import { answerOf } from '#src/plugins/protocols/memcached/reply.js'
import { codecConformance, type Random } from '#src/testing/index.js'
import { make } from '../unit/plugins/codecs/harness.js'

const { codec, clientCodec } = make(memcached)
const key = (random: Random): string => ['a', 'key', 'k'.repeat(250), 'ä', 'x:y'][random.below(5)] as string
const bytes = (random: Random): Buffer => Buffer.from(random.bytes(random.below(40)))
const nothing: MemcachedCommand = {
  command: '',
  key: '',
  keys: [],
  value: Buffer.alloc(0),
  flags: 0,
  exptime: 0,
  delta: 0n,
  unique: undefined,
  cas: false,
  noreply: false,
  args: [],
}

const command = (random: Random): MemcachedCommand => {
  const one = key(random)
  const noreply = random.below(4) === 0
  const own = { ...nothing, key: one, keys: [one] }
  switch (random.below(6)) {
    case 0:
      return { ...own, command: 'set', value: bytes(random), flags: random.below(9), exptime: 60, noreply }
    case 1:
      return { ...own, command: 'cas', value: bytes(random), unique: 2n ** 63n, noreply }
    case 2:
      return { ...own, command: 'get', keys: [one, 'b', 'c'], cas: random.below(2) === 0 }
    case 3:
      return { ...own, command: 'incr', delta: BigInt(random.below(1_000)), noreply }
    case 4:
      return { ...nothing, command: 'stats', args: ['items'] }
    default:
      return { ...own, command: 'delete', noreply }
  }
}
const asPeer = (given: unknown, { kind }: { kind: string }): Buffer => {
  const { command, key, keys, value, flags, exptime, delta, unique, cas, noreply, args } = given as MemcachedCommand
  const tail = noreply ? ' noreply' : ''
  const line = (words: string) => Buffer.from(`${words}\r\n`, 'latin1')
  if (command === 'set' || command === 'cas') {
    const more = unique === undefined ? '' : ` ${unique}`
    return Buffer.concat([
      line(`${command} ${key} ${flags} ${exptime} ${value.length}${more}${tail}`),
      value,
      line('').subarray(kind === 'stream' ? 0 : 2),
    ])
  }
  if (command === 'get') return line(`${cas ? 'gets' : 'get'} ${keys.join(' ')}`)
  if (command === 'incr') return line(`incr ${key} ${delta}${tail}`)
  return line(`${command} ${[...keys, ...args].join(' ')}${tail}`)
}
const lines = (...all: string[]) => all.map((one) => Buffer.from(one, 'latin1'))

codecConformance(
  {
    name: 'memcached commands',
    codec: codec as never,
    messages: command,
    encodeAsPeer: asPeer,
    replies: [
      answerOf({ ...nothing, command: 'get', keys: ['a'] }, Buffer.alloc(3_000)),
      answerOf({ ...nothing, command: 'set' }, true),
    ],
    large: (size) => ({
      ...nothing,
      command: 'set',
      key: 'a',
      keys: ['a'],
      value: Buffer.alloc(Math.max(0, size - 20)),
    }),
    malformed: lines(
      'set a 0 0 x\r\n',
      'set a 0 0\r\n',
      'set a 0 0 1\r\nab\r\n',
      'add a 0 0 9999999999999999\r\n',
      'cas a 0 0 -1 1\r\n',
    ),
    cases: 100_000,
  },
  { test },
)

const values = (random: Random) => {
  if (random.below(4) === 0) return ['STORED', 'NOT_FOUND', 'OK'][random.below(3)]
  if (random.below(4) === 0) return random.below(1_000_000)
  const count = random.below(4)
  return new Map(
    Array.from({ length: count }, (_, index) => [
      `k${index}`,
      { value: bytes(random), flags: random.below(9), cas: BigInt(random.below(99)) },
    ]),
  )
}
codecConformance(
  {
    name: 'memcached replies',
    codec: clientCodec as never,
    messages: values,
    encodeAsPeer: (message) => {
      if (!(message instanceof Map)) return `${String(message)}\r\n`
      const { pieces } = answerOf({ ...nothing, command: 'get', keys: [...message.keys()], cas: true }, message)
      return Buffer.from(typeof pieces === 'string' || pieces instanceof Uint8Array ? pieces : Buffer.concat(pieces))
    },
    replies: ['version', ['get', 'a'], { command: 'set', key: 'a', value: 'b' }],
    large: (size) => new Map([['k', { value: Buffer.alloc(Math.max(0, size - 30)), flags: 0, cas: 1n }]]),
    malformed: lines(
      'VALUE a 0 x\r\n',
      'VALUE a 0 1\r\nab\r\nEND\r\n',
      'what is this\r\n',
      'VALUE a 0 1\r\na\r\nSTORED\r\n',
    ),
    cases: 100_000,
  },
  { test },
)

test.run()
