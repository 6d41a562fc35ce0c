// time limit: 180 s
/** The examples of layers, frontends and activation, with the clients their heads name. */
import { spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer as createNet } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gf-'))
const children: ReturnType<typeof spawn>[] = []
test.after(() => {
  for (const child of children) child.kill('SIGKILL')
  killAll()
  rmSync(folder, { recursive: true, force: true })
})
const local = ['--listen', 'tcp://127.0.0.1:0']
const example = (name: string, args: readonly string[] = local) =>
  gaidaros(['serve', '--config', join(root, 'examples', name), ...args], { cwd: folder })

async function stop(command: Command): Promise<void> {
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0, command.stderr)
}

/** A program that says something and prints the answer; it is ended when the answer is there. */
function talk(program: string, args: readonly string[], input: string, answer: RegExp): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(program, args)
    children.push(child)
    let output = ''
    const take = (chunk: Buffer) => {
      output += chunk
      if (answer.test(output)) child.kill()
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.stdin.on('error', () => {})
    child.on('close', () => resolve(output))
    child.stdin.write(input)
    setTimeout(() => child.kill('SIGKILL'), 15_000).unref()
  })
}

async function freePort(): Promise<number> {
  const server = createNet().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

test('21 behind HAProxy, by the configuration beside it', async () => {
  if (!hasTool('haproxy')) return skip('21 behind HAProxy', 'haproxy is not installed')
  const command = example('21-behind-haproxy.ts')
  const { default: port } = await command.ready()
  const front = await freePort()
  const file = join(folder, 'haproxy.cfg')
  const text = readFileSync(join(root, 'examples/21-behind-haproxy.cfg'), 'utf8')
  writeFileSync(
    file,
    text.replace('127.0.0.1:8000', `127.0.0.1:${front}`).replace('127.0.0.1:8080', `127.0.0.1:${port}`),
  )
  children.push(spawn('haproxy', ['-f', file, '-db'], { stdio: 'ignore' }))
  let peer: Peer | undefined
  for (let i = 0; i < 200 && peer === undefined; i++) {
    peer = await Peer.open(front, { localAddress: '127.0.0.9' }).catch(() => undefined)
    if (peer === undefined) await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await peer?.send('hi\n').hears('you are 127.0.0.9, and 127.0.0.1 told me\n')
  peer?.leave()
  await stop(command)
})

test('22 STARTTLS, with openssl', async () => {
  if (!hasTool('openssl')) return skip('22 STARTTLS', 'openssl is not installed')
  const command = example('22-starttls.ts')
  const { default: port } = await command.ready()
  const args = ['s_client', '-quiet', '-starttls', 'smtp', '-connect', `127.0.0.1:${port}`]
  assert.match(await talk('openssl', args, 'NOOP\r\n', /250 TLS/), /^250 TLSv1\.3$/m)
  await stop(command)
})

test('23 one port: curl with and without TLS, redis-cli, lines', async () => {
  const command = example('23-one-port.ts', ['--set', 'listeners.all.endpoint=tcp://127.0.0.1:0'])
  const { all: port = 0 } = await command.ready()
  if (!hasTool('curl')) skip('23 by curl', 'curl is not installed')
  else
    for (const scheme of ['http', 'https']) {
      const { stdout } = await run('curl', ['-sk', '--max-time', '10', `${scheme}://127.0.0.1:${port}/`])
      assert.is(stdout, 'a page\n', scheme)
    }
  if (!hasTool('redis-cli')) skip('23 by redis-cli', 'redis-cli is not installed')
  else assert.is((await run('redis-cli', ['-p', String(port), 'ECHO', 'hello'])).stdout, 'hello\n')
  if (!hasTool('ncat')) skip('23 by ncat', 'ncat is not installed')
  else {
    const secure = await talk('ncat', ['--ssl', '127.0.0.1', String(port)], 'hello\n', /over/)
    assert.is(secure, 'hello, over TLSv1.3\n')
  }
  const peer = await Peer.open(port)
  await peer.send('hello\n').hears('hello, over plain text\n')
  peer.leave()
  const explained = gaidaros(['explain', '--config', join(root, 'examples/23-one-port.ts')], { cwd: folder })
  assert.is(await explained.ended, 0, explained.stderr)
  assert.match(explained.stdout, /layers +tls/)
  assert.match(explained.stdout, /detects +http → .*\n.*detects +resp → Store\n.*detects +line → /)
  await stop(command)
})

test('24 compression', async () => {
  const command = example('24-compression.ts')
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  peer.socket.end(gzipSync('hello\n'))
  await peer.over
  const text = gunzipSync(Buffer.from(peer.heard, 'latin1')).toString()
  assert.is(text, `${Array(1_000).fill('hello').join(' ')}\n`)
  assert.ok(peer.heard.length < 200, `${peer.heard.length} bytes`)
  peer.leave()
  await stop(command)
})

test('29 pcap: tshark reads what was said over TLS', async () => {
  if (!hasTool('tshark') || !hasTool('ncat')) return skip('29 pcap', 'tshark or ncat is not installed')
  const command = example('29-pcap.ts', ['--listen', 'tls://127.0.0.1:0'])
  const { default: port } = await command.ready()
  const said = await talk('ncat', ['--ssl', '127.0.0.1', String(port)], 'hello\n', /day/)
  assert.is(said, 'hello, and good day\n')
  await stop(command)
  const fields = ['-T', 'fields', '-e', 'data.text', '-o', 'data.show_as_text:TRUE']
  const { stdout } = await run('tshark', ['-r', join(folder, 'talk.pcap'), ...fields])
  assert.match(stdout, /hello\S*\n[\s\S]*hello, and good day/)
})

test('31 TLS by name: openssl asks for names and comes again with its session; ALPN chooses', async () => {
  if (!hasTool('openssl') || !hasTool('curl')) return skip('31 TLS by name', 'openssl or curl is not installed')
  const endpoints = ['one', 'two'].flatMap((name) => ['--set', `listeners.${name}.endpoint=tls://127.0.0.1:0`])
  const command = example('31-tls-names.ts', endpoints)
  const { one, two } = await command.ready()
  const ask = (port: number | undefined, ...args: string[]) =>
    talk('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...args], 'hello\n', /hello to/)
  assert.match(await ask(one, '-servername', 'a.wild.test'), /subject=.*wild\.test[\s\S]*hello to a\.wild\.test/)
  assert.match(await ask(one, '-noservername'), /subject=.*localhost[\s\S]*hello to nobody/)
  const { stdout } = await run('curl', ['-sk', '--max-time', '10', `https://127.0.0.1:${one}/`])
  assert.is(stdout, 'a page\n')
  const session = join(folder, 'it.pem')
  assert.match(await ask(one, '-tls1_2', '-sess_out', session), /^New, /m)
  assert.match(await ask(one, '-tls1_2', '-sess_in', session), /^Reused, /m)
  assert.match(await ask(two, '-tls1_2', '-sess_in', session), /^New, /m, 'who may come in there is for it to say')
  await stop(command)
})

test('25 systemd: the first peer starts it, by the folder’s own configuration', async () => {
  if (!hasTool('systemd-socket-activate')) return skip('25 systemd', 'systemd-socket-activate is not installed')
  const home = join(folder, 'greeter')
  cpSync(join(root, 'examples/25-systemd'), home, { recursive: true })
  mkdirSync(join(home, 'node_modules'))
  symlinkSync(root, join(home, 'node_modules/gaidaros'))
  writeFileSync(join(home, 'package.json'), '{ "type": "module" }')
  const port = await freePort()
  const args = [
    '-l',
    `127.0.0.1:${port}`,
    '--fdname=chat',
    process.execPath,
    'node_modules/gaidaros/dist/cli.js',
    'serve',
  ]
  const child = spawn('systemd-socket-activate', args, { cwd: home, stdio: ['ignore', 'ignore', 'pipe'] })
  children.push(child)
  await new Promise<void>((resolve) =>
    child.stderr?.on('data', (chunk) => String(chunk).includes('Listening') && resolve()),
  )
  const peer = await Peer.open(port)
  await peer.send('Ada\n').hears('hello Ada\n')
  peer.leave()
  child.kill('SIGTERM')
  assert.is(await new Promise((resolve) => child.once('exit', resolve)), 0)
  for (const unit of ['gaidaros.socket', 'gaidaros.service']) {
    if (!hasTool('systemd-analyze')) break
    // It reads the units as systemd would; what they name need not be there.
    const { stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', join(home, unit)], { encoding: 'utf8' })
    assert.not.match(stderr, /Unknown (key|section|lvalue)|Failed to parse|Invalid/i, stderr)
  }
})

test('26 attach: pages stay, upgrades become connections', async () => {
  const child = spawn(process.execPath, [join(root, 'examples/26-attach.js')], { env: { ...process.env, PORT: '0' } })
  children.push(child)
  const port = await new Promise<number>((resolve) =>
    child.stdout.on('data', (chunk) => resolve(Number(/listening (\d+)/.exec(String(chunk))?.[1]))),
  )
  const peer = new Peer(port, { host: 'localhost' })
  peer.send('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nhello\n')
  await peer.hears('hello, by upgrade\n')
  const page = await fetch(`http://localhost:${port}/`)
  assert.is(await page.text(), 'a page as ever\n')
  peer.leave()
  child.kill('SIGTERM')
  assert.is(await new Promise((resolve) => child.once('exit', resolve)), 0)
})

test('27 protobuf behind a varint, and what is none', async () => {
  const command = example('27-protobuf.ts')
  const { default: port = 0 } = await command.ready()
  const delimited = (name: string) => {
    const message = new BinaryWriter().tag(1, 2).string(name).tag(7, 0).uint32(5).finish()
    return Buffer.from(new BinaryWriter().uint32(message.length).raw(message).finish())
  }
  const peer = await Peer.open(port)
  const names = ['Ada', 'x'.repeat(300), 'né']
  for (const name of names) peer.send(delimited(name))
  const heard: string[] = []
  await eventually(() => {
    heard.length = 0
    const all = Buffer.from(peer.heard, 'latin1')
    try {
      for (const reader = new BinaryReader(all); reader.pos < reader.len; ) {
        const message = new BinaryReader(reader.bytes())
        assert.equal(message.tag(), [1, 2])
        heard.push(message.string())
      }
    } catch {
      return false
    }
    return heard.length === names.length
  }, 'three answers')
  assert.equal(
    heard,
    names.map((name) => `hello ${name}`),
  )
  const bad = (await Peer.open(port)).send(Buffer.of(2, 0x0a, 0x40))
  await bad.over
  assert.is(bad.heard, '')
  if (hasTool('ncat') && hasTool('xxd')) {
    const shown = spawnSync(
      'sh',
      ['-c', `(printf '\\005\\012\\003Ada'; sleep 0.5) | ncat 127.0.0.1 ${port} | xxd -p`],
      { encoding: 'utf8' },
    )
    assert.is(shown.stdout.trim(), '0b0a0968656c6c6f20416461')
  }
  for (const one of [peer, bad]) one.leave()
  await stop(command)
})

/** A program that ends by itself. */
function run(program: string, args: readonly string[]): Promise<{ stdout: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    let stdout = ''
    child.stdout.on('data', (chunk) => (stdout += chunk))
    child.on('close', () => resolve({ stdout }))
  })
}

test.run()
