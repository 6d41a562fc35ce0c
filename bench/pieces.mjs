/** A 1 MiB frame in 16-byte chunks through the framer and the hold alone: what the kernel's reads do not hide. */
import { connect, createServer } from 'gaidaros'

const server = await createServer({ config: false, listen: 'memory:pieces', codec: 'length-field', handler: (m) => m })
await server.start()
const client = await connect('memory:pieces', { codec: 'length-field' })
const frame = Buffer.alloc(4 + (1 << 20), 7)
frame.writeUInt32BE(1 << 20)
const reply = new Promise((resolve) => {
  void (async () => {
    for await (const message of client.messages()) return resolve(message)
  })()
})
const before = process.cpuUsage()
for (let at = 0; at < frame.length; at += 16) {
  await client.write(frame.subarray(at, at + 16))
  if (at % 4096 === 0) await new Promise((resolve) => setImmediate(resolve))
}
const { length } = await reply
const { user, system } = process.cpuUsage(before)
console.log(`the same over memory, both sides: ${Math.round((user + system) / 1_000)} ms of CPU for ${length} bytes`)
await client.close()
await server.stop()
