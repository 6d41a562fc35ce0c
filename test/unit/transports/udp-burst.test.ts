import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { skip } from '../../support/skip.js'
import { cleanUp, Far, listen } from './udp-record.js'

test.after.each(cleanUp)

const DATAGRAMS = 20_000
const BURST = 1_000

/** The kernel's own count of what it had no room for (proc(5), last column of /proc/net/udp). */
function drops(port: number): number | undefined {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  try {
    const row = readFileSync('/proc/net/udp', 'utf8')
      .split('\n')
      .find((line) => line.includes(` ${local} `))
    return row === undefined ? undefined : Number(row.trim().split(/\s+/).at(-1))
  } catch {
    return undefined
  }
}

for (const [title, receiveBuffer] of [
  ['of 4 MiB', undefined],
  ['too small', 16 * 1024],
] as const) {
  test(`bursts into a receive buffer ${title}: sent = received + dropped by the kernel (F32)`, async () => {
    const { record, port } = await listen('udp://127.0.0.1:0', receiveBuffer === undefined ? {} : { receiveBuffer })
    if (drops(port) === undefined)
      return skip(
        `bursts into a receive buffer ${title}: sent = received + dropped by the kernel (F32)`,
        'this platform does not tell its drops in /proc/net/udp',
      )
    const far = await Far.open(port)
    const accounted = () => record.messages.length + (drops(port) as number)
    for (let sent = 0; sent < DATAGRAMS; ) {
      for (let i = 0; i < BURST; i++) void far.send(`datagram ${sent++}`)
      // The counters tell when the burst is through; a turn of the loop reads 32 datagrams.
      for (const deadline = Date.now() + 10_000; accounted() < sent; await new Promise(setImmediate)) {
        assert.ok(Date.now() < deadline, `${sent} sent, ${record.messages.length} received, ${drops(port)} dropped`)
      }
    }
    assert.is(accounted(), DATAGRAMS)
    if (receiveBuffer === undefined) assert.is(drops(port), 0)
    else assert.ok((drops(port) as number) > 0, 'the buffer was not too small: this proves nothing')
    assert.is(new Set(record.texts()).size, record.messages.length, 'a datagram came twice')
    assert.is(record.opened.length, 1)
  })
}

test.run()
