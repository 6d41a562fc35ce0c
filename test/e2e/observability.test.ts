// time limit: 120 s
/** What operators see: metrics as Prometheus reads them, health through a drain, logs that survive a full disk; with curl. */
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { connect, createServer, type ServerOptions } from 'gaidaros'
import { exposition, mergeSnapshots, snapshotOf } from 'gaidaros/plugins/metrics'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { readExposition, total } from '../support/prometheus.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'go-'))
const running: { stop(options?: object): Promise<void> }[] = []
const run = promisify(execFile)

/** A page as curl gets it: status and body. */
async function curl(url: string, ...args: string[]): Promise<{ status: number; body: string }> {
  const { stdout } = await run('curl', ['-sS', '--max-time', '10', '-w', '\n%{http_code}', ...args, url])
  const at = stdout.lastIndexOf('\n')
  return { status: Number(stdout.slice(at + 1)), body: stdout.slice(0, at) }
}

async function serve(options: ServerOptions) {
  const place = options.listeners === undefined ? { listen: 'tcp://127.0.0.1:0' } : {}
  const server = await createServer({ config: false, ...place, ...options })
  running.push(server)
  const addresses: Record<string, string> = {}
  server.on('plugin.bound', ({ plugin, address }) => (addresses[plugin] = address))
  await server.start()
  const listener = [...server.listeners][0]
  return { server, addresses, port: listener?.endpoint.port ?? 0, endpoint: `${listener?.endpoint}` }
}

const metrics = ['gaidaros/plugins/metrics', { port: 0 }] as const
const read = async (address: string | undefined) => readExposition((await curl(String(address))).body)

test('metrics: what happened is what is told, and promtool finds nothing to say', async () => {
  if (!hasTool('curl')) return skip('metrics', 'curl is not installed')
  const { server, addresses, endpoint, port } = await serve({
    plugins: [metrics],
    limits: { connections: 3, memoryBytes: 1e8, lineBytes: 100 },
    executor: { type: 'thread-pool', size: 2 },
    handler: `${join(root, 'build/fixtures/traced-handler.js')}#traced`,
  })
  const client = await connect(endpoint)
  for (let i = 0; i < 7; i++) await client.request('hello')
  const second = await Peer.open(port)
  second.send('x'.repeat(200))
  await second.over
  second.leave()
  await eventually(() => server.connections.size === 1, 'it has left')
  const [third, fourth] = [await Peer.open(port), await Peer.open(port)]
  await eventually(() => server.connections.size === 3, 'three are in')
  const fifth = new Peer(port)
  await fifth.over
  const { status, body } = await curl(String(addresses.metrics))
  assert.is(status, 200)
  const families = readExposition(body)
  const here = { listener: 'default', transport: 'tcp' }
  assert.is(total(families, 'gaidaros_connections_accepted_total', here), 5)
  assert.is(total(families, 'gaidaros_connections_open', here), 3)
  assert.is(total(families, 'gaidaros_connections_limit', { listener: 'default' }), 3)
  assert.is(total(families, 'gaidaros_connections_refused_total', { listener: 'default', reason: 'connections' }), 1)
  assert.is(total(families, 'gaidaros_connections_closed_total', { code: 'TOO_LARGE', by: 'server' }), 1)
  assert.is(total(families, 'gaidaros_frames_refused_total', { code: 'TOO_LARGE' }), 1)
  assert.is(total(families, 'gaidaros_messages_received_total', here), 7)
  assert.is(total(families, 'gaidaros_messages_sent_total', here), 7)
  assert.is(total(families, 'gaidaros_message_duration_seconds', { listener: 'default' }), 7)
  assert.is(total(families, 'gaidaros_received_bytes_total', here), 7 * 6 + 200)
  assert.is(total(families, 'gaidaros_connection_duration_seconds'), 1)
  assert.is(total(families, 'gaidaros_executor_places', { executor: 'thread-pool', state: 'ready' }), 2)
  assert.is(total(families, 'gaidaros_server_state', { state: 'ready' }), 1)
  assert.is(total(families, 'gaidaros_alarms', { alarm: 'connections', listener: 'default' }), 1)
  assert.is(total(families, 'gaidaros_memory_limit_bytes'), 1e8)
  assert.ok(total(families, 'process_resident_memory_bytes') > 1e7)
  assert.ok(total(families, 'process_cpu_seconds_total') > 0)
  await eventually(
    () => total(readExposition(exposition(snapshotOf(server)!)), 'gaidaros_event_loop_delay_seconds') > 0,
    'the loop was asked',
  )
  for (const peer of [third, fourth, fifth]) peer.leave()
  await client.close()
  await eventually(() => server.connections.size === 0, 'all have left')
  const after = await read(addresses.metrics)
  for (const name of ['gaidaros_received_bytes_total', 'gaidaros_messages_received_total', 'gaidaros_sent_bytes_total'])
    assert.is(total(after, name), total(families, name), name)
  assert.is(total(after, 'gaidaros_connections_open'), 0)
  assert.is(total(after, 'gaidaros_connection_duration_seconds'), 4)
  if (!hasTool('promtool')) return skip('promtool', 'promtool (Debian: prometheus) is not installed')
  const checked = spawnSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' })
  assert.is(`${checked.stdout}${checked.stderr}`, '')
  assert.is(checked.status, 0)
})

