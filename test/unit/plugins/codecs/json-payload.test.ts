import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FrameError } from '#src/core/errors.js'
import { json } from '#src/plugins/codecs/json-payload.js'
import { faultOf } from '#src/plugins/codecs/json-scan.js'
import { Choices, fails, make } from './harness.js'

const payload = make(json)
const decode = (text: string | Uint8Array, options: object = {}) => {
  const bytes = Buffer.from(text as string)
  const inside = Buffer.concat([Buffer.from('"['), bytes, Buffer.from(']"')])
  return make(json, options).decodeAt(inside, 2, 2 + bytes.length)
}
const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)

test('JSON values of every kind', () => {
  for (const value of [null, true, 0, -1.5e-7, 1e308, '', 'ä😀\n"\\', [], {}, [1, [2]], { a: { b: [null] } }]) {
    assert.equal(decode(JSON.stringify(value)), value)
    assert.equal(decode(` ${JSON.stringify(value)}\r\n`), value)
  }
})

test('what is no JSON is refused with its position, and little of it is shown', () => {
  const table: [string, number, RegExp][] = [
    ['', 0, /blank/],
    [' \t', 2, /blank/],
    ['{"a":x}', 5, /something else/],
    ['{"a":1', 6, /ends too early/],
    ['[1,]', 3, /something else/],
    ['{"a":1,}', 7, /something else/],
    ['[1}', 2, /something else/],
    ['{"a"1}', 4, /something else/],
    ["{'a':1}", 1, /something else/],
    ['"a\u0001"', 2, /"a\./],
    ['"\\x"', 1, /something else/],
    ['"a', 2, /ends too early/],
    ['[01]', 2, /something else/],
    ['1 2', 2, /something else/],
    ['NaN', 0, /something else/],
    ['\ufeff1', 0, /something else/],
    [`["${'x'.repeat(1000)}", \u001b[2J]`, 1005, /position 1005: x{17}", \.\[2J\]$/],
  ]
  for (const [text, position, words] of table) {
    assert.throws(
      () => decode(text),
      (error: unknown) =>
        fails('MALFORMED', words)(error) &&
        (error as FrameError).fields.position === position &&
        ((error as FrameError).message.split(`position ${position}: `)[1] as string).length <= 40,
      JSON.stringify(text),
    )
  }
})

test('deep nesting is refused before it is parsed, 64 by default; brackets in strings do not count', () => {
  assert.equal(decode(nested(64)), JSON.parse(nested(64)))
  assert.throws(() => decode(nested(65)), fails('MALFORMED', /at most 64 deep/))
  assert.throws(() => decode(`${'{"a":'.repeat(65)}1${'}'.repeat(65)}`), fails('MALFORMED', /at most 64 deep/))
  assert.throws(() => decode('[{"a":'.repeat(200_000)), fails('MALFORMED', /at most 64 deep/))
  assert.equal(decode(`["${'['.repeat(100)}\\"${'{'.repeat(100)}"]`), [`${'['.repeat(100)}"${'{'.repeat(100)}`])
  assert.equal(decode('[[]]', { depth: 2 }), [[]])
  assert.throws(() => decode('[[[]]]', { depth: 2 }), fails('MALFORMED', /at most 2 deep/))
  assert.ok(decode(nested(5_000), { depth: 'unlimited' }))
  const many = `[${'[],'.repeat(1_000)}[]]`
  assert.is((decode(many) as unknown[]).length, 1_001)
})

test('without a limit on depth, what is deep and no JSON is an error like any other', () => {
  assert.throws(() => decode('['.repeat(200_000), { depth: 'unlimited' }), fails('MALFORMED', /ends too early/))
})

test('keys that pollute prototypes are refused however they are spelled, and nothing is polluted', () => {
  for (const text of [
    '{"__proto__":{"polluted":true}}',
    '{"a":[{"__proto__":1}]}',
    '{"\\u005f\\u005fproto__":1}',
    '{"__pr\\u006Fto__":1}',
    '{"__proto\\u005F_":1}',
    '{"constructor":{"prototype":{"polluted":true}}}',
    '{"con\\u0073tructor":{"prototype":1}}',
    '{"constructor":{"\\u0070rototype":1}}',
  ]) {
    assert.throws(() => decode(text), fails('MALFORMED', /change prototypes/), text)
    assert.ok(decode(text, { proto: 'keep' }), text)
  }
  assert.is(({} as { polluted?: boolean }).polluted, undefined)
  const kept = decode('{"__proto__":{"polluted":true}}', { proto: 'keep' }) as object
  assert.is(Object.getPrototypeOf(kept), Object.prototype)
})

test('the same words elsewhere are none of them', () => {
  for (const value of [
    { a: '__proto__' },
    ['constructor'],
    { constructor: 'Mercedes' },
    { prototype: 1 },
    { '1': 1, '0': 0 },
    { A: '\u0041' },
  ]) {
    assert.equal(decode(JSON.stringify(value)), value)
  }
  assert.equal(decode('{"\\u0041":1}'), { A: 1 })
})

test('numbers that would become Infinity are refused, others are not', () => {
  for (const text of ['1e309', '-1E+400', '[1.5e999]', '{"a":1e0400}', '9'.repeat(310), `[0,-${'9'.repeat(400)}.5]`]) {
    assert.throws(() => decode(text), fails('MALFORMED', /1\.8e308/), text)
    assert.throws(() => decode(text, { proto: 'keep' }), fails('MALFORMED'), text)
  }
  for (const text of ['1e308', '1e-999', '0e999', `0.${'9'.repeat(400)}`, '9'.repeat(308)])
    assert.is(decode(text), Number(text))
  assert.is(decode('"1e999"'), '1e999')
})

test('bad UTF-8 is refused; a lone surrogate written as an escape is text', () => {
  assert.throws(() => decode(Buffer.from([0x22, 0xff, 0x22])), fails('MALFORMED', /UTF-8/))
  assert.throws(() => decode(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])), fails('MALFORMED', /UTF-8/))
  assert.is(decode('"\ufffd"'), '\ufffd')
  assert.is(decode('"\\ud800"'), '\ud800')
  assert.is(payload.encode('\ud800'), '"\\ud800"')
})

