// time limit: 240 s
/** What CoAP keeps for peers that ask for more than they send: bounded in bytes over all of them, and nobody gets a wrong body. */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { generate, parse } from 'coap-packet'
import { defineHandler } from 'gaidaros'
import type { CoapRequest } from 'gaidaros/plugins/coap'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, serve, stopAll } from '../support/faults.js'
import { endPrograms, run, withTool } from '../support/programs.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const sockets = new Set<Socket>()
test.after(async () => {
  await stopAll()
  endPrograms()
  for (const socket of sockets) socket.close()
})

const MIB = 2 ** 20
const BODY = 200_000
/** Differs in each block, and from version to version. */
const texts = [0, 1].map((version) =>
  Array.from({ length: BODY / 8 }, (_, i) => String(i * 10 + version).padStart(8, '.')).join(''),
)
/** A copy of its own each time, as a handler that reads a file returns. */
const bodyOf = (version: number) => Buffer.from(texts[version] as string)

async function resources(options: object = {}) {
  const state = { version: 0, asked: 0, posted: 0 }
  const handler = defineHandler({
    name: 'Resources',
    routes: {
      GET: ({ path }: CoapRequest) => {
        state.asked++
        return path === '/small' ? 'small' : bodyOf(state.version)
      },
      POST: ({ payload }: CoapRequest) => {
        state.posted++
        return payload.length > 0 ? `${payload.length} bytes` : bodyOf(0)
      },
    },
  })
  const protocol = { name: 'coap', ...options }
  const watched = await serve({ listen: 'udp://127.0.0.1:0', handler, protocol } as never)
  const used = () => watched.server.kept.reduce((sum, { bytes }) => sum + bytes, 0)
  return { ...watched, state, used }
}

type Packet = ReturnType<typeof parse>

async function device(port: number, address = '127.0.0.1') {
  const socket = createSocket('udp4')
  sockets.add(socket)
  socket.bind(0, address)
  await once(socket, 'listening')
  const heard: Packet[] = []
  const waiting = new Map<number, (packet: Packet) => void>()
  socket.on('message', (bytes) => {
    const packet = parse(bytes)
    heard.push(packet)
    waiting.get(packet.messageId)?.(packet)
  })
  let lastId = 0
  const send = (given: object) => {
    const messageId = ++lastId
    const bytes = generate({ messageId, confirmable: true, token: Buffer.of(1), ...given } as never, 65_535)
    socket.send(bytes, port, '127.0.0.1')
    return { messageId, bytes }
  }
  /** Sends again every second until it is answered, as clients do. */
  const ask = async (given: object): Promise<Packet> => {
    const { messageId, bytes } = send(given)
    const answered = new Promise<Packet>((resolve) => waiting.set(messageId, resolve))
    const again = setInterval(() => socket.send(bytes, port, '127.0.0.1'), 1_000)
    try {
      return await answered
    } finally {
      clearInterval(again)
      waiting.delete(messageId)
    }
  }
  const again = (bytes: Buffer) => socket.send(bytes, port, '127.0.0.1')
  return { send, ask, again, heard }
}

const pathOf = (path: string) => path.split('/').map((part) => ({ name: 'Uri-Path', value: Buffer.from(part) }))
const block = (name: string, number: number, isMore = false, exponent = 6) => {
  const value = Buffer.alloc(3)
  value.writeUIntBE(number * 16 + (isMore ? 8 : 0) + exponent, 0, 3)
  return { name, value }
}
const optionOf = (packet: Packet, name: string) => packet.options.find((option) => String(option.name) === name)?.value
const get = (path: string, number?: number) => ({
  code: 'GET',
  options: [...pathOf(path), ...(number === undefined ? [] : [block('Block2', number)])],
})

/** The whole body, block by block. */
async function fetchWhole({ ask }: Awaited<ReturnType<typeof device>>, path: string) {
  const parts: Buffer[] = []
  const tags = new Set<string>()
  for (let isMore = true; isMore; ) {
    const said = await ask(get(path, parts.length === 0 ? undefined : parts.length))
    assert.is(said.code, '2.05', String(said.payload))
    tags.add(String(optionOf(said, 'ETag')?.toString('hex')))
    isMore = ((optionOf(said, 'Block2') as Buffer).at(-1) as number) % 16 > 7
    parts.push(said.payload)
  }
  return { body: Buffer.concat(parts), tags }
}