test('metrics: TLS handshakes, those that resumed a session and those that failed', async () => {
  const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
  const { addresses, port } = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: { cert: pems.cert, key: pems.private },
    plugins: [metrics],
    handler: (line: string) => line,
  })
  const talk = async (session?: Buffer): Promise<Buffer> => {
    const socket: TLSSocket = connectTls({
      port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...(session ? { session } : {}),
    })
    const ticket = new Promise<Buffer>((resolve) => socket.once('session', resolve))
    socket.write('hello\n')
    await new Promise((resolve) => socket.once('data', resolve))
    // A session that is taken up brings no new ticket.
    const given = session ?? (await ticket)
    socket.end()
    return given
  }
  await talk(await talk())
  const broken = new Peer(port).send('GET / HTTP/1.0\r\n\r\n')
  await broken.over
  broken.leave()
  const families = await read(addresses.metrics)
  assert.is(total(families, 'gaidaros_tls_handshakes_total', { protocol: 'TLSv1.3', resumed: 'false' }), 1)
  assert.is(total(families, 'gaidaros_tls_handshakes_total', { resumed: 'true' }), 1)
  assert.is(
    total(families, 'gaidaros_tls_handshake_failures_total', { listener: 'default', code: 'HANDSHAKE_FAILED' }),
    1,
  )
})

test('metrics: snapshots of workers add up, and each says whose it is', async () => {
  const one = await serve({
    plugins: [['gaidaros/plugins/metrics', { listen: false, worker: '1' }]],
    handler: (line: string) => line,
  })
  const two = await serve({
    plugins: [['gaidaros/plugins/metrics', { listen: false, worker: '2' }]],
    handler: (line: string) => line,
  })
  for (const { endpoint } of [one, two, two]) {
    const client = await connect(endpoint)
    await client.request('hi')
    await client.close()
  }
  const snapshots = [one, two].map(({ server }) => snapshotOf(server)!)
  assert.equal(
    snapshots.map(({ worker }) => worker),
    ['1', '2'],
  )
  assert.is(total(readExposition(exposition(snapshots[1]!)), 'gaidaros_messages_received_total', { worker: '2' }), 2)
  // As they would come over a wire.
  const sum = mergeSnapshots(JSON.parse(JSON.stringify(snapshots)))
  assert.is(sum.workers, 2)
  const families = readExposition(exposition(sum))
  assert.is(total(families, 'gaidaros_messages_received_total', { listener: 'default' }), 3)
  assert.is(total(families, 'gaidaros_message_duration_seconds'), 3)
  assert.is(one.addresses.metrics, undefined)
  assert.is(snapshotOf({}), undefined)
})

