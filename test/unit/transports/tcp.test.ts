import { execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import * as net from 'node:net'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Endpoint, parseEndpoint } from '#src/core/endpoint.js'
import { AcceptError, BindError } from '#src/core/errors.js'
import type { Listener } from '#src/core/transport.js'
import { tcp } from '#src/transports/tcp.js'
import { skip } from '../../support/skip.js'
import { failure, hasCommand, nextTurn, type Raw, Recorder, rawConnect } from './recorder.js'

const ANY = parseEndpoint('tcp://127.0.0.1:0')
const validate = (value: unknown) =>
  tcp.options?.['~standard'].validate(value) as { value?: unknown; issues?: { message: string }[] }

async function close(listener: Listener, ...raws: Raw[]): Promise<void> {
  for (const { socket } of raws) socket.destroy()
  await listener.unbind()
}

test('localhost is both loopback addresses on one port, and reported as localhost', async () => {
  const sink = new Recorder()
  const listener = await tcp.listen(parseEndpoint('tcp://localhost:0'), {}, sink)
  const { port } = listener.endpoint
  assert.is(String(listener.endpoint), `tcp://localhost:${port}`)
  const four = await rawConnect({ host: '127.0.0.1', port: port as number })
  const six = await rawConnect({ host: '::1', port: port as number })
  await sink.until(() => sink.peers.length === 2)
  assert.equal(sink.peers.map(({ link }) => String(link.local)).sort(), [
    `tcp://127.0.0.1:${port}`,
    `tcp://[::1]:${port}`,
  ])
  await close(listener, four, six)
})

test('localhost is all or nothing: with one address taken the other is not bound', async () => {
  for (const taken of ['127.0.0.1', '::1']) {
    const server = net.createServer()
    await new Promise<void>((resolve) => server.listen({ port: 0, host: taken, ipv6Only: true }, resolve))
    const { port } = server.address() as net.AddressInfo
    const error = await failure(
      tcp.listen(new Endpoint({ scheme: 'tcp', host: 'localhost', port }), {}, new Recorder()),
    )
    assert.is(error.code, 'ADDRESS_IN_USE')
    const other = await failure(rawConnect({ host: taken === '::1' ? '127.0.0.1' : '::1', port }))
    assert.is(other.code, 'ECONNREFUSED')
    server.close()
  }
})

test('[::] takes IPv4 as well, unless ipv6Only says not to', async () => {
  const both = await tcp.listen(parseEndpoint('tcp://[::]:0'), {}, new Recorder())
  const raw = await rawConnect({ host: '127.0.0.1', port: both.endpoint.port as number })
  assert.is(String(both.endpoint), `tcp://[::]:${both.endpoint.port}`)
  await close(both, raw)
  const six = await tcp.listen(parseEndpoint('tcp://[::]:0'), { ipv6Only: true }, new Recorder())
  assert.is((await failure(rawConnect({ host: '127.0.0.1', port: six.endpoint.port as number }))).code, 'ECONNREFUSED')
  await close(six)
})

test('bind failures are BindErrors with endpoint, cause and what to do (F18)', async () => {
  const first = await tcp.listen(ANY, {}, new Recorder())
  const inUse = await failure(tcp.listen(first.endpoint, {}, new Recorder()))
  assert.instance(inUse, BindError)
  assert.is(inUse.code, 'ADDRESS_IN_USE')
  assert.is(inUse.fields.endpoint, first.endpoint)
  assert.is((inUse.cause as NodeJS.ErrnoException).code, 'EADDRINUSE')
  assert.match(inUse.message, String(first.endpoint))
  await first.unbind()

  const away = await failure(tcp.listen(parseEndpoint('tcp://192.0.2.1:0'), {}, new Recorder()))
  assert.is(away.code, 'ADDRESS_NOT_AVAILABLE')
  const unknown = await failure(tcp.listen(parseEndpoint('tcp://no-such-host.invalid:0'), {}, new Recorder()))
  assert.is(unknown.code, 'HOST_NOT_FOUND')
})

test('a port that needs a privilege is PERMISSION_DENIED (F18)', async () => {
  if (process.getuid?.() !== 0 || !hasCommand('setpriv')) {
    skip('a port that needs a privilege is PERMISSION_DENIED (F18)', 'needs root and setpriv to become nobody')
    return
  }
  const script = `import('${new URL('../../../dist/transports/tcp.js', import.meta.url)}').then(async ({ tcp }) => {
    const { parseEndpoint } = await import('${new URL('../../../dist/core/endpoint.js', import.meta.url)}')
    await tcp.listen(parseEndpoint('tcp://127.0.0.1:80'), {}, {}).catch((error) => console.log(error.code))
    process.exit()
  })`
  const output = execFileSync('setpriv', [
    '--reuid=65534',
    '--regid=65534',
    '--clear-groups',
    '--bounding-set=-all',
    process.execPath,
    '-e',
    script,
  ])
  assert.is(String(output).trim(), 'PERMISSION_DENIED')
})

