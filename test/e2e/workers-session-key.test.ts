// time limit: 120 s
/** Datagram peers told apart by content (`socket.sessionKey`) stay with one worker, from whichever address they come. */
import { createSocket } from 'node:dgram'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { killAll } from '../support/command.js'
import { Folder, hasReusePort, Serving } from '../support/workers.js'

const folder = new Folder()
folder.write(
  'count.mjs',
  `import { defineHandler } from 'gaidaros'
export default defineHandler({ name: 'count', codec: 'line',
  open(c) { c.data.n = 0 }, message(line, c) { return \`\${++c.data.n} \${process.pid}\` } })`,
)
let files = 0
const config = (sessionKey: object, workers: unknown) =>
  folder.write(`${++files}.json`, {
    listeners: { d: { endpoint: 'udp://127.0.0.1:0', handler: './count.mjs', socket: { sessionKey } } },
    workers,
  })

/** One datagram from a port of its own, and its answer. */
function ask(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4')
    const again = setInterval(() => socket.send(text, port, '127.0.0.1'), 5_000)
    const timer = setTimeout(() => reject(new Error(`no answer to ${text}`)), 30_000)
    socket.once('message', (message) => {
      clearInterval(again)
      clearTimeout(timer)
      socket.close()
      resolve(String(message).trim())
    })
    socket.send(text, port, '127.0.0.1')
  })
}

for (const balance of ['round-robin', 'kernel', 'source']) {
  test(`a peer that moves keeps its connection, with two workers and balance ${balance}`, async () => {
    const file = config({ offset: 3, length: 8 }, { count: 2, balance })
    const serving = await Serving.start(folder, ['--config', file])
    const homes = new Set<string>()
    for (let i = 0; i < 20; i++) {
      const key = `key${String(i).padStart(8, '0')}`
      const [first, home] = (await ask(serving.port, `${key} one`)).split(' ')
      assert.is(first, '1')
      assert.is(await ask(serving.port, `${key} two`), `2 ${home}`)
      homes.add(home as string)
    }
    assert.is(homes.size, 2, 'both workers have some')
    assert.is(await serving.stop(), 0)
  })
}

test('a key that workers cannot share is refused by name at the start', async () => {
  folder.write(
    'keyed.config.mjs',
    `export default {
  listeners: { d: { endpoint: 'udp://127.0.0.1:0', handler: './count.mjs', socket: { sessionKey: (d) => d.toString('latin1', 0, 8) } } },
  workers: 2,
}`,
  )
  const inCode = new Serving(folder, ['--config', folder.at('keyed.config.mjs')])
  assert.is(await inCode.command.ended, 2)
  assert.match(inCode.command.stderr, /listeners\.d\.socket\.sessionKey: a function .*one worker.*\[BAD_VALUE\]/s)
  assert.is(inCode.command.stdout, '')
  if (!hasReusePort) return
  const shared = new Serving(folder, ['--config', config({ length: 8 }, { count: 2, balance: 'reuse-port' })])
  assert.is(await shared.command.ended, 2)
  assert.match(shared.command.stderr, /listeners\.d\.socket\.sessionKey: the kernel shares .*\[BAD_VALUE\]/s)
})

test('a function is a key where there is one worker', async () => {
  folder.write(
    'alone.config.mjs',
    `export default {
  listeners: { d: { endpoint: 'udp://127.0.0.1:0', handler: './count.mjs', socket: { sessionKey: (d) => d.toString('latin1', 0, 8) } } },
  workers: { count: 1 },
}`,
  )
  const serving = await Serving.start(folder, ['--config', folder.at('alone.config.mjs')])
  assert.match(await ask(serving.port, 'keyAAAAA one'), /^1 /)
  assert.match(await ask(serving.port, 'keyAAAAA two'), /^2 /)
  assert.is(await serving.stop(), 0)
})

test.after(() => {
  killAll()
  folder.remove()
})
test.run()
