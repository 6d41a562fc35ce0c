// time limit: 240 s
/** RESP, the server's side of the wire: requests in any cut, limits, inline commands. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resp } from '#src/plugins/protocols/resp/index.js'
import {
  type Choices,
  checkCuts,
  checkPieces,
  drive,
  fails,
  limitsOf,
  make,
  type Outcome,
  stream,
} from '../codecs/harness.js'

const protocol = make(resp)
const { codec } = protocol
const framing = { ...codec, frame: (payload: Uint8Array | string) => payload } as never
const read = (text: string, frameBytes = 1_048_576, lineBytes = frameBytes) =>
  drive(
    (codec.framer as NonNullable<typeof codec.framer>).open(limitsOf(frameBytes, lineBytes)),
    Buffer.from(text, 'latin1'),
    [],
    Buffer.from('?'),
  )
const decode = (text: string) => codec.decode(Buffer.from(text, 'latin1'), stream)

/** From the specification, over a whole stream, with regular expressions. */
function reference(bytes: Buffer, limit: number): Outcome {
  const text = bytes.toString('latin1')
  const frames: string[] = []
  let at = 0
  const over = (error: string | undefined): Outcome => ({ frames, error, leftover: text.length - at })
  /** `undefined`: not whole yet; `bad`: none. */
  const lengthAt = (from: number): { value: number; after: number } | 'bad' | undefined => {
    const rest = text.slice(from)
    const found = /^(0|[1-9]\d{0,14}|-1)\r\n/.exec(rest)
    if (found !== null) return { value: Number(found[1]), after: from + found[0].length }
    return /^((0|[1-9]\d{0,14}|-1)\r?|-?)$/.test(rest) ? undefined : 'bad'
  }
  for (;;) {
    if (at === text.length) return over(undefined)
    if (text[at] !== '*') {
      const line = /^([^\n]*?)\r?\n/.exec(text.slice(at))
      const held = text.length - at
      if (line === null)
        return over(held > limit + 1 || (held === limit + 1 && !text.endsWith('\r')) ? 'TOO_LARGE' : undefined)
      if ((line[1] as string).length > limit) return over('TOO_LARGE')
      frames.push(line[1] as string)
      at += line[0].length
      continue
    }
    const head = lengthAt(at + 1)
    if (head === 'bad') return over('MALFORMED')
    if (head === undefined) return over(undefined)
    let next = head.after
    for (let left = Math.max(0, head.value); ; left--) {
      if (next - at + left * 6 > limit) return over('TOO_LARGE')
      if (left === 0) break
      if (next === text.length) return over(undefined)
      if (text[next] !== '$') return over('MALFORMED')
      const length = lengthAt(next + 1)
      if (length === undefined) return over(undefined)
      if (length === 'bad' || length.value < 0) return over('MALFORMED')
      const after = length.after + length.value + 2
      if (after - at + (left - 1) * 6 > limit) return over('TOO_LARGE')
      if (after > text.length) return over(undefined)
      if (text.slice(after - 2, after) !== '\r\n') return over('MALFORMED')
      next = after
    }
    frames.push(text.slice(at, next))
    at = next
  }
}

function hostile(choices: Choices, limit: number): Buffer {
  let text = ''
  for (let count = choices.below(5); count >= 0; count--) {
    const style = choices.below(12)
    if (style < 7) {
      const words = Array.from({ length: choices.below(3) }, () =>
        'x\r\n$*'.slice(0, choices.below(Math.min(6, limit + 2))),
      )
      text += `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`
    } else if (style < 9) text += `${'get a  "b"'.slice(0, choices.below(11))}${choices.pick(['\r\n', '\n', '\r\r\n'])}`
    else if (style === 9)
      text += choices.pick([
        '*-1\r\n',
        '*0\r\n',
        '*1\r\n$-1\r\n',
        '*2147483648\r\n',
        '*01\r\n',
        '*1\r\n$1\r\nab',
        '*\r\n',
        '*-2\r\n',
      ])
    else text += choices.bytes(choices.below(8), [...Buffer.from('*$1230-\r\n\0"a')]).toString('latin1')
  }
  return Buffer.from(text, 'latin1')
}

test('100,000 streams in any cut give what the specification gives', () => {
  checkCuts('resp', () => ({ framing, reference, stream: hostile, bait: Buffer.from('*1\r\n$4\r\nPING\r\n') }))
})

test('1 MiB in small pieces is linear: one long argument, and many short ones', () => {
  const size = 1_048_576
  checkPieces('resp, one argument', framing, Buffer.from(`*1\r\n$${size}\r\n${'x'.repeat(size)}\r\n`))
  const count = Math.floor(size / 7)
  checkPieces('resp, many arguments', framing, Buffer.from(`*${count}\r\n${'$1\r\nx\r\n'.repeat(count)}`))
})