test('a reply is written as JSON.stringify writes it', () => {
  for (const value of [null, 0, '', false, [1], { a: [undefined] }, new Date(0)])
    assert.is(payload.encode(value), JSON.stringify(value))
})

test('a reply without a form in JSON is an error that says what to do', () => {
  const cycle: { self?: unknown } = {}
  cycle.self = cycle
  for (const reply of [cycle, { a: 1n }, 1n, () => 1, Symbol('a')])
    assert.throws(() => payload.encode(reply), fails('HANDLER_FAILED'))
})

test('arrays and objects are one reply; generators, sets and maps are a reply per item', () => {
  const isMessage = payload.isMessage as (value: unknown) => boolean
  const generate = function* () {
    yield 1
  }
  for (const value of [
    [],
    {},
    Object.create(null),
    { [Symbol.iterator]: generate },
    new String('a'),
    Buffer.from('a'),
  ]) {
    assert.ok(isMessage(value))
  }
  for (const value of [generate(), new Set(), new Map(), (async function* () {})()]) assert.not(isMessage(value))
})

/** What RFC 8259 and the options say, the slow way. */
function reference(bytes: Buffer, depth: number): { value: unknown } | undefined {
  if (!isUtf8(bytes)) return undefined
  const isLegal = (value: unknown): boolean => {
    if (typeof value === 'number') return Number.isFinite(value)
    if (typeof value !== 'object' || value === null) return true
    return Object.entries(value).every(([key, entry]) => {
      if (key === '__proto__') return false
      if (key === 'constructor' && typeof entry === 'object' && entry !== null && Object.hasOwn(entry, 'prototype'))
        return false
      return isLegal(entry)
    })
  }
  // In the text, not in the value: of two equal keys the value has the last.
  let level = 0
  let deepest = 0
  for (const [bracket] of bytes.toString().matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (bracket === '[' || bracket === '{') deepest = Math.max(deepest, ++level)
    else if (bracket === ']' || bracket === '}') level--
  }
  try {
    const value: unknown = JSON.parse(bytes.toString())
    return isLegal(value) && deepest <= depth ? { value } : undefined
  } catch {
    return undefined
  }
}