test('reusePort is refused where Node ignores it, and shares a port where it does not', async () => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > 22 || (major === 22 && minor >= 12)) {
    const one = await tcp.listen(ANY, { reusePort: true }, new Recorder())
    const other = await tcp.listen(one.endpoint, { reusePort: true }, new Recorder())
    await Promise.all([one.unbind(), other.unbind()])
  } else {
    const error = await failure(tcp.listen(ANY, { reusePort: true }, new Recorder()))
    assert.is(error.code, 'NOT_SUPPORTED')
    assert.match(error.message, '22.12')
  }
})

test('options: defaults, ranges, and the nearest known name', () => {
  assert.equal(validate({}).value, {
    noDelay: true,
    keepAlive: 60_000,
    backlog: 511,
    ipv6Only: false,
    reusePort: false,
  })
  assert.equal((validate({ keepAlive: false, backlog: 1 }).value as { keepAlive: boolean }).keepAlive, false)
  for (const wrong of [{ noDelay: 1 }, { keepAlive: 999 }, { keepAlive: '60s' }, { backlog: 0 }, { backlog: 65_536 }]) {
    assert.is(validate(wrong).issues?.length, 1, JSON.stringify(wrong))
  }
  assert.match(validate({ nodelay: true }).issues?.[0]?.message ?? '', /nearest: `noDelay`/)
  assert.match(validate({ receiveBuffer: 1 }).issues?.[0]?.message ?? '', /unknown option/)
})

test('keep-alive runs on what was accepted, with the delay that was asked for, and nowhere when it is off', async () => {
  if (process.platform !== 'linux')
    return skip(
      'keep-alive runs on what was accepted, with the delay that was asked for, and nowhere when it is off',
      '/proc/net/tcp is Linux only',
    )
  for (const [keepAlive, least, most] of [
    [undefined, 5_000, 6_000],
    [5_000, 300, 500],
    [false, 0, 0],
  ] as const) {
    const sink = new Recorder()
    const listener = await tcp.listen(ANY, keepAlive === undefined ? {} : { keepAlive }, sink)
    const raw = await rawConnect({ host: '127.0.0.1', port: listener.endpoint.port as number })
    await sink.until(() => sink.peers.length === 1)
    // proc(5), /proc/net/tcp: `tr` is 2 while a keep-alive timer runs, `tm->when` its hundredths of a second.
    const port = (listener.endpoint.port as number).toString(16).toUpperCase().padStart(4, '0')
    const line = readFileSync('/proc/net/tcp', 'utf8').match(new RegExp(`0100007F:${port} \\S+ 01 \\S+ (\\d+):(\\S+)`))
    assert.is(line?.[1], keepAlive === false ? '00' : '02', `${keepAlive}`)
    const when = Number.parseInt(line?.[2] as string, 16)
    assert.ok(when >= least && when <= most, `${keepAlive}: ${when}`)
    await close(listener, raw)
  }
})

test('a pause holds newcomers unread, resume serves 10 of 10 (F22)', async () => {
  const sink = new Recorder()
  sink.onData = ({ link }, chunk) => void link.write(chunk)
  const listener = await tcp.listen(ANY, {}, sink)
  listener.pause()
  const raws = await Promise.all(Array.from({ length: 10 }, () => rawConnect(listener.endpoint)))
  for (const [i, { socket }] of raws.entries()) socket.write(`<${i}>`)
  await nextTurn(20)
  assert.is(sink.peers.length, 0)
  listener.resume()
  assert.is(sink.peers.length, 0, 'not from within resume')
  await Promise.all(raws.map((raw, i) => raw.until(`<${i}>`)))
  assert.is(sink.peers.length, 10)
  await close(listener, ...raws)
})

test('in a pause no more than the backlog is held; the rest is reset and told', async () => {
  const sink = new Recorder()
  const listener = await tcp.listen(ANY, { backlog: 3 }, sink)
  listener.pause()
  const raws: Raw[] = []
  for (let i = 0; i < 8; i++) raws.push(await rawConnect(listener.endpoint).catch(() => undefined as never))
  const refused = raws.slice(3)
  await Promise.all(refused.map((raw) => raw?.closed))
  assert.ok(refused.every((raw) => raw === undefined || raw.error?.code === 'ECONNRESET'))
  assert.instance(sink.faults[0]?.error, AcceptError)
  assert.is(sink.faults[0]?.error.code, 'ACCEPT_FAILED')
  listener.resume()
  await sink.until(() => sink.peers.length === 3)
  await nextTurn(5)
  assert.is(sink.peers.length, 3)
  await close(listener, ...raws.slice(0, 3))
  const told = sink.faults.reduce((sum, { error }) => sum + Number(error.fields?.count), 0)
  assert.is(told, 5, 'each refusal is counted in a fault')
})

