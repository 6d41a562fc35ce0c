import { join } from 'node:path'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import { transportConformance } from '#src/testing/index.js'
import { tcp } from '#src/transports/tcp.js'
import { tls } from '#src/transports/tls.js'
import { unix } from '#src/transports/unix.js'
import { temporaryFolder } from './recorder.js'

const runner = { test, before: test.before, after: test.after }
const folder = temporaryFolder()
const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])
const certified = { options: { tls: { cert, key } }, connectOptions: { tls: { ca: cert, serverName: 'localhost' } } }
let sockets = 0

for (const endpoint of ['tcp://127.0.0.1:0', 'tcp://localhost:0', 'tcp://[::]:0']) {
  transportConformance({ name: `tcp on ${endpoint}`, transport: tcp, endpoint }, runner)
}
transportConformance({ name: 'unix', transport: unix, endpoint: () => `unix:${join(folder, `${sockets++}`)}` }, runner)
transportConformance({ name: 'tls', transport: tls, endpoint: 'tls://localhost:0', ...certified }, runner)

test.run()
