// time limit: 180 s
/** No descriptor is free for seconds: whatever looks after the process must not be able to end it (F119). */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, killAll } from '../support/command.js'
import { Peer } from '../support/faults.js'
import { withTool } from '../support/programs.js'

test.after(killAll)

/** Fewer than are open: none can be had (setrlimit(2), RLIMIT_NOFILE). */
const starve = (pid: number) => execFileSync('prlimit', ['--pid', String(pid), '--nofile=10:20000'])
const feed = (pid: number) => execFileSync('prlimit', ['--pid', String(pid), '--nofile=20000:20000'])
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)

/** Refused newcomers try again: how many descriptors are free is looked at once a second. */
async function answers(port: number, text: string): Promise<void> {
  const until = performance.now() + 40_000
  for (;;) {
    const peer = await Peer.open(port).catch(() => undefined)
    peer?.send(`${text}\n`)
    if (peer !== undefined) await peer.hears(text.toLowerCase()).catch(() => {})
    peer?.leave()
    if (peer?.heard.includes(text.toLowerCase())) return
    assert.ok(performance.now() < until, `${text} was not answered`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function ends(server: Command): Promise<void> {
  server.child.kill('SIGTERM')
  assert.is(await server.ended, 0, server.stderr)
}

withTool(
  'prlimit',
  'F119 a server without a free descriptor serves those inside, says so once, and recovers',
  async () => {
    const server = gaidaros(
      ['serve', '--listen', 'tcp://127.0.0.1:0', '--eval', 'line => line', '--set', 'limits.watchMs=100'],
      { limitMs: 90_000 },
    )
    const { default: port = 0 } = await server.ready()
    const inside = await Peer.open(port)
    await inside.echoes('before')
    starve(server.pid)
    await server.shows(/watch\.failed/)
    for (let i = 0; i < 20; i++) {
      await inside.echoes(`inside ${i}`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    assert.is(server.stderr.match(/watch\.failed/g)?.length, 1, 'said once')
    feed(server.pid)
    await answers(port, 'after')
    inside.leave()
    await ends(server)
  },
)

withTool(
  'prlimit',
  'F119 a supervisor without a free descriptor outlives a worker, and replaces it when it can',
  async () => {
    const server = gaidaros(
      [
        ...['serve', '--listen', 'tcp://127.0.0.1:0', '--eval', 'line => line', '--workers', '2'],
        ...['--set', 'limits.watchMs=100', '--set', 'workers.heartbeatMs=100'],
      ],
      { limitMs: 90_000 },
    )
    const { default: port = 0 } = await server.ready()
    const before = childrenOf(server.pid)
    starve(server.pid)
    for (const pid of before.slice(0, 1)) process.kill(pid, 'SIGKILL')
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    assert.ok(server.child.exitCode === null, server.stderr)
    feed(server.pid)
    await server.shows(/(worker\.ready[\s\S]*){3}/)
    await answers(port, 'after')
    await ends(server)
  },
)

withTool(
  'prlimit',
  'F119 a server whose executor’s process dies while no descriptor is free goes on, and has it back',
  async () => {
    const server = gaidaros(
      [
        ...['serve', '--listen', 'tcp://127.0.0.1:0', '--handler', `${import.meta.dirname}/../fixtures/lower.js`],
        ...['--executor', 'process', '--set', 'limits.watchMs=100'],
      ],
      { limitMs: 90_000, cwd: `${import.meta.dirname}/..` },
    )
    const { default: port = 0 } = await server.ready()
    await answers(port, 'before')
    starve(server.pid)
    for (const pid of childrenOf(server.pid)) process.kill(pid, 'SIGKILL')
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    assert.ok(server.child.exitCode === null, server.stderr)
    feed(server.pid)
    await answers(port, 'AFTER')
    await ends(server)
  },
)

test.run()