test('pages of operators: loopback unless spelled, no name but ours, a token where one is given', async () => {
  const start = (options: object) =>
    createServer({ config: false, listen: 'memory:x', plugins: [['gaidaros/plugins/metrics', options]] })
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.org'])
    await start({ host }).then(
      () => assert.unreachable(host),
      (error) => assert.match((error as Error).message, /can be reached by others; say "public": true/),
    )
  for (const options of [{ hots: 'x' }, { port: 70_000 }, { buckets: [2, 1] }, { path: 'metrics' }])
    await start(options).then(
      () => assert.unreachable(JSON.stringify(options)),
      (error) => assert.match((error as Error).message, /plugin `metrics`/),
    )
  const { addresses } = await serve({ plugins: [['gaidaros/plugins/metrics', { port: 0, token: 'open sesame' }]] })
  const url = String(addresses.metrics)
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
  assert.is((await curl(url)).status, 401)
  assert.is((await curl(url, '-H', 'Authorization: Bearer open sesamo')).status, 401)
  const token = ['-H', 'Authorization: Bearer open sesame'] as const
  assert.is((await curl(url, ...token)).status, 200)
  assert.is((await curl(url, ...token, '-H', 'Host: evil.example:9464')).status, 403)
  assert.is((await curl(url, ...token, '-H', 'Host: localhost:9464')).status, 200)
  assert.is((await curl(url, ...token, '-X', 'POST')).status, 405)
  assert.is((await curl(url.replace('/metrics', '/'), ...token)).status, 404)
  assert.equal(await curl(url, ...token, '-I').then(({ status }) => status), 200)
  // The address is taken: nothing stays bound.
  const port = Number(new URL(url).port)
  const server = await createServer({
    config: false,
    listen: 'tcp://127.0.0.1:0',
    plugins: [['gaidaros/plugins/metrics', { port }]],
  })
  await server.start().then(
    () => assert.unreachable(),
    (error) => {
      assert.is(error.code, 'ADDRESS_IN_USE')
      assert.match(error.message, new RegExp(`plugin metrics: cannot listen on 127.0.0.1:${port}`))
    },
  )
  assert.is(server.state, 'stopped')
})

test('health: live always; ready only while it serves, with no alarm and nothing suspended', async () => {
  let finish = (_: string) => {}
  const { server, addresses, port } = await serve({
    plugins: [['gaidaros/plugins/health', { port: 0 }]],
    limits: { connections: 2, alarmCoolDownMs: 50 },
    handler: () => new Promise<string>((resolve) => (finish = resolve)),
  })
  const ready = () => curl(`${addresses.health}/readyz`)
  assert.is((await ready()).status, 200)
  assert.is((await curl(`${addresses.health}/livez`)).status, 200)
  const [listener] = server.listeners
  listener?.suspend()
  const suspended = await ready()
  assert.is(suspended.status, 503)
  assert.equal(JSON.parse(suspended.body).reasons, ['listener default is suspended'])
  listener?.resume()
  assert.is((await ready()).status, 200)
  const peers = [await Peer.open(port), await Peer.open(port)]
  await eventually(() => server.connections.size === 2, 'two are in')
  const full = await ready()
  assert.is(full.status, 503)
  assert.equal(JSON.parse(full.body).reasons, ['alarm: connections (default)'])
  peers[1]?.leave()
  await eventually(() => server.alarms.length === 0, 'the alarm is over')
  assert.is((await ready()).status, 200)
  peers[0]?.send('work\n')
  await eventually(() => ([...server.connections][0]?.stats.messagesIn ?? 0) === 1, 'it is at work')
  const stopped = server.stop()
  const draining = await ready()
  assert.is(draining.status, 503)
  assert.is(JSON.parse(draining.body).state, 'draining')
  assert.is((await curl(`${addresses.health}/livez`)).status, 200)
  finish('done')
  await stopped
  await curl(`${addresses.health}/livez`).then(
    () => assert.unreachable('it has stopped'),
    () => {},
  )
  peers[0]?.leave()
})

