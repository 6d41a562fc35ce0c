// time limit: 240 s
/** Every built-in transport keeps every promise of the published suite; the README's table is made from this report. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import { transportConformance } from '#src/testing/index.js'
import { memory } from '#src/transports/memory.js'
import { tcp } from '#src/transports/tcp.js'
import { tls } from '#src/transports/tls.js'
import { udp } from '#src/transports/udp.js'
import { unix } from '#src/transports/unix.js'
import { websocket } from '#src/transports/websocket.js'

const folder = mkdtempSync(join(tmpdir(), 'gaidaros-'))
const { cert, private: key } = await generate([{ name: 'commonName', value: '127.0.0.1' }])
const runner = { test }

transportConformance({ name: 'tcp', transport: tcp, endpoint: 'tcp://127.0.0.1:0' }, runner)
transportConformance(
  {
    name: 'tls',
    transport: tls,
    endpoint: 'tls://127.0.0.1:0',
    options: { tls: { cert, key } } as never,
    connectOptions: { tls: { ca: cert, rejectUnauthorized: false } } as never,
  },
  runner,
)
transportConformance({ name: 'unix', transport: unix, endpoint: `unix:${join(folder, 's')}` }, runner)
transportConformance({ name: 'udp', transport: udp, endpoint: 'udp://127.0.0.1:0' }, runner)
transportConformance({ name: 'ws', transport: websocket, endpoint: 'ws://127.0.0.1:0/chat' }, runner)
transportConformance(
  {
    name: 'ws compressed',
    transport: websocket,
    endpoint: 'ws://127.0.0.1:0',
    options: { compress: true },
    skip: [{ reason: 'what the case writes compresses to next to nothing', cases: ['paused-reader-stops-writer'] }],
  },
  runner,
)
transportConformance(
  {
    name: 'wss',
    transport: websocket,
    endpoint: 'wss://127.0.0.1:0',
    options: { tls: { cert, key } } as never,
    connectOptions: { tls: { ca: cert, rejectUnauthorized: false } } as never,
  },
  runner,
)
transportConformance({ name: 'memory', transport: memory, endpoint: 'memory:' }, runner)

test.after(() => rmSync(folder, { recursive: true, force: true }))
test.run()