const words = [
  '"__proto__"',
  '"constructor"',
  '"prototype"',
  '"\\u005f_proto__"',
  '"a"',
  '"\\""',
  '"\\u00e4"',
  '"["',
  '""',
]
const atoms = [...words, '1e999', '1e5', '-0', '12', 'true', 'null', '"ä"', '0.5']

function textOf(choices: Choices, depth: number): string {
  const kind = depth === 0 ? 2 : choices.below(3)
  if (kind === 2) return choices.pick(atoms)
  const items = Array.from({ length: choices.below(4) }, () => textOf(choices, depth - 1))
  return kind === 0 ? `[${items.join(',')}]` : `{${items.map((item) => `${choices.pick(words)}:${item}`).join(',')}}`
}

test('100,000 texts, legal and damaged, are taken or refused as the specification says', () => {
  let cases = 0
  let taken = 0
  const depth = 4
  const { decodeAt } = make(json, { depth })
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const choices = new Choices(seed)
      for (let count = 0; count < 200; count++) {
        const bytes = Buffer.from(textOf(choices, 1 + choices.below(6)))
        if (choices.below(3) === 0)
          bytes[choices.below(bytes.length)] = choices.pick([...Buffer.from('[]{}",:0e\\u x\n'), 0xff])
        const expected = reference(bytes, depth)
        let got: { value: unknown } | undefined
        try {
          got = { value: decodeAt(bytes, 0, bytes.length) }
        } catch (error) {
          if (!(error instanceof FrameError && error.code === 'MALFORMED')) throw error
        }
        if (JSON.stringify(got) !== JSON.stringify(expected)) assert.equal(got, expected, bytes.toString())
        cases++
        if (got !== undefined) taken++
      }
    }),
    { numRuns: 500 },
  )
  assert.is(cases, 100_000)
  assert.ok(taken > 30_000 && taken < 80_000, `${taken} taken`)
  console.log(`  json: ${cases} cases, ${taken} taken`)
})

test('the position of a fault is where the platform sees it, give or take a token', () => {
  let named = 0
  const choices = new Choices(1)
  for (let count = 0; count < 20_000; count++) {
    const text = textOf(choices, 4)
    assert.is(faultOf(text), text.length)
    const cut = text.slice(0, choices.below(text.length))
    const damaged =
      choices.below(2) === 0
        ? cut
        : `${cut}${choices.pick(['x', ',', ']', '}', ':', '"', '\\', '-'])}${text.slice(cut.length)}`
    try {
      JSON.parse(damaged)
    } catch (error) {
      const position = /position (\d+)/.exec((error as Error).message)?.[1]
      const found = faultOf(damaged)
      if (position === undefined) continue
      named++
      assert.ok(Math.abs(found - Number(position)) <= 6, `${damaged}: ${found} against ${position}`)
    }
  }
  assert.ok(named > 2_000, `${named} positions compared`)
})

test('a mebibyte of anything is looked over in linear time', () => {
  for (const filling of ['[', '"', '\\', '9', '9e', '{"a":', ' ', 'é', '"\\u0061', '__proto__']) {
    const cost = (bytes: number): number => {
      const frame = Buffer.alloc(bytes, filling)
      const started = process.cpuUsage()
      assert.throws(() => payload.decodeAt(frame, 0, frame.length), fails('MALFORMED'))
      const { user, system } = process.cpuUsage(started)
      return (user + system) / 1000
    }
    const ms = Math.min(cost(1_048_576), cost(1_048_576))
    assert.ok(ms < 500, `${filling}: ${ms} ms`)
  }
})

test.run()
