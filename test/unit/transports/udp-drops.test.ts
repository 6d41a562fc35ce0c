import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { endianness } from 'node:os'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { dropsOf, hexOf } from '#src/transports/udp-drops.js'
import { skip } from '../../support/skip.js'

test('addresses are as the kernel prints them', () => {
  if (endianness() !== 'LE')
    return skip('addresses are as the kernel prints them', 'the vectors are of little-endian machines')
  assert.is(hexOf('127.0.0.1'), '0100007F')
  assert.is(hexOf('0.0.0.0'), '00000000')
  assert.is(hexOf('::1'), '00000000000000000000000001000000')
  assert.is(hexOf('2001:db8::a:1'), 'B80D0120000000000000000001000A00')
  assert.is(hexOf('::ffff:1.2.3.4'), '0000000000000000FFFF000004030201')
})

test('the drops of an address are summed over its sockets', () => {
  const table = [
    '   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops',
    '  344: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0000000000000000 7',
    '  345: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2 2 0000000000000000 5',
    '  346: 0100007F:1F91 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3 2 0000000000000000 9',
  ].join('\n')
  assert.is(dropsOf(table, '0100007F:1F90'), 12)
  assert.is(dropsOf(table, '0100007F:0001'), 0)
})

for (const [family, address] of [
  ['udp4', '127.0.0.1'],
  ['udp6', '::1'],
] as const) {
  test(`a socket of ${family} is found in the kernel’s table`, async () => {
    if (process.platform !== 'linux')
      return skip(`a socket of ${family} is found in the kernel’s table`, 'no /proc/net/udp here')
    const socket = createSocket(family).bind(0, address)
    await once(socket, 'listening')
    const { port } = socket.address()
    const name = `${hexOf(address)}:${port.toString(16).toUpperCase().padStart(4, '0')}`
    const table = readFileSync(family === 'udp4' ? '/proc/net/udp' : '/proc/net/udp6', 'latin1')
    assert.ok(table.includes(` ${name} `), name)
    socket.close()
  })
}

test.run()