test('events reach node:diagnostics_channel, as Node’s own tools listen', async () => {
  const seen: string[] = []
  const names = ['gaidaros.connection.opened', 'gaidaros.connection.closed', 'gaidaros.alarm.raised']
  const listener = (event: unknown, name: string | symbol) => {
    const { connection, listener: own = connection?.listener } = event as {
      connection?: { listener: string }
      listener?: string
    }
    // Channels are the process's: other servers of this file tell on them as well.
    if (own === 'told') seen.push(`${String(name)} ${Object.keys(event as object).join(',')}`)
  }
  for (const name of names) subscribe(name, listener)
  const { server, endpoint } = await serve({
    listeners: { told: { endpoint: 'tcp://127.0.0.1:0', handler: (line: string) => line, limits: { connections: 1 } } },
  })
  const client = await connect(endpoint)
  await client.request('hi')
  await client.close()
  await eventually(() => server.connections.size === 0, 'it has left')
  for (const name of names) unsubscribe(name, listener)
  assert.equal(seen, [
    'gaidaros.alarm.raised alarm,listener,since,value,limit',
    'gaidaros.connection.opened connection',
    'gaidaros.connection.closed connection,reason',
  ])
})

const configuration = (plugins: unknown, more: object = {}) => {
  const file = join(folder, `${Math.random().toString(36).slice(2)}.json`)
  writeFileSync(file, JSON.stringify({ listen: 'tcp://127.0.0.1:0', plugins, ...more }))
  return file
}

test('by a configuration file: metrics, health and logs of a process, one JSON line each', async () => {
  const plugins = [['gaidaros/plugins/logger', { level: 'debug' }], metrics, ['gaidaros/plugins/health', { port: 0 }]]
  const command = gaidaros(['serve', '-q', '--config', configuration(plugins)])
  const { default: port = 0 } = await command.ready()
  const lines = () =>
    command.stderr
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, string | number>)
  await eventually(() => lines().filter(({ event }) => event === 'plugin.bound').length === 2, 'both are bound')
  const addressOf = (name: string) =>
    String(lines().find(({ event, plugin }) => event === 'plugin.bound' && plugin === name)?.address)
  const peer = await Peer.open(port)
  await peer.echoes('hello')
  assert.is(total(await read(addressOf('metrics')), 'gaidaros_messages_received_total'), 1)
  assert.is((await curl(`${addressOf('health')}/readyz`)).status, 200)
  peer.leave()
  await eventually(() => lines().some(({ event }) => event === 'connection.closed'), 'the close is logged')
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
  for (const line of command.stderr.split('\n').filter(Boolean))
    assert.ok(Buffer.byteLength(line) < 1_024 && line.startsWith('{'), line)
  assert.ok(
    lines().every(
      ({ level, time, pid }) => Number(level) > 0 && !Number.isNaN(Date.parse(String(time))) && pid === command.pid,
    ),
  )
})

test('logs whose place is full or gone cost lines, not the service (F86)', async () => {
  const file = configuration([['gaidaros/plugins/logger', { level: 'debug', file: '/dev/full' }]])
  for (const shell of ['exec "$0" "$@"', 'exec "$0" "$@" 2>/dev/full']) {
    const command = gaidaros(['serve', '-q', '--config', file], { shell })
    const { default: port = 0 } = await command.ready()
    for (let i = 0; i < 20; i++) {
      const peer = await Peer.open(port)
      await peer.echoes(`still ${i}`)
      peer.leave()
    }
    command.child.kill('SIGTERM')
    assert.is(await command.ended, 0, command.stderr)
  }
})

