// time limit: 240 s
/** MQTT, DNS over TCP and SMTP's commands keep every promise of the published suite over 100,000 generated cases each. */
import dnsPacket from 'dns-packet'
import mqttPacket from 'mqtt-packet'
import { test } from 'uvu'
import { systemClock } from '#src/core/clock.js'
import { dns } from '#src/plugins/protocols/dns.js'
import { mqtt } from '#src/plugins/protocols/mqtt/index.js'
import { smtp } from '#src/plugins/protocols/smtp.js'
import { codecConformance, type Random } from '#src/testing/index.js'
import { servicesOf } from '../support/services.js'
import { make } from '../unit/plugins/codecs/harness.js'

const cases = 100_000
const hex = (...all: string[]) => all.map((one) => Buffer.from(one, 'hex'))
const word = (random: Random): string => ['a', 'sensors/kitchen', 'ü/+x', 'x'.repeat(60)][random.below(4)] as string

// ── mqtt ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const { codec: packets } = mqtt.create(
  {
    inFlight: 1,
    subscriptions: 1,
    queueBytes: 65_536,
    retained: 1,
    retainedBytes: 65_536,
    sessions: 1,
    sessionBytes: 65_536,
    sessionMs: 1,
  },
  servicesOf(systemClock),
)
interface Publish {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: number
  readonly messageId?: number
}
codecConformance(
  {
    name: 'mqtt',
    codec: packets as never,
    messages: (random): Publish & { cmd: string } => {
      const qos = random.below(3)
      const payload = Buffer.from(random.bytes(random.below(40)))
      return {
        cmd: 'publish',
        topic: word(random),
        payload,
        qos,
        ...(qos > 0 ? { messageId: 1 + random.below(9) } : {}),
      }
    },
    encodeAsPeer: (message) => mqttPacket.generate(message as never),
    equal: (decoded, sent) => {
      const flat = (one: unknown) => {
        const { topic, payload, qos, messageId = 0 } = one as Publish
        return `${topic} ${payload.toString('hex')} ${qos} ${qos > 0 ? messageId : 0}`
      }
      // A message of a message transport may hold several packets.
      const [one = decoded] = (decoded as { packets?: unknown[] }).packets ?? []
      return flat(one) === flat(sent)
    },
    replies: [{ cmd: 'pingresp' }, { cmd: 'publish', topic: 'a', payload: 'b', qos: 0 }, Buffer.of(0xd0, 0)],
    large: (size) => ({ cmd: 'publish', topic: 'a', payload: Buffer.alloc(Math.max(0, size - 8), 'x'), qos: 0 }),
    malformed: hex(
      '10ffffff7f',
      '30ffffffff01',
      '3600',
      'f000',
      '0000',
      '100c00044d5154541602003c0000',
      '8200',
      '6200',
    ),
    cases,
  },
  { test },
)

// ── dns ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const { codec: questions } = make(dns)
interface Asked {
  readonly id: number
  readonly name: string
  readonly type: string
}
codecConformance(
  {
    name: 'dns over tcp',
    codec: questions as never,
    messages: (random): Asked => ({
      id: random.below(65_536),
      name: ['www.test', 'a', `${'x'.repeat(63)}.test`, '1.2.3.4.in-addr.arpa'][random.below(4)] as string,
      type: ['A', 'AAAA', 'TXT', 'MX'][random.below(4)] as string,
    }),
    encodeAsPeer: (message, { kind }) => {
      const { id, name, type } = message as Asked
      const additionals = id % 2 === 0 ? [] : [{ type: 'OPT', name: '.', udpPayloadSize: 1_232, flags: 0, options: [] }]
      const bytes = dnsPacket.encode({ type: 'query', id, questions: [{ name, type }], additionals } as never)
      return kind === 'stream' ? Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 255), bytes]) : bytes
    },
    equal: (decoded, sent) => {
      const flat = ({ id, name, type }: Asked) => `${id} ${name} ${type}`
      return flat(decoded as Asked) === flat(sent as Asked)
    },
    replies: [],
    malformed: hex('0000', '000b0000000000000000000000'),
    cases,
  },
  { test },
)

// ── smtp ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const { codec: lines } = make(smtp)
codecConformance(
  {
    name: 'smtp commands',
    codec: lines as never,
    messages: (random) => ({
      command: ['NOOP', 'EHLO', 'VRFY', 'RSET'][random.below(4)],
      rest: ['', 'mx.test', 'ü', 'x y z'][random.below(4)],
    }),
    encodeAsPeer: (message, { kind }) => {
      const { command, rest } = message as { command: string; rest: string }
      return `${command.toLowerCase()} ${rest}${kind === 'stream' ? '\r\n' : ''}`
    },
    replies: ['250 OK', '250-a\r\n250 b'],
    large: (size) => ({ command: 'NOOP', rest: 'x'.repeat(Math.max(0, size - 5)) }),
    cases,
  },
  { test },
)

test.run()
