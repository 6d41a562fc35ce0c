// time limit: 240 s
/** Sessions of datagrams over reloads and upgrades: they stay with the process that has them, and nothing is lost. */
import { createSocket, type Socket } from 'node:dgram'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll } from '../support/command.js'
import { eventually } from '../support/faults.js'
import { Folder, isAlive, Serving } from '../support/workers.js'

const folder = new Folder()
const successors: number[] = []
folder.write(
  'counting.mjs',
  `import { defineHandler } from 'gaidaros'
export default defineHandler({
  message(line, connection) {
    const count = (connection.attributes.get('count') ?? 0) + 1
    connection.attributes.set('count', count)
    if (line === 'bye') connection.end()
    return line + ' ' + count + ' ' + process.pid
  },
})\n`,
)
let files = 0

/** A peer that numbers what it says. */
class Sender {
  readonly socket: Socket = createSocket('udp4')
  readonly heard = new Map<string, { count: number; pid: string }>()
  sent = 0
  readonly #port: number

  constructor(port: number) {
    this.#port = port
    this.socket.on('message', (message) => {
      const [text = '', count = '', pid = ''] = String(message).trim().split(' ')
      this.heard.set(text, { count: Number(count), pid })
    })
  }

  say(text = String(++this.sent)): void {
    this.socket.send(text, this.#port, '127.0.0.1')
  }

  /** @param isRepeated - As peers do whose datagram may be lost: in the moment in which its session ends it is nobody's. */
  async asks(text: string, isRepeated = false): Promise<{ count: number; pid: string }> {
    this.say(text)
    const again = setInterval(() => isRepeated && this.say(text), 2_000)
    await eventually(() => this.heard.has(text), `${text} is answered`, 30_000).finally(() => clearInterval(again))
    return this.heard.get(text) as { count: number; pid: string }
  }

  close(): void {
    this.socket.close()
  }
}

async function upgrade(serving: Serving): Promise<number> {
  serving.command.child.kill('SIGUSR2')
  const [, pid] = await serving.command.shows(/upgrade\.started pid=(\d+)/)
  successors.push(Number(pid))
  await serving.command.shows('upgrade.finished')
  return Number(pid)
}

async function reload({ control }: { control: string }): Promise<void> {
  const command = gaidaros(['reload', '--control', control], { cwd: folder.path, limitMs: 60_000 })
  assert.is(await command.ended, 0, command.stderr)
}

for (const [what, workers] of [
  ['in the process itself', undefined],
  ['two workers', 2],
] as const) {
  test(`F114 400 datagrams over two reloads and an upgrade are one session of one process, none is lost (${what})`, async () => {
    const config = folder.write(`${++files}.json`, {
      listen: 'udp://127.0.0.1:0',
      handler: './counting.mjs',
      drain: { udpMs: 120_000 },
      ...(workers && { workers }),
    })
    const serving = await Serving.start(folder, ['--config', config])
    const sender = new Sender(serving.port)
    const home = (await sender.asks('first')).pid
    let changing: Promise<unknown> = Promise.resolve()
    for (let i = 1; i <= 400; i++) {
      sender.say()
      if (i === 50 || i === 150) changing = changing.then(() => reload(serving))
      if (i === 250) changing = changing.then(() => upgrade(serving))
      if (i === 300) await changing
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    await eventually(() => sender.heard.size >= 401, 'all are answered', 20_000).catch(() => {})
    assert.is(sender.heard.size, 401, 'none is lost')
    assert.equal([...new Set([...sender.heard.values()].map(({ pid }) => pid))], [home], 'one process')
    assert.equal(
      [...sender.heard.values()].map(({ count }) => count).sort((a, b) => a - b),
      Array.from({ length: 401 }, (_, i) => i + 1),
      'one session',
    )
    // A newcomer is served by who came last; so is this peer, once its session has ended.
    const newcomer = new Sender(serving.port)
    const next = await newcomer.asks('new')
    assert.is.not(next.pid, home)
    assert.is(next.count, 1)
    assert.is((await sender.asks('bye')).pid, home)
    await eventually(() => !isAlive(serving.command.pid), 'the old program has left', 60_000)
    const again = await sender.asks('again')
    assert.is.not(again.pid, home)
    assert.is(again.count, 1)
    sender.close()
    newcomer.close()
    const stopped = gaidaros(['stop', '--control', serving.control], { cwd: folder.path })
    assert.is(await stopped.ended, 0)
  })

  test(`F114 after drain.udpMs a session moves to who came last, one of a removed listener goes on until then (${what})`, async () => {
    const file = `${++files}.json`
    const write = (listeners: object) =>
      folder.write(file, {
        listeners,
        handler: './counting.mjs',
        drain: { udpMs: 4_000 },
        ...(workers && { workers }),
      })
    const both = { stays: { endpoint: 'udp://127.0.0.1:0' }, goes: { endpoint: 'udp://127.0.0.1:0' } }
    write(both)
    const serving = await Serving.start(folder, ['--config', folder.at(file)])
    const [stays, goes] = [new Sender(serving.ports.stays as number), new Sender(serving.ports.goes as number)]
    const home = (await stays.asks('first')).pid
    const other = (await goes.asks('first')).pid
    write({ stays: both.stays })
    await reload(serving)
    assert.equal(await goes.asks('second'), { count: 2, pid: other })
    let last = await stays.asks('second')
    assert.equal(last, { count: 2, pid: home })
    for (let i = 0; last.pid === home && i < 400; i++) {
      last = await stays.asks(`more-${i}`, true)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    assert.is.not(last.pid, home)
    assert.is(last.count, 1, 'a new session')
    stays.close()
    goes.close()
    assert.is(await serving.stop(), 0)
  })
}

test.after(() => {
  killAll()
  for (const pid of successors) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  folder.remove()
})
test.run()
