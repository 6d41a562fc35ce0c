// time limit: 180 s
/** SMTP: 100,000 generated mails in whole dialogues, sound and spoilt: taken as they were sent, or refused; in any cut. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FrameError } from '#src/core/errors.js'
import { type SmtpMessage, smtp } from '#src/plugins/protocols/smtp.js'
import { createRandom, type Random } from '#src/testing/index.js'
import { SEED } from '../support/run-file.js'
import { make } from '../unit/plugins/codecs/harness.js'

const cases = 100_000
const limits = { frameBytes: 300, lineBytes: 120 }
const protocol = make(smtp)
const step = protocol.middleware?.message as unknown as (context: object, next: () => unknown) => unknown

/** Plays a client's bytes; what was answered, and the mails. */
function play(bytes: Buffer, cuts: readonly number[]) {
  const said: string[] = []
  const mails: string[] = []
  let isOver = false
  const end = async () => {
    isOver = true
  }
  const connection = { feature: () => undefined, send: async (text: string) => void said.push(text), close: end }
  const reader = protocol.codec.framer?.open(limits)
  assert.ok(reader !== undefined)
  let start = 0
  for (const upTo of [...cuts, bytes.length]) {
    // As a session does: what was not a whole frame is offered again, with what came behind it.
    while (!isOver) {
      let after = 0
      try {
        after = reader.next(bytes, start, upTo)
      } catch (thrown) {
        assert.ok(thrown instanceof FrameError && thrown.code === 'TOO_LARGE', String(thrown))
        said.push('line too long')
        return { said, mails }
      }
      if (after === -1) break
      const frame = bytes.subarray(reader.start, reader.end)
      start = after
      const message = protocol.codec.decode(frame, { connection, limits, kind: 'stream' } as never)
      const { command, data } = message as SmtpMessage
      const next = () => {
        if (command === 'MESSAGE') mails.push(data.toString('latin1'))
        return undefined
      }
      const reply = step({ connection, message }, next)
      if (reply !== undefined) said.push(String(reply))
    }
  }
  return { said, mails }
}

const stuffed = (lines: readonly string[]) =>
  lines.map((line) => `${line.startsWith('.') ? '.' : ''}${line}\r\n`).join('')
function mail(random: Random): string[] {
  const line = () =>
    random.pick(['', '.', '..', '. x', 'hello', 'MAIL FROM:<x@y>', '\xff\0', 'x'.repeat(random.below(100))])
  return Array.from({ length: random.below(16) }, line)
}
const cutsOf = (random: Random, length: number) =>
  random.chance(0.1)
    ? Array.from({ length }, (_, i) => i)
    : Array.from({ length: random.below(5) }, () => random.below(length + 1)).sort((a, b) => a - b)

test('mails arrive as they were sent, whatever their lines look like, and however they are cut', () => {
  let large = 0
  for (let i = 0; i < cases; i++) {
    const random = createRandom(`${SEED} ${i}`)
    const all = Array.from({ length: 1 + random.below(2) }, () => mail(random))
    const ask = (lines: readonly string[]) =>
      `mail from:<a@b>\r\nRCPT TO:<"c d"@e> X=1\r\nDATA\r\n${stuffed(lines)}.\r\n`
    const bytes = Buffer.from(`EHLO me\r\n${all.map(ask).join('')}NOOP\r\n`, 'latin1')
    const { said, mails } = play(bytes, cutsOf(random, bytes.length))
    const texts = all.map((lines) => lines.map((line) => `${line}\r\n`).join(''))
    const fitting = texts.filter((text) => text.length <= limits.frameBytes)
    large += texts.length - fitting.length
    assert.equal(mails, fitting, bytes.toString('latin1'))
    const ends = texts.map((text) => (text.length <= limits.frameBytes ? '250' : '552'))
    const expected = ['250', ...ends.flatMap((code) => ['250', '250', '354', code]), '250']
    assert.equal(
      said.map((reply) => reply.slice(0, 3)),
      expected,
    )
  }
  assert.ok(large > cases / 100, `${large} were too large`)
})

test('spoilt dialogues end alike however they are cut, and no line is taken for two', () => {
  const seen = { mails: 0, refused: 0, long: 0 }
  for (let i = 0; i < cases; i++) {
    const random = createRandom(`${SEED} s${i}`)
    let text = 'EHLO me\r\n'
    for (let count = 1 + random.below(6); count > 0; count--) {
      const lines = stuffed(mail(random))
      text += random.pick([
        'MAIL FROM:<a@b>\r\n',
        'RCPT TO:<c@d>\r\n',
        'DATA\r\n',
        '.\r\n',
        'RSET\r\n',
        'QUIT\r\n',
        'x\r\n',
        'MAIL FROM:<\r\n',
        `${'y'.repeat(110 + random.below(20))}\r\n`,
        lines,
      ])
    }
    if (random.chance(0.5))
      text = `EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n${stuffed(mail(random))}.\r\n`
    const bytes = Buffer.from(text, 'latin1')
    for (let spoilt = random.below(3); spoilt > 0; spoilt--)
      bytes[random.below(bytes.length)] = random.pick([0, 10, 13, 32, 46, 255, random.below(256)])
    const whole = play(bytes, [])
    assert.equal(play(bytes, cutsOf(random, bytes.length)), whole, bytes.toString('latin1'))
    // Of what was smuggled in by a bare CR or LF nothing is let through.
    for (const one of whole.mails) assert.not.match(one.replaceAll('\r\n', ''), /[\r\n]/)
    seen.mails += whole.mails.length
    if (whole.said.some((reply) => reply.startsWith('5'))) seen.refused++
    if (whole.said.includes('line too long')) seen.long++
  }
  for (const [outcome, count] of Object.entries(seen)) assert.ok(count > cases / 500, `${outcome}: ${count}`)
})

test.run()