test('F107 CoAP: 1,600 small GETs of 400 sources for 200 KB: bounded, and an honest client gets the whole', async () => {
  const { port, state, server, used } = await resources()
  const limit = server.kept.reduce((sum, kept) => sum + kept.limit, 0)
  assert.ok(limit > 0 && limit <= 64 * MIB, `${limit}`)
  const honest = await device(port)
  await honest.ask(get('large'))
  const devices: Awaited<ReturnType<typeof device>>[] = []
  for (let i = 0; i < 400; i++) devices.push(await device(port, `127.0.${1 + Math.floor(i / 200)}.${1 + (i % 200)}`))
  // The memory of 400 peers, and of 400 clients in this process, is none of what is measured.
  for (const { ask } of devices) for (let i = 0; i < 4; i++) await ask(get('small'))
  state.asked = 0
  collect()
  const before = process.memoryUsage().rss
  let most = 0
  for (const { ask } of devices) {
    await Promise.all(['a', 'b', 'c', 'd'].map((path) => ask(get(path))))
    most = Math.max(most, used())
  }
  assert.is(state.asked, 1_600)
  assert.ok(most > limit / 2 && most <= limit, `${most} of ${limit}`)
  assert.ok((server.counters['kept.coap.kept.dropped'] ?? 0) > 1_000)
  const { body } = await fetchWhole(honest, 'large')
  assert.ok(body.equals(bodyOf(0)))
  collect()
  const growth = (process.memoryUsage().rss - before) / MIB
  assert.ok(growth < 64, `RSS grew by ${growth.toFixed(0)} MiB`)
})

test('F107 CoAP: whose body has gone is served all the same, and sees by its tag when it is another', async () => {
  // Room for less than one body: each block asks the handler.
  const { port, state, used } = await resources({ keptBytes: 100_000 })
  const client = await device(port)
  const first = await fetchWhole(client, 'large')
  assert.ok(first.body.equals(bodyOf(0)))
  assert.is(first.tags.size, 1)
  assert.is(state.asked, Math.ceil(BODY / 1_024))
  assert.ok(used() <= 100_000)
  const early = await client.ask(get('large'))
  state.version = 1
  const late = await client.ask(get('large', 5))
  assert.equal(late.payload, bodyOf(1).subarray(5 * 1_024, 6 * 1_024))
  assert.not.equal(optionOf(late, 'ETag'), optionOf(early, 'ETag'))
})

test('F107 CoAP: what changes things is not done twice for an answer that has gone', async () => {
  const { port, state, server } = await resources({ keptBytes: 100_000 })
  const client = await device(port)
  const post = { code: 'POST', options: pathOf('x') }
  assert.is((await client.ask(post)).code, '2.04')
  assert.is((await client.ask({ ...post, options: [...post.options, block('Block2', 1)] })).code, '4.08')
  assert.is(state.posted, 1)
  // Of a request: its first blocks have gone when others needed the room.
  const put = (number: number, isMore: boolean, fill = 1_024) => ({
    code: 'POST',
    options: [...pathOf('y'), block('Block1', number, isMore)],
    payload: Buffer.alloc(fill, 0x61),
  })
  assert.is((await client.ask(put(0, true))).code, '2.31')
  const { bytes } = client.send({ code: 'POST', options: pathOf('z'), payload: Buffer.from('once') })
  await eventually(() => state.posted === 2, 'posted')
  const others = await Promise.all(Array.from({ length: 40 }, (_, i) => device(port, `127.0.1.${i + 1}`)))
  for (const { ask } of others) for (let i = 0; i < 4; i++) await ask(get('small'))
  assert.ok((server.counters['kept.coap.kept.dropped'] ?? 0) > 0)
  assert.is((await client.ask(put(1, false))).code, '4.08')
  // The same datagram again: not handled, and its answer has gone.
  client.again(bytes)
  await eventually(() => client.heard.some(({ reset }) => reset), 'a reset')
  assert.is(state.posted, 2)
  // The client begins anew.
  assert.is((await client.ask(put(0, true))).code, '2.31')
  assert.is(String((await client.ask(put(1, false, 10))).payload), '1034 bytes')
  // More than there is room for at all.
  let code = '2.31'
  for (let number = 0; code === '2.31'; number++) code = (await client.ask(put(number, true))).code
  assert.ok(code === '5.03' || code === '4.08', code)
})

test('F107 CoAP: nothing is kept of peers that have gone', async () => {
  const { server, port, used } = await resources()
  const client = await device(port)
  await client.ask(get('large'))
  await client.ask({ code: 'POST', options: [...pathOf('y'), block('Block1', 0, true)], payload: Buffer.alloc(1_024) })
  assert.ok(used() > BODY)
  for (const connection of server.connections) connection.abort()
  await eventually(() => used() === 0, `${used()} bytes`)
})

withTool('coap-client-notls', 'F107 CoAP: coap-client gets the whole though no body has room', async () => {
  const { port } = await resources({ keptBytes: 100_000 })
  const { output } = await run('coap-client-notls', ['-B', '60', `coap://127.0.0.1:${port}/large`])
  assert.is(output.trim(), String(bodyOf(0)))
})

test.run()
