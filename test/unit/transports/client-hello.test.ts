/** The name in a ClientHello, however it is cut, and whatever is put in its place. */
import { connect, createServer, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { HelloReader, readServerName } from '#src/transports/client-hello.js'

/** What Node's own client sends first. */
async function helloOf(servername: string): Promise<Buffer> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const taken = new Promise<Buffer>((resolve) => {
    server.once('connection', (socket) => {
      socket.once('data', (chunk) => {
        resolve(chunk)
        socket.destroy()
      })
    })
  })
  const client = connectTls({ port: (server.address() as { port: number }).port, host: '127.0.0.1', servername })
  client.on('error', () => {})
  const hello = await taken
  client.destroy()
  server.close()
  return hello
}
const hello = await helloOf('Some.Example')
const nameless = await helloOf('')

/** The handshake message of one record, in records of these sizes. */
function fragments(record: Buffer, sizes: readonly number[]): Buffer {
  const message = record.subarray(5)
  const records: Buffer[] = []
  let at = 0
  for (let i = 0; at < message.length; i++) {
    const part = message.subarray(at, at + (sizes[i % sizes.length] as number))
    const head = Buffer.from([22, 3, 1, part.length >> 8, part.length & 255])
    records.push(head, part)
    at += part.length
  }
  return Buffer.concat(records)
}

const read = (bytes: Buffer, sizes: readonly number[]) => {
  const reader = new HelloReader()
  let at = 0
  let isOver = false
  for (let i = 0; at < bytes.length && !isOver; i++) {
    const size = sizes[i % sizes.length] as number
    isOver = reader.push(bytes.subarray(at, at + size))
    at += size
  }
  return { name: reader.name, isOver }
}
const sizes = fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 8 })

test('a name is read however records and segments are cut', () => {
  fc.assert(
    fc.property(sizes, sizes, (records, segments) => {
      assert.equal(read(fragments(hello, records), segments), { name: 'Some.Example', isOver: true })
      assert.equal(read(fragments(nameless, records), segments), { name: undefined, isOver: true })
    }),
  )
})

test('any bytes, and any hello with bytes changed, are read to an end or to the bound, and never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), sizes, (bytes, segments) => {
      read(Buffer.from(bytes), segments)
    }),
  )
  const changes = fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 })
  fc.assert(
    fc.property(changes, sizes, (changed, segments) => {
      const bytes = Buffer.from(hello)
      for (const [at, value] of changed) bytes[at] = value
      const { name } = read(bytes, segments)
      assert.ok(name === undefined || name.length > 0)
    }),
  )
  const endless = Buffer.alloc(70_000, 1)
  endless.set([22, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff])
  assert.equal(read(endless, [1_000]), { name: undefined, isOver: true })
  assert.equal(read(Buffer.from('GET / HTTP/1.1\r\n'), [3]), { name: undefined, isOver: true })
})

test('every byte is put back', async () => {
  const server = createServer({ pauseOnConnect: true })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
  const client = connect((server.address() as { port: number }).port, '127.0.0.1')
  client.setNoDelay(true)
  const raw = await accepted
  const named = new Promise<string | undefined>((resolve) => readServerName(raw, resolve))
  client.write(hello.subarray(0, 3))
  client.write(hello.subarray(3, 90))
  client.write(Buffer.concat([hello.subarray(90), Buffer.from('more')]))
  assert.is(await named, 'Some.Example')
  let heard = Buffer.alloc(0)
  raw.on('data', (chunk: Buffer) => {
    heard = Buffer.concat([heard, chunk])
  })
  client.end()
  await new Promise((resolve) => raw.once('end', resolve))
  assert.is(heard.compare(Buffer.concat([hello, Buffer.from('more')])), 0)
  client.destroy()
  raw.destroy()
  server.close()
})

test.run()
