// time limit: 240 s
/** Every example runs as its head says, answers real clients, and has at most 40 lines of code. */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'ge-'))
const local = ['--listen', 'tcp://127.0.0.1:0']
const example = (name: string, args: readonly string[] = local, env: Record<string, string> = {}) =>
  gaidaros(['serve', '--config', join(root, 'examples', name), ...args], { cwd: folder, env })

async function stop(command: Command): Promise<void> {
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0, command.stderr)
}

/** A program of the system as the peer: what it printed. */
function talk(program: string, args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(program, args)
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
      child.stdin.end()
    })
    child.stdin.on('error', () => {})
    child.on('close', () => resolve(output))
    child.stdin.write(input)
    setTimeout(() => child.kill('SIGKILL'), 8_000).unref()
  })
}

test('each has at most 40 lines of code, a command in its head, and limits, because examples get copied', () => {
  const files = readdirSync(join(root, 'examples'), { recursive: true }) as string[]
  const sources = files.filter((file) => /\.(ts|js)$/.test(file))
  assert.ok(sources.length >= 10)
  for (const file of sources) {
    const source = readFileSync(join(root, 'examples', file), 'utf8')
    const code = source
      .replace(/\/\*[\s\S]*?\*\//g, '')
      .split('\n')
      .filter((line) => line.trim() !== '' && !line.trim().startsWith('//'))
    assert.ok(code.length <= 40, `${file} has ${code.length} lines of code`)
    assert.match(source, /npx gaidaros serve|npm start/, file)
    const beside = join(file, '../gaidaros.config.json')
    const isFolder = file.includes('/') && existsSync(join(root, 'examples', beside))
    const configuration = isFolder ? beside : file
    assert.match(readFileSync(join(root, 'examples', configuration), 'utf8'), /\b(limits|timeouts)"?: \{/, file)
  }
})

test('01 echo', async () => {
  const command = example('01-echo.ts')
  const { default: port } = await command.ready()
  if (!hasTool('ncat')) skip('01 by ncat', 'ncat is not installed')
  else assert.is(await talk('ncat', ['127.0.0.1', String(port)], 'hello\n'), 'hello\n')
  await stop(command)
})

test('02 chat: everybody hears everybody', async () => {
  const command = example('02-chat.ts')
  const { default: port = 0 } = await command.ready()
  const [ada, bob] = [await Peer.open(port), await Peer.open(port)]
  await ada.hears('who are you?')
  await ada.send('Ada\n').hears('hello Ada, 0 others are here')
  await bob.send('Bob\n').hears('hello Bob, 1 others are here')
  await ada.hears('Bob is here')
  bob.send('good morning\n')
  await ada.hears('Bob: good morning')
  bob.leave()
  await ada.hears('Bob has left')
  ada.leave()
  await stop(command)
})

test('03 TLS with client certificates', async () => {
  const command = example('03-tls-client-certificates.ts', ['--listen', 'tls://127.0.0.1:0'])
  const { default: port } = await command.ready()
  const certificates = /certificates of this run: (\S+)/.exec(command.stderr)?.[1] as string
  const args = ['s_client', '-quiet', '-no_ign_eof', '-connect', `127.0.0.1:${port}`]
  const pair = ['-cert', join(certificates, 'alice.pem'), '-key', join(certificates, 'alice.key')]
  assert.is(await talk('openssl', [...args, ...pair], 'hi\n'), 'alice said hi\n')
  assert.is(await talk('openssl', args, 'hi\n'), '')
  await stop(command)
  rmSync(certificates, { recursive: true, force: true })
})

test('04 time over UDP', async () => {
  const command = example('04-udp-time.ts', ['--listen', 'udp://127.0.0.1:0'])
  const { default: port } = await command.ready()
  const client = await connect(`udp://127.0.0.1:${port}`)
  assert.match(await client.request<string>('now'), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
  await client.close()
  await stop(command)
})

test('05 one handler on five transports, with the clients of its instructions', async () => {
  const command = example('05-five-transports.ts', [
    ...['public=tcp', 'secure=tls', 'datagram=udp'].flatMap((one) => {
      const [name, scheme] = one.split('=')
      return ['--set', `listeners.${name}.endpoint=${scheme}://127.0.0.1:0`]
    }),
    '--set',
    `listeners.local.endpoint=unix:${join(folder, 'greeter.sock')}`,
  ])
  const ports = await command.ready()
  assert.match(command.stderr, /talk to it/)
  if (hasTool('ncat')) {
    assert.is(await talk('ncat', ['127.0.0.1', String(ports.public)], 'Ada\n'), 'hello Ada, over tcp\n')
    assert.is(await talk('ncat', ['-u', '-i1', '127.0.0.1', String(ports.datagram)], 'Ada\n'), 'hello Ada, over udp\n')
    assert.is(await talk('ncat', ['-U', join(folder, 'greeter.sock')], 'Ada\n'), 'hello Ada, over unix\n')
  } else skip('05 by ncat', 'ncat is not installed')
  if (hasTool('socat')) {
    assert.is(await talk('socat', ['-t2', '-', `TCP:127.0.0.1:${ports.public}`], 'Bob\n'), 'hello Bob, over tcp\n')
    assert.is(await talk('socat', ['-t1', '-', `UDP:127.0.0.1:${ports.datagram}`], 'Bob\n'), 'hello Bob, over udp\n')
    assert.is(
      await talk('socat', ['-t2', '-', `UNIX-CONNECT:${join(folder, 'greeter.sock')}`], 'Bob\n'),
      'hello Bob, over unix\n',
    )
  } else skip('05 by socat', 'socat is not installed')
  const secure = ['s_client', '-quiet', '-no_ign_eof', '-connect', `127.0.0.1:${ports.secure}`]
  assert.is(await talk('openssl', secure, 'Ada\n'), 'hello Ada, over tls\n')
  await stop(command)
})

test('06 hooks: one reply, then closed', async () => {
  const command = example('06-hooks/gaidaros.config.json')
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  peer.send(' hello \n')
  await peer.over
  assert.is(peer.heard, 'HELLO!\n')
  peer.leave()
  await stop(command)
})

test('07 a transport of one’s own, to a program', async () => {
  const command = example('07-own-transport.ts', [])
  await command.shows('the program heard: hello Ada')
  await stop(command)
})

test('08 middleware of one’s own', async () => {
  const command = example('08-own-middleware.ts')
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.send('3\nx\n').hears('9\nsorry: x is no number\n')
  await command.shows(/"3" took [\d.]+ ms/)
  peer.leave()
  await stop(command)
})

test('09 a codec of one’s own', async () => {
  const command = example('09-own-codec.ts')
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  peer.send(Buffer.from('0102', 'hex')).send('h')
  await peer.send('i').hears('\u0001\u0002hi')
  peer.leave()
  await stop(command)
})

test('10 injection with a database behind it', async () => {
  const notes = join(folder, 'notes.db')
  for (const [line, answer] of [
    ['buy bread', 'noted 1'],
    ['feed the donkey', 'noted 2'],
    ['?', '1 buy bread\n2 feed the donkey'],
  ] as const) {
    const command = example('10-dependency-injection.ts', local, { NOTES: notes })
    const { default: port = 0 } = await command.ready()
    const peer = await Peer.open(port)
    await peer.send(`${line}\n`).hears(`${answer}\n`)
    peer.leave()
    await stop(command)
  }
})

test('40 the fourth stranger is refused, until the limit is raised', async () => {
  const command = example('40-limits.ts')
  const { default: port = 0 } = await command.ready()
  const peers = await Promise.all([1, 2, 3].map(() => Peer.open(port)))
  for (const peer of peers) await peer.echoes('in')
  const fourth = new Peer(port)
  await fourth.over
  await command.shows(/alarm\.raised alarm=connections/)
  const limit = gaidaros(['limit', 'limits.serverConnections=100', '--control', './limits.sock'], { cwd: folder })
  assert.is(await limit.ended, 0, limit.stderr)
  const next = await Peer.open(port)
  await next.echoes('in')
  next.leave()
  for (const peer of [...peers, fourth]) peer.leave()
  await stop(command)
})

test('41 metrics, health and logs', async () => {
  const command = example('41-observability.ts', ['-q', ...local], { METRICS: '0', HEALTH: '0' })
  const { default: port = 0 } = await command.ready()
  const [, metrics = ''] = await command.shows(/"plugin":"metrics","address":"([^"]+)"/)
  const [, health = ''] = await command.shows(/"plugin":"health","address":"([^"]+)"/)
  const peer = await Peer.open(port)
  await peer.send('hello\n').hears('HELLO\n')
  assert.match(await (await fetch(metrics)).text(), /gaidaros_messages_received_total\{.*\} 1\n/)
  assert.match(await (await fetch(`${health}/readyz`)).text(), /^\{"status":"ok"/)
  await command.shows(/"event":"connection.opened"/)
  peer.leave()
  await stop(command)
})

test('32 a handler that computes: inline it keeps everybody waiting, on threads nobody', async () => {
  const command = example(
    '32-cpu-heavy-on-threads.ts',
    ['inline', 'threads', 'echo'].flatMap((name) => ['--set', `listeners.${name}.endpoint=tcp://127.0.0.1:0`]),
  )
  const ports = await command.ready()
  /** Sums first, and behind them an echo: in which order they are answered. */
  const order = async (port = 0) => {
    const [sums, echo] = [await Peer.open(port), await Peer.open(ports.echo ?? 0)]
    const answers: string[] = []
    sums.socket.once('data', () => answers.push('sums'))
    echo.socket.once('data', () => answers.push('echo'))
    await new Promise((resolve) => sums.socket.write('35\n35\n35\n35\n', resolve))
    await echo.send('hi\n').hears('hi\n')
    await eventually(() => sums.heard.split('\n').length === 5, 'all sums', 60_000)
    assert.is(sums.heard, '35 9227465\n'.repeat(4))
    for (const peer of [sums, echo]) peer.leave()
    return answers
  }
  assert.equal(await order(ports.inline), ['sums', 'echo'])
  assert.equal(await order(ports.threads), ['echo', 'sums'])
  await stop(command)
})

test('34 a handler that crashes: its own connection ends, others do not notice', async () => {
  const command = example('34-crash-prone-in-processes.ts')
  const { default: port = 0 } = await command.ready()
  const [bad, good] = [await Peer.open(port), await Peer.open(port)]
  await bad.send('hello\n').hears(': hello\n')
  await good.send('hello\n').hears(': hello\n')
  bad.send('crash\n')
  await bad.over
  await good.send('still here\n').hears(': still here\n')
  const next = await Peer.open(port)
  await next.send('again\n').hears(': again\n')
  for (const peer of [bad, good, next]) peer.leave()
  await stop(command)
})

test('42 a page for operators', async () => {
  const listeners = ['--set', 'listeners.public.endpoint=tcp://127.0.0.1:0']
  const plugin = ['--set', 'plugins=[["gaidaros/plugins/console",{"listen":"tcp://127.0.0.1:0"}]]']
  const unix = ['--set', `listeners.local.endpoint=unix:${join(folder, 'local.sock')}`]
  const command = example('42-console.ts', [...listeners, ...unix, ...plugin])
  const { public: port = 0 } = await command.ready()
  const [, address, token] = await command.shows(/console: (http:\/\/127\.0\.0\.1:\d+\/)#token=(\S+)/)
  const peer = await Peer.open(port)
  await peer.send('Ada\n').hears('hello Ada')
  assert.match(await (await fetch(address as string)).text(), /<title>Gaidaros console/)
  const state = await fetch(`${address}api/state`, { headers: { authorization: `Bearer ${token}` } })
  const { status, list } = (await state.json()) as { status: { listeners: object[] }; list: { total: number } }
  assert.equal([status.listeners.length, list.total], [2, 1])
  peer.leave()
  await stop(command)
})

test('43 a watchman by the control socket', async () => {
  const listeners = ['--set', 'listeners.public.endpoint=tcp://127.0.0.1:0']
  const command = example('43-control.ts', listeners, { SILENT_MS: '400' })
  const { public: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.send('hi\n').hears('HI\n')
  await peer.over
  await command.shows(/watchman: ended \w+/)
  peer.leave()
  await stop(command)
})

test('30 workers answer in turn, and are reloaded', async () => {
  const control = join(folder, 'workers.sock')
  const command = example('30-workers.ts', [...local, '--control', control])
  const { default: port = 0 } = await command.ready()
  const ask = async () => {
    const peer = await Peer.open(port)
    await peer.send('hello\n').hears('hello, says process ')
    await peer.hears('\n')
    peer.leave()
    return /process (\d+) to tcp/.exec(peer.heard)?.[1]
  }
  const before = new Set([await ask(), await ask(), await ask(), await ask()])
  assert.is(before.size, 2)
  const reload = gaidaros(['reload', '--control', control])
  assert.is(await reload.ended, 0, reload.stderr)
  assert.is(before.has(await ask()), false)
  await stop(command)
})

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
