// time limit: 240 s
/** SOCKS5's handshake: 100,000 generated dialogues, sound and spoilt; cut anywhere they end alike, with errors of ours only. */
import dnsPromises from 'node:dns/promises'
import { syncBuiltinESMExports } from 'node:module'
import { Duplex } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ConnectionError } from '#src/core/errors.js'
import type { ProtocolPort } from '#src/core/plugin.js'
import { socks5 } from '#src/plugins/protocols/socks5.js'
import { createRandom, type Random } from '#src/testing/index.js'
import { SEED } from '../support/run-file.js'

const cases = 100_000
const batch = 200

// No resolver is asked: who is called what is no matter here.
dnsPromises.lookup = (async (name: string) => {
  if (name === 'known.test') return { address: '192.0.2.1', family: 4 }
  throw Object.assign(new Error(name), { code: 'ENOTFOUND' })
}) as never
syncBuiltinESMExports()

/** A stream whose other side we are. */
class Side extends Duplex {
  readonly said: Buffer[] = []
  get text(): string {
    return Buffer.concat(this.said).toString('hex')
  }
  override _read(): void {}
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.said.push(chunk)
    done()
  }
}

/** One client of a proxy, and what became of it. */
class Dialogue {
  readonly client = new Side({ allowHalfOpen: true })
  readonly target = new Side({ allowHalfOpen: true })
  closedWith: string | undefined
  connected: string | undefined
  #over: (code: string) => void = () => {}

  constructor(withUsers: boolean, dialled: () => Promise<void> = () => Promise.resolve()) {
    const closed = new Promise<string>((resolve) => {
      this.#over = resolve
    })
    const end = (code: string) => {
      this.closedWith ??= code
      this.#over(code)
      return closed
    }
    const connection = {
      stream: () => this.client,
      closed,
      close: end,
      abort: (error: { code?: string }) => void end(error.code ?? String(error)),
    }
    const target = { stream: () => this.target, close: () => Promise.resolve() }
    const connect = async (endpoint: string) => {
      this.connected = endpoint
      await dialled()
      if (endpoint.endsWith(':81')) throw new ConnectionError('REFUSED', 'nobody there')
      return target
    }
    const protocol = socks5.create(
      { users: withUsers ? { ada: 'pw' } : undefined, allow: undefined, deny: [], ports: undefined },
      { connect, clock: { after: () => () => {} } } as never,
    )
    const port = { connection, timeouts: { handshakeMs: 1_000 }, draining: new Promise(() => {}) }
    protocol.serve?.(port as unknown as ProtocolPort)
  }

  get outcome(): string {
    const { client, target, closedWith, connected } = this
    return `said ${client.text}; connected ${connected}; passed ${target.text}; closed ${closedWith}`
  }
}

const soundAddress = (random: Random): number[] => {
  const name = (text: string) => [3, text.length, ...Buffer.from(text, 'latin1')]
  return random.pick([
    () => [1, 192, 0, 2, random.below(256)],
    () => [1, 127, 0, 0, 1],
    () => [4, 0x20, 1, 0xd, 0xb8, ...random.bytes(12)],
    () => name('192.0.2.7'),
    () => name('known.test'),
    () => name('\0unknown \xff'),
    () => name(''),
    () => [random.below(256), ...random.bytes(random.below(8))],
  ])()
}
function generated(random: Random, withUsers: boolean): Buffer {
  const methods =
    withUsers && random.chance(0.9) ? [2, 0] : random.chance(0.9) ? [0] : [...random.bytes(random.below(4))]
  const bytes = [5, methods.length, ...methods]
  if (withUsers) {
    const word = (text: string) => [text.length, ...Buffer.from(text)]
    bytes.push(
      random.chance(0.97) ? 1 : 2,
      ...word('ada'),
      ...word(random.chance(0.9) ? 'pw' : 'x'.repeat(random.below(256))),
    )
  }
  const command = random.chance(0.9) ? 1 : random.below(5)
  bytes.push(random.chance(0.97) ? 5 : 4, command, 0, ...soundAddress(random), 0, random.pick([80, 81]))
  bytes.push(...random.bytes(random.chance(0.5) ? random.below(40) : 0))
  // A byte changed, some lost or some added, or noise alone.
  const at = random.below(bytes.length)
  if (random.chance(0.2)) bytes[at] = random.below(256)
  if (random.chance(0.1)) bytes.splice(at, random.below(4))
  if (random.chance(0.1)) bytes.splice(at, 0, ...random.bytes(random.below(4)))
  return random.chance(0.05) ? random.bytes(random.below(60)) : Buffer.from(bytes)
}

