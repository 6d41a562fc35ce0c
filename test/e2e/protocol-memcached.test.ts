// time limit: 240 s
/** Memcached's text protocol, by the tools of libmemcached and by our own client. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, defineHandler } from 'gaidaros'
import {
  type MemcachedCommand,
  MemcachedError,
  type MemcachedItem,
  type MemcachedValues,
} from 'gaidaros/plugins/memcached'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'
import { endPrograms, run, withTool } from '../support/programs.js'

const folder = mkdtempSync(join(tmpdir(), 'gm-'))
test.after(async () => {
  await stopAll()
  endPrograms()
  rmSync(folder, { recursive: true, force: true })
})

/** A whole cache but for expiry: what the tools ask for. */
async function cache() {
  const items = new Map<string, MemcachedItem & { cas: number }>()
  let version = 0
  const put = ({ key, flags }: MemcachedCommand, value: Buffer | string) => {
    items.set(key, { value, flags, cas: ++version })
    return true
  }
  const bytes = (key: string) => Buffer.from(items.get(key)?.value as Buffer)
  const count = ({ key, delta, command }: MemcachedCommand) => {
    const item = items.get(key)
    if (item === undefined) return null
    if (!/^\d+$/.test(String(item.value))) throw new MemcachedError('cannot increment or decrement non-numeric value')
    const now = BigInt(String(item.value)) + (command === 'incr' ? delta : -delta)
    const next = BigInt.asUintN(64, now < 0n ? 0n : now)
    items.set(key, { ...item, value: String(next), cas: ++version })
    return next
  }
  const handler = defineHandler({
    name: 'Cache',
    routes: {
      get: async ({ keys }: MemcachedCommand) => keys.map((key) => items.get(key)),
      set: (command: MemcachedCommand) => put(command, command.value),
      add: (command: MemcachedCommand) => !items.has(command.key) && put(command, command.value),
      replace: (command: MemcachedCommand) => items.has(command.key) && put(command, command.value),
      append: (command: MemcachedCommand) =>
        items.has(command.key) && put(command, Buffer.concat([bytes(command.key), command.value])),
      prepend: (command: MemcachedCommand) =>
        items.has(command.key) && put(command, Buffer.concat([command.value, bytes(command.key)])),
      cas: (command: MemcachedCommand) => {
        const item = items.get(command.key)
        if (item === undefined) return 'NOT_FOUND'
        return BigInt(item.cas) === command.unique && put(command, command.value)
      },
      delete: ({ key }: MemcachedCommand) => items.delete(key),
      touch: ({ key }: MemcachedCommand) => items.has(key),
      incr: count,
      decr: count,
      flush_all: () => void items.clear(),
      stats: () => ({ curr_items: items.size }),
      broken: () => {
        throw new Error('a secret of ours')
      },
    },
  })
  return {
    ...(await serve({
      handler,
      protocol: { name: 'memcached', version: '1.6.9' },
      limits: { frameBytes: 10_000 },
    } as never)),
    items,
  }
}

withTool('memccat', 'the tools of libmemcached: copy, read, list, remove, count', async () => {
  const { port, items } = await cache()
  const servers = `--servers=127.0.0.1:${port}`
  const file = join(folder, 'note')
  writeFileSync(file, 'good\r\nEND\r\nmorning')
  const tool = async (name: string, ...args: string[]) => {
    const { status, output } = await run(name, [servers, ...args])
    return { status, output }
  }
  assert.is((await tool('memccp', file)).status, 0)
  assert.is((await tool('memccat', 'note')).output.replace(/\n$/, ''), 'good\r\nEND\r\nmorning')
  assert.is((await tool('memcexist', 'note')).status, 0)
  assert.is.not((await tool('memcexist', 'nothing')).status, 0)
  const stat = (await tool('memcstat')).output
  assert.match(stat, /curr_items: \d/, stat)
  assert.is((await tool('memcping')).status, 0)
  assert.is((await tool('memcrm', 'note')).status, 0)
  assert.not.ok(items.has('note'))
  assert.is((await tool('memcflush')).status, 0)
  assert.is(items.size, 0)
})

withTool('memcslap', 'memcslap sets and gets under load', async () => {
  const { port, items } = await cache()
  const { status, output } = await run('memcslap', [
    `--servers=127.0.0.1:${port}`,
    '--concurrency=4',
    '--execute-number=200',
    '--initial-load=100',
    '--test=get',
  ])
  assert.is(status, 0, output)
  assert.ok(items.size >= 100, output)
})