test('unbind opens what the kernel had completed, and frees the address at once', async () => {
  if (process.platform !== 'linux') {
    skip(
      'unbind opens what the kernel had completed, and frees the address at once',
      'only Linux shows its connections in /proc',
    )
    return
  }
  const sink = new Recorder()
  const listener = await tcp.listen(ANY, {}, sink)
  const { port } = listener.endpoint
  // Connected by others while this process does nothing else: they are complete before the loop can accept them.
  const script = `const net = require('net'); let n = 0
    for (let i = 0; i < 50; i++) net.connect(${port}, '127.0.0.1').on('connect', function () {
      this.on('data', () => {}).on('close', () => {}); if (++n === 50) { process.stdout.write('x'); process.stdin.resume() }
    }).on('error', () => {})`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  // Blocks the loop until all 50 are complete, as a busy server would.
  const ours = new RegExp(
    `^\\s*\\d+: 0100007F:${(port as number).toString(16).toUpperCase().padStart(4, '0')} \\w+:\\w+ 01 `,
    'gm',
  )
  const established = () => readFileSync('/proc/net/tcp', 'latin1').match(ours)?.length ?? 0
  while (established() < 50);
  await listener.unbind()
  assert.is(sink.peers.length, 50)
  const again = await tcp.listen(listener.endpoint, {}, new Recorder())
  await again.unbind()
  for (const { link } of sink.peers) link.abort()
  child.kill()
  await new Promise((resolve) => child.once('exit', resolve))
})

test('connect to localhost finds a listener of either family', async () => {
  for (const host of ['127.0.0.1', '::1']) {
    const sink = new Recorder()
    const listener = await tcp.listen(new Endpoint({ scheme: 'tcp', host, port: 0 }), {}, sink)
    const { port } = listener.endpoint
    const client = new Recorder()
    const endpoint = new Endpoint({ scheme: 'tcp', host: 'localhost', port })
    const link = await tcp.connect?.(endpoint, {}, client, new AbortController().signal)
    assert.is(link?.remote?.host, host)
    link?.abort()
    await listener.unbind()
  }
})

test('at 90 % of the descriptors newcomers are refused and told; when some are back they are served (F24)', async () => {
  if (process.platform !== 'linux' || !hasCommand('prlimit')) {
    skip(
      'at 90 % of the descriptors newcomers are refused and told; when some are back they are served (F24)',
      'needs Linux and prlimit',
    )
    return
  }
  const path = fileURLToPath(new URL('./descriptors-child.js', import.meta.url))
  const child = spawn('prlimit', ['--nofile=60:60', process.execPath, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  const waiting = new Set<() => void>()
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    lines.push(...text.split('\n').filter((line) => line !== ''))
    for (const check of waiting) check()
  })
  const line = (start: string) =>
    new Promise<string>((resolve) => {
      const check = () => {
        const found = lines.find((each) => each.startsWith(start))
        if (found !== undefined) resolve(found)
      }
      waiting.add(check)
      check()
    })
  const port = Number((await line('port ')).slice(5))
  const raws: Raw[] = []
  for (let i = 0; i < 70; i++) {
    const raw = await rawConnect({ host: '127.0.0.1', port }).catch(() => undefined)
    if (raw !== undefined) raws.push(raw)
  }
  const fault = JSON.parse((await line('fault ')).slice(6))
  assert.is(fault.code, 'OUT_OF_DESCRIPTORS')
  assert.is(fault.cap, 54)
  // The child asks each time whether it can still open a file: the reserve is there.
  assert.not(lines.some((each) => each.startsWith('unguarded')))
  const live = raws.filter(({ socket }) => !socket.destroyed)
  const first = live[0] as Raw
  first.socket.write('alive?')
  await first.until('alive?')
  for (const { socket } of raws.slice(1)) socket.destroy()
  await line('closed')
  const late = await rawConnect({ host: '127.0.0.1', port })
  late.socket.write('served again')
  await late.until('served again')
  child.kill()
  await new Promise((resolve) => child.once('exit', resolve))
  for (const { socket } of [first, late]) socket.destroy()
})

test.run()