const pieces = (random: Random, bytes: Buffer): Buffer[] => {
  if (random.chance(0.1)) return Array.from(bytes, (byte) => Buffer.of(byte))
  const cuts = Array.from({ length: random.below(5) }, () => random.below(bytes.length + 1)).sort((a, b) => a - b)
  return [0, ...cuts].map((from, i) => bytes.subarray(from, cuts[i] ?? bytes.length)).filter(({ length }) => length > 0)
}
const turn = () => new Promise((resolve) => setImmediate(resolve))

/** All of a batch at once: each turn a piece of each. */
async function play(all: readonly { parts: readonly Buffer[]; withUsers: boolean }[]): Promise<Dialogue[]> {
  const dialogues = all.map(({ withUsers }) => new Dialogue(withUsers))
  const most = Math.max(...all.map(({ parts }) => parts.length))
  for (let i = 0; i <= most; i++) {
    all.forEach(({ parts }, at) => {
      const { client } = dialogues[at] as Dialogue
      if (i < parts.length) client.push(parts[i])
      else if (i === parts.length) client.push(null)
    })
    await turn()
  }
  for (let i = 0; i < 4; i++) await turn()
  return dialogues
}

test('100,000 dialogues, whole and cut anywhere, have the same outcome', async () => {
  const seen = { connected: 0, refused: 0, failed: 0 }
  for (let from = 0; from < cases; from += batch) {
    const given = Array.from({ length: batch }, (_, i) => {
      const random = createRandom(`${SEED} ${from + i}`)
      const withUsers = random.chance(0.5)
      const bytes = generated(random, withUsers)
      return { bytes, withUsers, parts: pieces(random, bytes) }
    })
    const whole = await play(
      given.map(({ bytes, withUsers }) => ({ parts: bytes.length > 0 ? [bytes] : [], withUsers })),
    )
    const cut = await play(given)
    given.forEach(({ bytes, parts }, i) => {
      const [one, other] = [whole[i] as Dialogue, cut[i] as Dialogue]
      const what = `case ${from + i}: ${bytes.toString('hex')} in pieces of ${parts.map(({ length }) => length)}`
      assert.is(other.outcome, one.outcome, what)
      // FAILED would be an error of another kind.
      assert.ok(one.closedWith === undefined || one.closedWith === 'HANDSHAKE_FAILED', `${what}: ${one.closedWith}`)
      if (one.closedWith === undefined) {
        assert.ok(
          one.connected !== undefined && one.client.text.endsWith('05000001000000000000'),
          `${what}: ${one.outcome}`,
        )
        assert.ok(bytes.toString('hex').endsWith(one.target.text), what)
        seen.connected++
      } else if (one.connected === undefined) seen.failed++
      else seen.refused++
      for (const { client, target } of [one, other]) {
        client.destroy()
        target.destroy()
      }
    })
  }
  assert.ok(seen.connected > cases / 10 && seen.refused > cases / 50 && seen.failed > cases / 10, JSON.stringify(seen))
})

test('what a client says while its target is dialled waits in the stream from 1,024 bytes on, and is passed on in order', async () => {
  let dialled = () => {}
  const dialogue = new Dialogue(false, () => new Promise((resolve) => (dialled = resolve)))
  const { client, target } = dialogue
  client.push(Buffer.of(5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 80))
  await turn()
  let sent = 0
  // As a transport does: until it is told to stop.
  for (let isFull = false; !isFull && sent < 1_000_000; sent += 100) {
    isFull = !client.push(Buffer.alloc(100, sent / 100))
    await turn()
  }
  assert.ok(client.isPaused())
  assert.ok(sent <= 1_200 + client.readableHighWaterMark, `${sent} bytes were taken`)
  dialled()
  for (let i = 0; i < 4; i++) await turn()
  const expected = Buffer.concat(Array.from({ length: sent / 100 }, (_, i) => Buffer.alloc(100, i)))
  assert.is(target.text, expected.toString('hex'))
  client.destroy()
})

test.run()