test('a command is refused at the digit that says it is too long, before its bytes have come', () => {
  assert.is(read('*2\r\n$3\r\nSET\r\n$100\r\n', 64).error, 'TOO_LARGE')
  assert.is(read('*1000\r\n', 5_999).error, 'TOO_LARGE')
  assert.is(read('*999999999999999\r\n').error, 'TOO_LARGE')
  assert.is(read('*1\r\n$999999999999999\r\n').error, 'TOO_LARGE')
  assert.is(read('*9999999999999999\r\n').error, 'MALFORMED')
  assert.is(read('x'.repeat(12), 64, 10).error, 'TOO_LARGE')
})

test('the message: a command in upper case, arguments as text', () => {
  assert.equal(decode('*3\r\n$3\r\nset\r\n$1\r\nk\r\n$2\r\n\xc3\xa9\r\n'), { command: 'SET', args: ['k', 'é'] })
  assert.equal(decode('*1\r\n$4\r\nPING\r\n'), { command: 'PING', args: [] })
  assert.equal(decode('*5\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$0\r\n\r\n$1\r\nc\r\n'), {
    command: 'MGET',
    args: ['a', 'b', '', 'c'],
  })
  for (const nothing of ['*0\r\n', '*-1\r\n', '', '   ']) assert.equal(decode(nothing), { command: '', args: [] })
  assert.is(codec.route?.(decode('*1\r\n$3\r\ngEt\r\n')), 'GET')
})

test('names of commands that fall into one place of the table stay apart', () => {
  const names = Array.from({ length: 4_000 }, (_, index) => `C${index.toString(36).toUpperCase()}`)
  for (const name of [...names, ...names])
    assert.is((decode(`*1\r\n$${name.length}\r\n${name.toLowerCase()}\r\n`) as { command: string }).command, name)
  for (const odd of ['[', '{', '\0', '@', '`', 'get\x7f', 'G\xc9T', 'x'.repeat(40)])
    assert.is(
      (decode(`*1\r\n$${odd.length}\r\n${odd}\r\n`) as { command: string }).command,
      odd.replace(/[a-z]/g, (c) => c.toUpperCase()),
    )
})

test('text that is no UTF-8 is refused; as bytes it is any', () => {
  assert.throws(() => decode('*2\r\n$3\r\nGET\r\n$1\r\n\xff\r\n'), fails('MALFORMED', /strings: 'bytes'/))
  assert.equal(decode('*2\r\n$3\r\nGET\r\n$3\r\n\xef\xbf\xbd\r\n'), { command: 'GET', args: ['\ufffd'] })
  const bytes = make(resp, { strings: 'bytes' }).codec
  const message = bytes.decode(Buffer.from('*2\r\n$3\r\nGET\r\n$2\r\n\xff\0\r\n', 'latin1'), stream)
  assert.equal((message as { args: Buffer[] }).args[0], Buffer.of(255, 0))
})

test('inline commands: words, quotes, escapes as Redis reads them', () => {
  assert.equal(decode('set  a\t"b c\\n\\x41\\"\\q"  '), { command: 'SET', args: ['a', 'b c\nA"q'] })
  assert.equal(decode("echo 'it\\'s \\n'"), { command: 'ECHO', args: ["it's \\n"] })
  assert.equal(decode('echo ""'), { command: 'ECHO', args: [''] })
  for (const bad of ['get "a', "get 'a", 'get "a"b', 'get "a\\"']) assert.throws(() => decode(bad), fails('MALFORMED'))
})

test('what is no frame is a FrameError, wherever it comes from', () => {
  for (const bad of [
    '*1\r\n$3\r\nGE',
    '*2\r\n$3\r\nGET\r\n',
    '*1\r\n$3\r\nGET\r\nx',
    '*1\r\n$-1\r\n',
    '*9\r\n',
    '*1\r\n!3\r\nGET\r\n',
    '*',
  ])
    assert.throws(() => decode(bad), fails('MALFORMED'))
})

test('detect: an array of arguments is ours, nothing else', () => {
  const ask = (text: string) => protocol.detect?.(Buffer.from(text), 0, text.length)
  assert.is(ask(''), 'more')
  assert.is(ask('*'), 'more')
  assert.is(ask('*1'), 'more')
  assert.is(ask('*12\r'), 'yes')
  for (const other of ['*\r', '*x', 'GET / HTTP/1.1', '\x16\x03\x01', '*1234567890123456789'])
    assert.is(ask(other), 'no')
})

test.run()
