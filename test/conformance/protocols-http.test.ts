// time limit: 400 s
/**
 * HTTP: 100,000 generated streams of requests, sound and spoilt. Cut anywhere they give the same requests, replies and end.
 *
 * Node's parser is Node's; what is held here is what stands around it: detection, the stream it is fed by, the bodies, the
 * replies and refusals.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ConnectionStream } from '#src/core/duplex.js'
import { defaultLimits, defaultTimeouts } from '#src/core/options.js'
import type { ProtocolPort } from '#src/core/plugin.js'
import { type HttpRequest, http } from '#src/plugins/protocols/http.js'
import { createRandom, type Random } from '#src/testing/index.js'
import { SEED } from '../support/run-file.js'

const cases = 100_000
const batch = 100
const frameBytes = 200

const protocol = http.create({ requestMs: 300_000, headerBytes: 1_024 } as never, {} as never)

/** One client, and what became of it. */
class Visit {
  readonly requests: string[] = []
  readonly stream: ConnectionStream
  said = ''
  closedWith: string | undefined

  constructor() {
    const end = (code: string) => {
      this.closedWith ??= code
    }
    const write = (piece: Uint8Array | string) => {
      if (this.closedWith === undefined)
        this.said += typeof piece === 'string' ? piece : Buffer.from(piece).toString('latin1')
      return undefined
    }
    const connection = {
      remote: undefined,
      local: undefined,
      feature: () => undefined,
      write,
      end: () => end('end'),
      close: async (code: string) => end(code),
      abort: (error: Error) => end(`abort ${error}`),
    }
    const nothing = () => {}
    this.stream = new ConnectionStream(connection as never, {
      write,
      end: () => end('end'),
      abort: (error) => end(`abort ${error}`),
      pause: nothing,
      resume: nothing,
    })
    const handle = ({ method, url, headers, text }: HttpRequest, route: string, bytes: number) => {
      const body = text()
      assert.ok(route === method && bytes === Buffer.byteLength(body) && bytes <= frameBytes)
      this.requests.push(JSON.stringify([method, url, headers, body]))
      if (url.includes('fail')) throw new Error('a secret of ours')
      return url.includes('none') ? undefined : `${method} ${body.length}`
    }
    const port = {
      connection,
      limits: { ...defaultLimits, frameBytes },
      timeouts: defaultTimeouts,
      draining: new Promise(nothing),
      stream: () => this.stream,
      handle,
    }
    protocol.serve?.(port as unknown as ProtocolPort)
  }

  /** Dates are those of the day. */
  get outcome(): string {
    const { requests, said, closedWith } = this
    return `${requests.join('\n')}\n${said.replace(/^Date: .*\r\n/gm, '')}\n${closedWith}`
  }
}

