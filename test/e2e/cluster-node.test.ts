// time limit: 180 s
/** A node as its operator has it: watched and ended at a control socket, and polite to those it leaves. */
import { existsSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createNode, type NamedExecutor } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, root } from '../support/command.js'
import { eventually, Peer, serve } from '../support/faults.js'
import { endAll, type NatsServer, noNats, startNats } from '../support/nats.js'
import { skip } from '../support/skip.js'

const handlers = join(root, 'test/fixtures/cluster-handlers.mjs')
const folder = mkdtempSync(join(tmpdir(), 'gk-'))
let nats: NatsServer
let names = 0

const nodeTest = (title: string, run: (name: string, ledger: string) => Promise<void>) =>
  test(title, async () => {
    if (noNats !== undefined) return skip(title, noNats)
    nats ??= await startNats()
    const ledger = join(folder, `ledger-${++names}`)
    writeFileSync(ledger, '')
    await run(`c${names}`, ledger)
  })

async function startNode(name: string, ledger: string, ...args: string[]): Promise<Command> {
  const sets = [`cluster.name=${name}`, 'cluster.lostMs=20000'].flatMap((one) => ['--set', one])
  const command = gaidaros(
    ['node', '--cluster', nats.url, ...sets, '--handler', `${handlers}#Polite`, '--name', 'alpha', ...args],
    { limitMs: 100_000, cwd: folder, env: { LEDGER: ledger } },
  )
  await command.shows(/^ready$/m)
  return command
}

const front = (name: string, more: object = {}) =>
  serve({
    handler: `${handlers}#Polite`,
    executor: { type: 'cluster', servers: nats.url, name, lostMs: 20_000, ...more } as NamedExecutor,
  })

async function run(...args: string[]): Promise<Command> {
  const command = gaidaros(args, { cwd: folder })
  await command.ended
  return command
}
const countOf = (ledger: string, line: RegExp) =>
  readFileSync(ledger, 'utf8').match(new RegExp(line, 'gm'))?.length ?? 0

nodeTest(
  'a node is asked how it is, and ended, at its control socket; what is not its business is refused',
  async (name, ledger) => {
    const pidFile = join(folder, 'node.pid')
    const socket = join(folder, 'node.sock')
    const node = await startNode(name, ledger, '--pid-file', pidFile, '--executor', 'thread-pool')
    assert.is(Number(readFileSync(pidFile, 'utf8')), node.pid)
    assert.is(statSync(socket).mode & 0o777, 0o600)
    const { port, server } = await front(name, { whenLost: 'reopen' })
    const peer = await Peer.open(port)
    await peer.echoes('hello')
    const status = await run('status', '--pid-file', pidFile)
    assert.match(status.stdout, new RegExp(`^gaidaros \\S+, process ${node.pid}: ready, up \\d+ s, 1 connection, `))
    assert.match(status.stdout, new RegExp(`^node alpha-\\S+ of ${name}: 1 server, 0 running, 1 done, 0 dropped$`, 'm'))
    assert.match(status.stdout, /^ {2}thread \S+ +ready +0 +1 done/m)
    const json = JSON.parse((await run('status', '--json', '--pid-file', pidFile)).stdout)
    assert.equal(json.node, { ...json.node, cluster: name, servers: 1, isConnected: true })
    assert.is(json.connections, 1)
    for (const command of ['connections', 'reload', 'suspend']) {
      const refused = await run(command, '--control', socket)
      assert.is(await refused.ended, 1)
      assert.match(refused.stderr, /a node does not know "\w+"; it knows: status, drain, stop/)
    }
    const stopped = await run('stop', '--control', socket)
    assert.is(await stopped.ended, 0, stopped.stderr)
    assert.match(stopped.stdout, /^stopped$/m, stopped.stderr)
    assert.is(await node.ended, 0, node.stderr)
    assert.not(existsSync(socket))
    assert.not(existsSync(pidFile))
    peer.leave()
    await server.stop({ timeoutMs: 0 })
  },
)

nodeTest(
  'without being asked for, a node listens nowhere, whatever the servers’ control says',
  async (name, ledger) => {
    const node = await startNode(name, ledger, '--set', `control=${join(folder, 'servers.sock')}`)
    assert.not(existsSync(join(folder, 'servers.sock')))
    assert.not(existsSync(join(folder, 'gaidaros.sock')))
    node.child.kill('SIGTERM')
    assert.is(await node.ended, 0)
  },
)

