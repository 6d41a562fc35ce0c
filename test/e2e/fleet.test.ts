// time limit: 240 s
/** What operators see of several server processes: one page each of metrics, health and the console; taps and kills by worker/id. */
import { execFile } from 'node:child_process'
import { connect } from 'node:net'
import { promisify } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { type ReadFamily, readExposition, total } from '../support/prometheus.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'
import { Folder, Serving } from '../support/workers.js'

const folder = new Folder()
const run = promisify(execFile)
const local = 'tcp://127.0.0.1:0'
let files = 0
const config = (given: object) => folder.write(`${++files}.json`, given)
const handler = folder.write('echo.mjs', 'export default (line) => `${process.pid} ${line}`\n')
test.after(() => {
  killAll()
  folder.remove()
})
if (!hasTool('curl')) skip('pages of operators', 'curl is not installed')

async function curl(url: string): Promise<{ status: number; body: string }> {
  const { stdout } = await run('curl', ['-sS', '--max-time', '20', '-w', '\n%{http_code}', url])
  const at = stdout.lastIndexOf('\n')
  return { status: Number(stdout.slice(at + 1)), body: stdout.slice(0, at) }
}

/** Where a plugin's page is, as the command tells it. */
async function addressOf(serving: Serving, plugin: string): Promise<string> {
  const [, address = ''] = await serving.command.shows(new RegExp(`plugin\\.bound plugin=${plugin} address=(\\S+)`))
  return address
}

const serving = (given: object, ...args: string[]) =>
  Serving.start(folder, ['--config', config({ listen: local, handler, ...given }), ...args])

/** A connection to each of so many workers, by the worker's process. */
async function toEach(port: number, count: number): Promise<Map<number, Peer>> {
  const peers = new Map<number, Peer>()
  for (let i = 0; i < 50 && peers.size < count; i++) {
    const peer = await Peer.open(port)
    await peer.send('who\n').hears(' who\n')
    const pid = Number(peer.heard.split(' ')[0])
    if (peers.has(pid)) peer.leave()
    else peers.set(pid, peer)
  }
  assert.is(peers.size, count)
  return peers
}

type Families = ReadonlyMap<string, ReadFamily>

/** Every series of a counter or histogram. */
function counted(families: Families): Map<string, number> {
  const all = new Map<string, number>()
  for (const { type, series } of families.values())
    if (type !== 'gauge')
      for (const { name, labels, value } of series) all.set(`${name}${JSON.stringify(labels)}`, value)
  return all
}

function assertNothingFell(before: Families, after: Families): void {
  const now = counted(after)
  for (const [series, value] of counted(before))
    assert.ok((now.get(series) ?? -1) >= value, `${series} fell: ${value} to ${now.get(series)}`)
}

test('metrics: one page for all workers, added up; counters never fall, though workers are killed and reloaded', async () => {
  const one = await serving({ workers: 2, plugins: [['gaidaros/plugins/metrics', { port: 0 }]] })
  const address = await addressOf(one, 'metrics')
  const read = async () => readExposition((await curl(address)).body)
  const peers = await toEach(one.port, 2)
  for (const peer of peers.values()) for (let i = 0; i < 10; i++) await peer.send(`${i}\n`).hears(` ${i}\n`)
  const first = await read()
  assert.is(total(first, 'gaidaros_connections_open'), 2)
  assert.ok(total(first, 'gaidaros_messages_received_total') >= 22)
  assert.is(total(first, 'gaidaros_message_duration_seconds'), total(first, 'gaidaros_messages_received_total'))
  assert.is(total(first, 'gaidaros_server_state', { state: 'ready' }), 2)
  assert.is(total(first, 'gaidaros_workers_expected'), 2)
  for (const worker of ['0', '1']) {
    assert.is(total(first, 'gaidaros_worker_up', { worker }), 1)
    assert.is(total(first, 'gaidaros_worker_connections_open', { worker }), 1)
    assert.ok(total(first, 'gaidaros_worker_resident_memory_bytes', { worker }) > 1e7)
  }
  const [victim] = peers.keys()
  process.kill(Number(victim), 'SIGKILL')
  await eventually(() => one.command.stderr.includes('worker.ended'), 'it is gone')
  await one.settles(2)
  const second = await read()
  assertNothingFell(first, second)
  assert.is(total(second, 'gaidaros_workers_lost_total'), 1)
  assert.is(total(second, 'gaidaros_connections_open'), 1)
  const more = await toEach(one.port, 2)
  for (const peer of more.values()) await peer.send('more\n').hears(' more\n')
  const third = await read()
  assertNothingFell(second, third)
  assert.ok(
    total(third, 'gaidaros_messages_received_total') >= total(first, 'gaidaros_messages_received_total') + 4,
    'and goes on',
  )
  for (const peer of [...peers.values(), ...more.values()]) peer.leave()
  assert.is((await one.ask('reload')).ok, true)
  await one.settles(2)
  const fourth = await read()
  assertNothingFell(third, fourth)
  assert.is(total(fourth, 'gaidaros_reloads_total'), 1)
  assert.is(total(fourth, 'gaidaros_connections_open'), 0)
  assert.is(await one.stop(), 0)
  await curl(address).then(
    () => assert.unreachable('it has stopped'),
    () => {},
  )
})

test('health: ready when all workers are, or any where that is asked for; suspended and missing ones are named', async () => {
  const plugins = (workers: string) => [['gaidaros/plugins/health', { port: 0, workers }]]
  const failing = folder.write(
    'failing.mjs',
    `import { existsSync } from 'node:fs'
if (existsSync(process.env.FAIL)) process.exit(3)
export default (line) => \`\${process.pid} \${line}\`\n`,
  )
  for (const wanted of ['all', 'any']) {
    const mark = folder.at(`fail-${wanted}`)
    const given = { listen: local, handler: failing, workers: 2, plugins: plugins(wanted) }
    const one = await Serving.start(folder, ['--config', config(given)], { env: { FAIL: mark } })
    const address = await addressOf(one, 'health')
    const ready = () => curl(`${address}/readyz`)
    assert.is((await ready()).status, 200)
    assert.is((await curl(`${address}/livez`)).status, 200)
    await one.ask('suspend')
    const suspended = await ready()
    assert.is(suspended.status, 503)
    assert.match(suspended.body, /worker [01]: listener default is suspended/)
    await one.ask('resume')
    assert.is((await ready()).status, 200)
    // One of them goes, and nobody can take its place.
    folder.write(`fail-${wanted}`, '')
    const [pid] = await one.pids()
    process.kill(Number(pid), 'SIGKILL')
    await one.command.shows(/worker\.ended worker=\d pid=\d+ generation=1 reason=SIGKILL/)
    const missing = await ready()
    assert.is(missing.status, wanted === 'all' ? 503 : 200, missing.body)
    if (wanted === 'all')
      assert.match(missing.body, /1 of 2 workers have not started|worker \d: it is (loading|starting)/)
    assert.is((await curl(`${address}/livez`)).status, 200)
    one.command.child.kill('SIGKILL')
  }
})

void connect
void gaidaros
test.run()