function request(random: Random): string {
  const method = random.pick(['GET', 'POST', 'PUT', 'HEAD', 'DELETE', 'PATCH', 'OPTIONS'])
  const path = random.pick(['/', '/fail', '/none', '/a?b=%C3%BC&c', `/${'x'.repeat(random.below(1_200))}`, '*'])
  const lines = [`${method} ${path} HTTP/1.${random.chance(0.9) ? 1 : 0}`, 'Host: x']
  for (let count = random.below(4); count > 0; count--)
    lines.push(`X-${count}: ${random.pick(['a', '', ' b ', '\xff', 'c'.repeat(random.below(60))])}`)
  if (random.chance(0.1)) lines.push(`Connection: ${random.pick(['close', 'keep-alive', 'upgrade'])}`)
  if (random.chance(0.05)) lines.push('Expect: 100-continue')
  const body = 'y'.repeat(random.pick([0, 1, 20, frameBytes, frameBytes + 1]))
  const kind = random.below(4)
  if (kind === 0) return `${lines.join('\r\n')}\r\n\r\n`
  if (kind < 3) return `${lines.join('\r\n')}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  let chunks = ''
  for (let at = 0; at < body.length; ) {
    const size = 1 + random.below(100)
    const part = body.slice(at, at + size)
    chunks += `${part.length.toString(16)}${random.chance(0.1) ? ';a=b' : ''}\r\n${part}\r\n`
    at += size
  }
  return `${lines.join('\r\n')}\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}0\r\n${random.chance(0.1) ? 'T: 1\r\n' : ''}\r\n`
}

function generated(random: Random): Buffer {
  if (random.chance(0.03)) return random.bytes(random.below(60))
  let text = ''
  for (let count = 1 + random.below(3); count > 0; count--) text += request(random)
  const bytes = Buffer.from(text, 'latin1')
  if (random.chance(0.2)) bytes[random.below(bytes.length)] = random.pick([0, 10, 13, 32, 58, 255, random.below(256)])
  return random.chance(0.1) ? bytes.subarray(0, random.below(bytes.length + 1)) : bytes
}

const pieces = (random: Random, bytes: Buffer): Buffer[] => {
  const cuts = Array.from({ length: 1 + random.below(6) }, () => random.below(bytes.length + 1)).sort((a, b) => a - b)
  return [0, ...cuts].map((from, i) => bytes.subarray(from, cuts[i] ?? bytes.length)).filter(({ length }) => length > 0)
}
/** Of two faults in one head or body, its size and its form, either may be seen first: refused all the same, at the same place. */
const masked = ({ outcome }: Visit): string => outcome.replace(/HTTP\/1\.1 4(00|13|31)[\s\S]*$/, 'refused')
const turn = () => new Promise((resolve) => setImmediate(resolve))

async function play(all: readonly (readonly Buffer[])[]): Promise<Visit[]> {
  const visits = all.map(() => new Visit())
  const most = Math.max(...all.map(({ length }) => length))
  for (let i = 0; i <= most; i++) {
    all.forEach((parts, at) => {
      const { stream, closedWith } = visits[at] as Visit
      // A session that has closed reads no more.
      if (closedWith !== undefined) return
      if (i < parts.length) stream.feed(parts[i] as Buffer)
      else if (i === parts.length) stream.feedEnd()
    })
    await turn()
  }
  for (let i = 0; i < 8; i++) await turn()
  return visits
}

test('100,000 streams of requests, whole and cut anywhere, have the same outcome', async () => {
  const seen = { requests: 0, refused: 0, failed: 0, either: 0 }
  for (let from = 0; from < cases; from += batch) {
    const given = Array.from({ length: batch }, (_, i) => {
      const random = createRandom(`${SEED} ${from + i}`)
      const bytes = generated(random)
      return { bytes, parts: pieces(random, bytes) }
    })
    const whole = await play(given.map(({ bytes }) => (bytes.length > 0 ? [bytes] : [])))
    const cut = await play(given.map(({ parts }) => parts))
    given.forEach(({ bytes, parts }, i) => {
      const [one, other] = [whole[i] as Visit, cut[i] as Visit]
      const what = `case ${from + i}: ${JSON.stringify(bytes.toString('latin1'))} in pieces of ${parts.map(({ length }) => length)}`
      if (other.outcome !== one.outcome) {
        assert.is(masked(other), masked(one), what)
        seen.either++
      }
      assert.not.match(one.said, /secret/, what)
      seen.requests += one.requests.length
      if (/^HTTP\/1\.1 4/m.test(one.said)) seen.refused++
      if (/^HTTP\/1\.1 500/m.test(one.said)) seen.failed++
      one.stream.destroy()
      other.stream.destroy()
    })
  }
  assert.ok(seen.either < cases / 100, JSON.stringify(seen))
  assert.ok(seen.requests > cases / 2 && seen.refused > cases / 50 && seen.failed > cases / 50, JSON.stringify(seen))
})

test('detection says the same however little it has seen, and is sure by the eighth byte', () => {
  const { detect } = protocol
  assert.ok(detect !== undefined)
  for (let i = 0; i < cases; i++) {
    const random = createRandom(`${SEED} d${i}`)
    const bytes = random.chance(0.5) ? random.bytes(20) : generated(random)
    const said = Array.from({ length: Math.min(9, bytes.length + 1) }, (_, length) => detect(bytes, 0, length))
    const sure = said.filter((one) => one !== 'more')
    assert.ok(
      new Set(sure).size <= 1 && said.lastIndexOf('more') < Math.max(8, said.indexOf(sure[0] as never)),
      `${i}: ${said}`,
    )
    assert.ok(bytes.length < 8 || sure.length > 0, `${i}: ${said}`)
  }
})

test.run()