nodeTest('drain lets a message finish; a stop after it, with less time, cuts what is left', async (name, ledger) => {
  const control = join(folder, 'drain.sock')
  const node = await startNode(name, ledger, '--control', control)
  const { port, server, until } = await front(name)
  const peer = await Peer.open(port)
  await peer.echoes('hello')
  peer.send('wait\n')
  const load = () => server.listeners.get('default')?.plan.executors[0]?.load()
  await eventually(() => load()?.running === 1, 'it is there')
  assert.match((await run('drain', '--control', control)).stdout, /^draining$/m)
  await peer.hears('waited\n')
  await until('connection.closed', ({ reason }) => reason.code === 'LOST')
  assert.is(await node.ended, 0, node.stderr)
  // One whose message takes for ever.
  const other = await startNode(name, ledger, '--control', control, '--drain-timeout-ms', '60000')
  await eventually(() => load()?.places?.some(({ state }) => state === 'ready') === true, 'the other node')
  const busy = await Peer.open(port)
  for (let i = 0; i < 400; i++) busy.send('wait\n')
  await busy.hears('waited\n')
  await run('drain', '--control', control)
  const draining = await run('status', '--control', control)
  assert.match(draining.stdout, /: draining, /)
  const stopped = await run('stop', '--control', control, '--timeout-ms', '0')
  assert.match(stopped.stdout, /^stopped$/m, stopped.stderr)
  assert.is(await other.ended, 0)
  assert.match(other.stderr, /1 connections were still here at the deadline/)
  await busy.over
  await server.stop({ timeoutMs: 0 })
})

nodeTest(
  '@OnDrain runs on the node when it leaves, and says goodbye before its connections are LOST',
  async (name, ledger) => {
    const node = await startNode(name, ledger, '--drain-timeout-ms', '9000')
    const { port, server, until, count } = await front(name)
    const [one, lines, rude, busy] = await Promise.all(Array.from({ length: 4 }, () => Peer.open(port)))
    await one?.echoes('one')
    await lines?.echoes('lines')
    await rude?.echoes('rude')
    await busy?.echoes('busy')
    busy?.send('wait\n')
    const load = () => server.listeners.get('default')?.plan.executors[0]?.load()
    await eventually(() => load()?.running === 1, 'it is there')
    node.child.kill('SIGTERM')
    for (const peer of [one, lines, rude, busy]) await peer?.over
    assert.is(one?.heard, 'one\ngoodbye\n')
    assert.is(lines?.heard, 'lines\ngood\nbye\n')
    assert.is(rude?.heard, 'rude\n')
    assert.match(String(busy?.heard), /^busy\n(goodbye\nwaited|waited\ngoodbye)\n$/)
    const { error } = await until('handler.failed')
    assert.match(error.message, /@OnDrain on a node that leaves failed: .*no goodbye/)
    assert.is(await node.ended, 0, node.stderr)
    assert.is(countOf(ledger, /^drain \w+ 9$/), 4, readFileSync(ledger, 'utf8'))
    assert.is(countOf(ledger, /^close \w+ LOST$/), 4)
    assert.is(count('connection.closed'), 4)
    await server.stop()
  },
)

nodeTest('where connections move on, a node that leaves tells nobody of an end', async (name, ledger) => {
  const node = await startNode(name, ledger)
  const { port, server } = await front(name, { whenLost: 'reopen' })
  const peer = await Peer.open(port)
  await peer.echoes('one')
  const second = await startNode(name, ledger)
  const places = () => server.listeners.get('default')?.plan.executors[0]?.load().places ?? []
  await eventually(() => places().filter(({ state }) => state === 'ready').length === 2, 'two nodes')
  node.child.kill('SIGTERM')
  assert.is(await node.ended, 0)
  await peer.echoes('two')
  assert.is(countOf(ledger, /^drain/), 0)
  // The server's own end is one.
  const stopped = server.stop()
  await peer.over
  peer.leave()
  await stopped
  assert.is(peer.heard, 'one\ntwo\ngoodbye\n')
  assert.is(countOf(ledger, /^drain \w+ 1[45]$/), 1, readFileSync(ledger, 'utf8'))
  second.child.kill('SIGTERM')
  assert.is(await second.ended, 0)
})

nodeTest('a node in code: its state, its end, and a control socket in a taken place', async (name, ledger) => {
  process.env.LEDGER = ledger
  const path = join(folder, 'code.sock')
  const options = {
    config: false,
    modulesFrom: [root],
    handler: `${handlers}#Polite`,
    cluster: { servers: nats.url, name },
    node: { control: path },
  } as const
  const node = await createNode(options)
  assert.is(node.state, 'created')
  await node.start()
  assert.is(node.state, 'ready')
  const taken = await createNode(options)
  let refused: unknown
  await taken.start().catch((error) => {
    refused = error
  })
  assert.match(String(refused), /code\.sock/)
  assert.is(taken.state, 'stopped')
  assert.is(await node.stop(), 0)
  assert.is(await node.stopped, 0)
  assert.is(node.state, 'stopped')
  assert.not(existsSync(path))
})

test.after(() => endAll(folder))
test.run()
