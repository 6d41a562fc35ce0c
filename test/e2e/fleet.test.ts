// time limit: 300 s
/** What operators see of several server processes: one page each of metrics, health and the console; taps and kills by worker/id. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Browser } from '../support/browser.js'
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

/** As `eventually`, of what has to be asked for. */
async function until(isSo: () => Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + 20_000
  while (!(await isSo())) if (performance.now() > end) throw new Error(`${what}: not so`)
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

test('tap, kill and limit reach the right worker by worker/id; a worker that dies ends its taps', async () => {
  const one = await serving({ workers: 2 })
  const peers = await toEach(one.port, 2)
  const { result } = await one.ask<{ connections: { id: string }[] }>('connections')
  const ids = result.connections.map(({ id }) => id)
  assert.equal(ids.map((id) => id.split('/')[0]).sort(), ['0', '1'])
  // Two workers' connections may have the same id: only the worker tells them apart.
  const taps = ids.map((id) => gaidaros(['tap', id, '--control', one.control], { limitMs: 60_000 }))
  for (const tap of taps) await tap.shows(/tapping/)
  const [first, second] = [...peers.values()] as [Peer, Peer]
  first.send('from the first\n')
  second.send('from the second\n')
  const said = (text: string) => taps.findIndex(({ stdout }) => stdout.includes(text))
  await eventually(() => said('from the first') >= 0 && said('from the second') >= 0, 'both are heard')
  assert.not.equal(said('from the first'), said('from the second'))
  for (const [i, id] of ids.entries()) assert.match(String(taps[i]?.stdout), new RegExp(`"tap":"${id}"`))

  const at = said('from the first')
  const killed = await one.ask<{ killed: number; connections: string[] }>('kill', {
    connection: ids[at],
    reason: 'test',
  })
  assert.equal(killed.result, { killed: 1, connections: [ids[at]] })
  await first.over
  assert.is(await taps[at]?.ended, 0)
  assert.match(String(taps[at]?.stdout), /"closed":\{"code":"KILLED"/)
  assert.match(String((await one.ask('kill', { connection: '1' })).error), /expected WORKER\/ID/)
  assert.match(String((await one.ask('kill', { connection: '9/1' })).error), /no worker 9/)

  const other = said('from the second')
  const { workers } = await one.status()
  const owner = workers.find(({ name }) => name === ids[other]?.split('/')[0])
  process.kill(Number(owner?.pid), 'SIGKILL')
  assert.is(await taps[other]?.ended, 0)
  assert.match(String(taps[other]?.stdout), /"closed":\{"code":"WORKER_ENDED"/)
  first.leave()
  second.leave()
  await one.settles(2)

  // A limit holds for whoever takes a worker's place, too.
  assert.is((await one.ask('limit', { path: 'limits.connections', value: 7 })).ok, true)
  const [pid] = await one.pids()
  process.kill(Number(pid), 'SIGKILL')
  await until(async () => !(await one.pids()).includes(Number(pid)), 'it is gone')
  await one.settles(2)
  await until(async () => (await one.status()).listeners[0]?.limit === 14, 'both have it')
  assert.is(await one.stop(), 0)
})

test('a worker that does not answer is said so, and not waited for', async () => {
  const stuck = folder.write(
    'stuck.mjs',
    'export default (line) => { if (line === "hang") for (;;); return `${process.pid} ${line}` }\n',
  )
  const plugins = [
    ['gaidaros/plugins/metrics', { port: 0 }],
    ['gaidaros/plugins/health', { port: 0 }],
  ]
  const one = await serving({ handler: stuck, workers: { count: 2, stuckMs: 60_000 }, plugins })
  const [metrics, health] = [await addressOf(one, 'metrics'), await addressOf(one, 'health')]
  const peers = await toEach(one.port, 2)
  const before = readExposition((await curl(metrics)).body)
  const [[pid, peer]] = [...peers] as [[number, Peer]]
  peer.send('hang\n')
  await until(async () => {
    const { workers } = await one.status()
    return workers.some((worker) => worker.pid === pid && (worker as { isSilent?: true }).isSilent === true)
  }, 'it is said')
  const after = readExposition((await curl(metrics)).body)
  assertNothingFell(before, after)
  assert.is(total(after, 'gaidaros_worker_up'), 1)
  const ready = await curl(`${health}/readyz`)
  assert.is(ready.status, 503)
  assert.match(ready.body, /worker \d: it has not answered/)
  assert.match(
    String((await one.ask('limit', { path: 'limits.connections', value: 9 })).error),
    /not answered by worker/,
  )
  process.kill(pid, 'SIGKILL')
  await one.settles(2)
  for (const each of peers.values()) each.leave()
  assert.is(await one.stop(), 0)
})

test('a server of one process keeps its pages and figures when a reload makes it a supervisor', async () => {
  const file = config({})
  const write = (plugins: unknown) =>
    folder.write(file.slice(folder.path.length + 1), { listen: local, handler, plugins })
  const metrics = ['gaidaros/plugins/metrics', { port: 0 }]
  write([metrics])
  const one = await Serving.start(folder, ['--config', file])
  const address = await addressOf(one, 'metrics')
  const peer = await Peer.open(one.port)
  for (let i = 0; i < 5; i++) await peer.send(`${i}\n`).hears(` ${i}\n`)
  const before = readExposition((await curl(address)).body)
  assert.is(total(before, 'gaidaros_messages_received_total'), 5)
  assert.is(before.has('gaidaros_worker_up'), false)
  peer.leave()
  assert.is((await one.ask('reload')).ok, true)
  const after = readExposition((await curl(address)).body)
  assertNothingFell(before, after)
  assert.is(total(after, 'gaidaros_worker_up', { worker: '0' }), 1)
  // What is configured otherwise begins anew; what is left out ends.
  write([metrics, ['gaidaros/plugins/health', { port: 0 }]])
  assert.is((await one.ask('reload')).ok, true)
  const health = await addressOf(one, 'health')
  assert.is((await curl(`${health}/readyz`)).status, 200)
  write([])
  assert.is((await one.ask('reload')).ok, true)
  await curl(`${health}/livez`).then(
    () => assert.unreachable('it is not configured any more'),
    () => {},
  )
  assert.is(await one.stop(), 0)
})

/** Peers that ask again and again, each the next thing when it has been answered; who is cut comes back. */
class Talk {
  answered = 0
  #isOver = false
  readonly #peers = new Set<Peer>()
  readonly #running: Promise<void>[] = []
  readonly #port: number

  constructor(port: number, count: number) {
    this.#port = port
    for (let i = 0; i < count; i++) this.#running.push(this.#talk())
  }
  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#running)
  }
  /** All of them hang up, and call again: after a reload nobody else ends their conversations. */
  again(): void {
    for (const peer of this.#peers) peer.leave()
  }
  async #talk(): Promise<void> {
    while (!this.#isOver) {
      const peer = await Peer.open(this.#port).catch(() => undefined)
      if (peer === undefined) continue
      this.#peers.add(peer)
      while (!this.#isOver && !peer.isOver) {
        peer.heard = ''
        const isAnswered = await peer.send('again\n').hears('\n').then(() => true, () => false) // biome-ignore format: one call
        if (isAnswered) this.answered++
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      peer.leave()
      this.#peers.delete(peer)
    }
  }
}

test('what listeners have carried never falls nor leaps: workers killed, silent, reloaded', async () => {
  const one = await serving({ workers: { count: 2, stuckMs: 60_000, heartbeatMs: 200 } })
  const talk = new Talk(one.port, 8)
  interface Listener {
    readonly traffic: { readonly messagesIn: number }
    readonly latency?: readonly (readonly [number, number])[]
  }
  let last = 0
  const look = async () => {
    const before = talk.answered
    const { result } = await one.ask<{ listeners: readonly Listener[] }>('status', { watch: true })
    const [{ traffic, latency = [] }] = result.listeners as readonly [Listener]
    const measured = latency.reduce((sum, [, count]) => sum + count, 0)
    assert.ok(traffic.messagesIn >= last, `it fell from ${last} to ${traffic.messagesIn}`)
    assert.ok(measured <= traffic.messagesIn, `${measured} were measured of ${traffic.messagesIn}`)
    last = traffic.messagesIn
    return { before, last }
  }
  for (let i = 0; i < 5; i++) await look()
  const [stopped] = (await one.pids()) as [number]
  process.kill(stopped, 'SIGSTOP')
  await until(async () => {
    await look()
    return (await one.status()).workers.some((worker) => (worker as { isSilent?: true }).isSilent === true)
  }, 'it is silent')
  process.kill(stopped, 'SIGCONT')
  await until(async () => {
    await look()
    return !(await one.status()).workers.some((worker) => (worker as { isSilent?: true }).isSilent === true)
  }, 'it speaks again')
  const reloading = one.ask('reload')
  let isReloaded = false
  reloading.then(() => {
    isReloaded = true
  })
  while (!isReloaded) await look()
  assert.is((await reloading).ok, true)
  talk.again()
  await one.settles(2)
  // Those that drained have said their last word: nothing that was answered is missing.
  const drained = await look()
  assert.ok(drained.last >= drained.before, `${drained.before} were answered, ${drained.last} are counted`)
  const [victim] = (await one.pids()) as [number]
  process.kill(victim, 'SIGKILL')
  await until(async () => {
    await look()
    return !(await one.pids()).includes(victim)
  }, 'it is gone')
  await one.settles(2)
  await look()
  await talk.stop()
  assert.is(await one.stop(), 0)
})

test('the console shows, filters and steers all workers, and goes on through a rolling reload', async () => {
  if (!hasTool('chromium')) return skip('console of workers in a browser', 'chromium is not installed')
  const one = await serving({ workers: 2, plugins: [['gaidaros/plugins/console', { listen: local }]] })
  const [, url = ''] = await one.command.shows(/console: (http:\/\/127\.0\.0\.1:\d+\/#token=\S{32})/)
  const peers = await toEach(one.port, 2)
  const browser = await Browser.start()
  let talk: Talk | undefined
  try {
    const page = await browser.open(url)
    const rows = (count: number) => page.until(`document.querySelectorAll('#connections .kill').length === ${count}`)
    const text = (of: string) => page.get<string>(`document.querySelector('${of}').textContent`)
    const filter = async (words: string) => {
      await page.get(`(filter.focus(), (filter.value = ''), void filter.dispatchEvent(new Event('input')))`)
      if (words !== '') await page.type(words)
    }
    await page.until(`document.body.dataset.state === 'live'`)
    await page.get(`void (window.states = new Set(), new MutationObserver(() => states.add(document.body.dataset.state)).observe(document.body, { attributes: true }))`) // biome-ignore format: one expression
    await rows(2)
    const list = await text('#connections tbody')
    assert.match(list, /0\/\w+/)
    assert.match(list, /1\/\w+/)
    assert.match(await page.get('document.body.innerText'), /worker 0[\s\S]*worker 1/)

    // By the worker, by the id as it is shown, by the address.
    const { result } = await one.ask<{ connections: { id: string; remote: string }[] }>('connections')
    for (const { id, remote } of result.connections) {
      for (const words of [`${id.split('/')[0]}/`, id, remote.slice(remote.lastIndexOf(':'))]) {
        await filter(words)
        await rows(1)
        await page.until(`document.querySelector('#connections tbody td').textContent === ${JSON.stringify(id)}`)
        assert.is(await text('#connections-count'), '1 of 2')
      }
    }

    // The one that is left in the list is ended, with a reason; the other worker's is not harmed.
    const victim = await text('#connections tbody td')
    await page.get(`document.querySelector('#connections .kill').click()`)
    await page.until(`document.getElementById('kill').open`)
    await page.type('too loud')
    await page.get(`document.getElementById('kill-yes').click()`)
    await page.until(`document.getElementById('toast').textContent === 'Ended ${victim}.'`)
    await filter('')
    const left = String(result.connections.find(({ id }) => id !== victim)?.id)
    await page.until(`document.querySelector('#connections tbody').rows.length === 1`)
    await page.until(`document.querySelector('#connections tbody td').textContent === ${JSON.stringify(left)}`)
    const [ended, alive] = [...peers.values()].sort((a) => (a.isOver ? -1 : 1)) as [Peer, Peer]
    await ended.over
    await alive.send('here\n').hears(' here\n')

    // Rates are of both: what the points of the chart add up to is what was asked.
    talk = new Talk(one.port, 8)
    await page.until(`Number(document.querySelector('#legend-messages b').textContent.replaceAll(',', '')) > 5`)
    const cells = `[...document.querySelectorAll('#connections tbody tr')].map((row) => row.cells[0].textContent[0])`
    await page.until(`${cells}.includes('0') && ${cells}.includes('1')`)

    assert.is((await one.ask('reload')).ok, true)
    await page.until(`document.querySelectorAll('#places tbody tr').length >= 2`)
    await page.get(`void (window.rest = document.getElementById('facts').textContent)`)
    await page.until(`document.getElementById('facts').textContent !== rest`)
    await page.until(`Number(document.querySelector('#legend-messages b').textContent.replaceAll(',', '')) > 5`)
    await page.until(`${cells}.includes('0') && ${cells}.includes('1')`)
    assert.equal(await page.get(`[...states].filter((state) => state !== 'live')`), [], 'it was live all the time')

    const [, base = '', token = ''] = /^(.*)\/#token=(.*)$/.exec(url) ?? []
    await talk.stop()
    const bearer = `Authorization: Bearer ${token}`
    const { stdout } = await run('curl', ['-sS', '--max-time', '20', '-H', bearer, `${base}/api/state?since=0`])
    const { points, pointKeys } = JSON.parse(stdout) as { points: number[][]; pointKeys: string[] }
    const [at, messages] = [pointKeys.indexOf('at'), pointKeys.indexOf('messagesIn')]
    const total = points.reduce((sum, point, i) => {
      const seconds = ((point[at] as number) - ((points[i - 1] ?? point)[at] as number)) / 1_000
      return sum + (point[messages] as number) * seconds
    }, 0)
    // Clocks and the last second apart.
    const { answered } = talk
    assert.ok(total < answered * 1.5 + 50 && total > answered * 0.5 - 50, `${answered} answered, ${total} in the chart`)
    assert.equal(page.problems, [])
    for (const peer of peers.values()) peer.leave()
  } finally {
    await talk?.stop()
    await browser.stop()
  }
  assert.is(await one.stop(), 0)
})

test('top and tap of several processes: rates of all, ids to kill by, and on through a reload', async () => {
  const one = await serving({ workers: 2 })
  const talk = new Talk(one.port, 4)
  const at = ['--control', one.control]
  const top = async () => {
    const command = gaidaros(['top', '--once', '--interval-ms', '1000', ...at], { env: { COLUMNS: '140' } })
    assert.is(await command.ended, 0)
    return command.stdout
  }
  await until(async () => (await one.status()).workers.every(({ connections }) => connections > 0), 'both have some')
  const check = (text: string) => {
    assert.match(text, /^gaidaros \S+ {2}process \d+, 2 workers {2}ready/)
    const [, messages = '0'] = /^default +listening +\d+\/20000 +([\d.]+)/m.exec(text) ?? []
    assert.ok(Number(messages) > 0, text)
    assert.match(text, /^ *0\/\w+ +default/m)
    assert.match(text, /^ *1\/\w+ +default/m)
  }
  check(await top())
  assert.is((await one.ask('reload')).ok, true)
  const left = (await one.status()).workers.filter(({ state }) => state === 'draining')
  assert.is(
    left.reduce((sum, { connections }) => sum + connections, 0),
    4,
    'the old generation has its conversations',
  )
  talk.again()
  await one.settles(2)
  await until(async () => (await one.status()).workers.every(({ connections }) => connections > 0), 'and again')
  check(await top())
  const { result } = await one.ask<{ connections: { id: string }[] }>('connections', { filter: '1/' })
  assert.ok(result.connections.length > 0 && result.connections.every(({ id }) => id.startsWith('1/')))
  const tap = gaidaros(['tap', String(result.connections[0]?.id), ...at])
  await tap.shows(/"message":"again"/)
  const killed = gaidaros(['kill', '--filter', String(result.connections[0]?.id), '--reason', 'test', ...at])
  assert.is(await killed.ended, 0)
  assert.match(killed.stdout, /^killed \d+ connections?: 1\//)
  assert.is(await tap.ended, 0)
  assert.match(tap.stdout, /"code":"KILLED"/)
  await talk.stop()
  assert.is(await one.stop(), 0)
})

test('logger: every worker writes to one stream, and says which it is', async () => {
  const one = await serving({ workers: 2, plugins: [['gaidaros/plugins/logger', { level: 'debug' }]] })
  const peers = await toEach(one.port, 2)
  const lines = () => one.command.stderr.split('\n').filter((line) => line.startsWith('{') && line.endsWith('}')).map((line) => JSON.parse(line)) // biome-ignore format: one call
  await eventually(() => new Set(lines().filter(({ event }) => event === 'connection.opened').map(({ worker }) => worker)).size === 2, 'both have written') // biome-ignore format: one call
  for (const peer of peers.values()) peer.leave()
  assert.is(await one.stop(), 0)
})

test.run()
