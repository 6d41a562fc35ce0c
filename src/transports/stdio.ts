/**
 * `stdio:`: one connection, on standard input and output.
 *
 * Room: transports. As inetd(8) starts a server for each peer: with a socket as descriptors 0 and 1; a pair of pipes will do
 * as well (`gaidaros serve --listen stdio: < requests > replies`).
 */
import { fstatSync } from 'node:fs'
import { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { BindError } from '../core/errors.js'
import type { Capabilities, Transport } from '../core/transport.js'
import { StreamLink } from './stream-link.js'
import { streamScope } from './stream-options.js'

const capabilities: Capabilities = {
  kind: 'stream',
  ordered: true,
  reliable: true,
  halfClose: true,
  reset: false,
  backpressure: 'end-to-end',
  upgrade: [],
}

let isTaken = false

export const stdio: Transport = {
  name: 'stdio',
  schemes: ['stdio'],
  capabilities: () => capabilities,

  async listen(endpoint, options, sink) {
    if (isTaken) throw new BindError('ADDRESS_IN_USE', `${endpoint}: a process has standard input and output once`)
    isTaken = true
    const scope = streamScope(endpoint, 'accepted', options, sink)
    let isUnbound = false
    let isPaused = false
    let isOpen = false
    const open = () => {
      if (isUnbound || isPaused || isOpen) return
      isOpen = true
      new StreamLink(standardStream(), undefined, scope).open()
    }
    // After whoever called has its listener.
    setImmediate(open)
    return {
      endpoint,
      pause() {
        isPaused = true
      },
      resume() {
        isPaused = false
        setImmediate(open)
      },
      async unbind() {
        isUnbound = true
      },
    }
  },
}

function standardStream(): Socket {
  const [input, output] = [fstatSync(0), fstatSync(1)]
  // One socket, both ways; two of them are as good as two pipes.
  if (input.isSocket() && input.ino === output.ino)
    return new Socket({ fd: 0, readable: true, writable: true, allowHalfOpen: true })
  const pair = Duplex.from({ readable: process.stdin, writable: process.stdout })
  pair.allowHalfOpen = true
  // A pair of pipes has no address, and none of the switches of a socket.
  const still = () => pair
  return Object.assign(pair, { setNoDelay: still, setKeepAlive: still, setTimeout: still }) as unknown as Socket
}
