/** Run with few descriptors by tcp.test.ts: echoes, and tells what the listener says. */
import { closeSync, openSync } from 'node:fs'
import { parseEndpoint } from '#src/core/endpoint.js'
import type { GaidarosError } from '#src/core/errors.js'
import { tcp } from '#src/transports/tcp.js'

let open = 0
const listener = await tcp.listen(
  parseEndpoint('tcp://127.0.0.1:0'),
  {},
  {
    open() {
      open++
      try {
        closeSync(openSync('/dev/null', 'r'))
      } catch {
        console.log('unguarded')
      }
    },
    data: (link, buffer, start, end) => void link.write(buffer.subarray(start, end)),
    end: (link) => link.end(),
    drain() {},
    close() {
      if (--open <= 1) console.log('closed')
    },
    fault: (error) =>
      console.log(
        `fault ${JSON.stringify({ code: (error as GaidarosError).code, ...(error as GaidarosError).fields })}`,
      ),
  },
)
console.log(`port ${listener.endpoint.port}`)