test('a package that is not installed is an error that says what to install', () => {
  // A copy of the package without its optional peers beside it.
  const script = `
    import { createServer } from '${join(root, 'dist/index.js')}'
    import Module from 'node:module'
    const load = Module._load
    Module._load = (name, ...rest) => {
      if (name === 'pino' || name === '@opentelemetry/api')
        throw Object.assign(new Error("Cannot find module '" + name + "'"), { code: 'MODULE_NOT_FOUND' })
      return load(name, ...rest)
    }
    for (const plugin of ['logger', 'tracing'])
      await createServer({ config: false, listen: 'memory:x', plugins: ['gaidaros/plugins/' + plugin] }).catch((error) => console.log(error.message))`
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd: root, encoding: 'utf8' })
  assert.match(out, /plugin logger needs the package pino, which is not installed; run: npm install pino/)
  assert.match(out, /plugin tracing needs the package @opentelemetry\/api, .* npm install @opentelemetry\/api/)
})

test('what is not named is not loaded', () => {
  const script = `
    import { createServer } from 'gaidaros'
    const server = await createServer({ config: false, listen: 'tcp://127.0.0.1:0', handler: (line) => line })
    await server.start()
    await server.stop()
    console.log(Object.keys(process.memoryUsage()).length, process._getActiveHandles().length)`
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, NODE_DEBUG: 'esm,module' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  assert.ok(out.length > 0)
  const traced = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, NODE_DEBUG: 'esm,module' },
  })
  assert.not.match(traced.stderr, /plugins\/observability/)
  assert.not.match(traced.stderr, /opentelemetry|\/pino\//)
})

test('the example dashboard asks for nothing that is not there', async () => {
  const { addresses, endpoint } = await serve({
    plugins: [metrics],
    handler: (line: string) => line,
    limits: { memoryBytes: 1e8 },
  })
  const client = await connect(endpoint)
  await client.request('hi')
  await client.close()
  const known = new Set((await read(addresses.metrics)).keys())
  // Families without a sample yet are not written; their names stand in the source.
  const source = readFileSync(join(root, 'src/plugins/observability/metrics.ts'), 'utf8')
  for (const [, name] of source.matchAll(/'((?:gaidaros|process|nodejs)_[a-z_]+)'/g)) known.add(name as string)
  const dashboard = JSON.parse(readFileSync(join(root, 'docs/grafana-dashboard.json'), 'utf8'))
  const queries: string[] = dashboard.panels.flatMap(({ targets = [] }: { targets?: { expr: string }[] }) =>
    targets.map(({ expr }) => expr),
  )
  assert.ok(queries.length >= 12)
  const asked = new Set(queries.flatMap((expr) => expr.match(/\b(?:gaidaros|process|nodejs)_[a-z_]+/g) ?? []))
  for (const name of asked) assert.ok(known.has(name.replace(/_(bucket|sum|count)$/, '')), `${name} is not there`)
  assert.ok(asked.size >= 12)
  if (!hasTool('promtool')) return skip('promtool', 'promtool (Debian: prometheus) is not installed')
  const rules = join(folder, 'rules.yml')
  const expressions = queries.map((expr) => expr.replaceAll('$__rate_interval', '1m').replaceAll('$listener', '.*'))
  const body = expressions.map((expr, i) => `      - record: r${i}\n        expr: ${JSON.stringify(expr)}`).join('\n')
  writeFileSync(rules, `groups:\n  - name: dashboard\n    rules:\n${body}\n`)
  const checked = spawnSync('promtool', ['check', 'rules', rules], { encoding: 'utf8' })
  assert.is(checked.status, 0, checked.stdout + checked.stderr)
})

test.after(async () => {
  killAll()
  for (const server of running) await server.stop({ timeoutMs: 0 })
  rmSync(folder, { recursive: true, force: true })
})
test.run()