withTool('memccapable', 'memccapable: what a server of the text protocol has to do', async () => {
  const { port } = await cache()
  const { output } = await run('memccapable', ['-h', '127.0.0.1', '-p', String(port), '-a', '-t', '5'])
  const failed = output.split('\n').filter((line) => /\[FAIL\]/i.test(line))
  assert.equal(failed, [], output)
  assert.match(output, /ascii set[^\n]*\[pass\]/i)
})

test('our own client: every kind of reply, in order', async () => {
  const { server } = await cache()
  const client = await connect([...server.listeners][0]?.endpoint as never, { protocol: 'memcached' })
  const ask = (message: unknown) => client.request<never>(message)
  const replies = await Promise.all([
    ask({ command: 'set', key: 'a', value: 'ü', flags: 7 }),
    ask(['gets', 'a', 'b']),
    ask({ command: 'add', key: 'a', value: 'x' }),
    ask({ command: 'set', key: 'n', value: 41 }),
    ask(['incr', 'n', 1]),
    ask(['incr', 'nothing', 1]),
    ask(['delete', 'nothing']),
    ask('version'),
    ask('stats'),
    ask(['nonsense', 'x']),
    ask('broken'),
    ask(['incr', 'a', 1]),
  ])
  const found = replies[1] as MemcachedValues
  assert.equal([String(found.get('a')?.value), found.get('a')?.flags, found.get('a')?.cas, found.size], ['ü', 7, 1n, 1])
  assert.equal(
    [replies[0], ...replies.slice(2, 8)],
    ['STORED', 'NOT_STORED', 'STORED', 42, 'NOT_FOUND', 'NOT_FOUND', '1.6.9'],
  )
  assert.equal(replies[8], new Map([['curr_items', '2']]))
  const errors = replies.slice(9) as MemcachedError[]
  assert.equal(
    errors.map(({ kind, message }) => [kind, message]),
    [
      ['', 'ERROR'],
      ['SERVER_ERROR', 'internal error'],
      ['CLIENT_ERROR', 'cannot increment or decrement non-numeric value'],
    ],
  )
  assert.is(await ask({ command: 'cas', key: 'a', value: 'y', unique: 9 }), 'EXISTS')
  assert.is(await ask({ command: 'cas', key: 'a', value: 'y', unique: found.get('a')?.cas }), 'STORED')
  for (const bad of [
    ['get', 'a b'],
    { command: 'set', key: 'a', value: {} },
    { command: 'set', key: 'a', value: 'x', flags: '1\r\nflush_all' },
  ])
    await ask(bad).then(
      () => assert.unreachable(),
      (error: Error) => assert.match(error.message, /protocol memcached/),
    )
  await client.close()
})

test('bad lines are answered and the connection goes on; data without a length ends it', async () => {
  const { port, until, items } = await cache()
  const peer = await Peer.open(port)
  const says = async (sent: string, answer: string) => {
    peer.heard = ''
    await peer.send(sent).hears(answer)
  }
  await says(`get ${'k'.repeat(251)}\r\n`, 'CLIENT_ERROR bad command line format\r\n')
  await says('get\r\n', 'ERROR\r\n')
  await says('\r\n', 'ERROR\r\n')
  await says('incr a x\r\n', 'CLIENT_ERROR invalid numeric delta argument\r\n')
  await says('set a 4294967296 0 1\r\nx\r\n', 'CLIENT_ERROR bad command line format\r\n')
  await says('set a 0 0 1 noreply\r\nx\r\nbroken noreply\r\ndelete a noreply\r\nverbosity 1\r\n', 'OK\r\n')
  assert.is(peer.heard, 'OK\r\n')
  assert.is(items.size, 0)
  await says('set a 0 0 1\r\nxy\r\nget a\r\n', 'CLIENT_ERROR bad data chunk')
  await peer.over
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
  const large = await Peer.open(port)
  // Refused before a byte of it has come.
  await large.send('set a 0 0 20000\r\n').hears('SERVER_ERROR object too large for cache\r\n')
  await large.over
  assert.is((await until('connection.closed')).reason.code, 'TOO_LARGE')
  const leaver = await Peer.open(port)
  await leaver.send('quit\r\n').over
  assert.is((await until('connection.closed')).reason.code, 'ENDED')
})

test.run()
