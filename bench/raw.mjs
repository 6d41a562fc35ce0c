/**
 * The unit of the comparison: the echo server one would write by hand on node:net, node:tls or node:dgram.
 *
 * Nothing of a framework, but the same duties: frames are found in place, each is answered, the answers of one chunk leave in
 * one write, and a peer that does not read is paused.   TRANSPORT=tcp|tls|unix|udp FRAMING=line|len4 PORT= | SOCKET= node raw.mjs
 */
import dgram from 'node:dgram'
import net from 'node:net'
import tls from 'node:tls'

const { TRANSPORT = 'tcp', FRAMING = 'line', PORT, SOCKET, CERT, KEY } = process.env

/** The application: what a handler method would be. */
const handle = (message) => message

/** Lines as views of the chunk, the replies of a chunk copied into one buffer: no text is made that nobody reads. */
function lines(socket) {
  let rest = null
  socket.on('data', (chunk) => {
    const bytes = rest === null ? chunk : Buffer.concat([rest, chunk])
    const out = Buffer.allocUnsafe(bytes.length)
    let size = 0
    let at = 0
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, at)) {
      const reply = handle(bytes.subarray(at, end))
      size += reply.copy(out, size)
      out[size++] = 10
      at = end + 1
    }
    rest = at === bytes.length ? null : bytes.subarray(at)
    if (size > 0 && !socket.write(size === out.length ? out : out.subarray(0, size))) pause(socket)
  })
}

function lengths(socket) {
  let held = null
  let size = 0
  socket.on('data', (chunk) => {
    let buffer = chunk
    if (held !== null) {
      if (size + chunk.length > held.length) {
        const larger = Buffer.allocUnsafeSlow(Math.max(held.length * 2, size + chunk.length))
        held.copy(larger, 0, 0, size)
        held = larger
      }
      chunk.copy(held, size)
      size += chunk.length
      buffer = held.subarray(0, size)
    }
    let at = 0
    const out = []
    while (buffer.length - at >= 4) {
      const length = buffer.readUInt32BE(at)
      if (buffer.length - at - 4 < length) break
      const reply = handle(buffer.subarray(at + 4, at + 4 + length))
      const head = Buffer.allocUnsafe(4)
      head.writeUInt32BE(reply.length)
      out.push(head, reply)
      at += 4 + length
    }
    if (at === buffer.length) held = null
    else if (held === null || at > 0) {
      const left = buffer.length - at
      const need = left >= 4 ? Math.max(left, buffer.readUInt32BE(at) + 4) : 4096
      const next = Buffer.allocUnsafeSlow(need)
      buffer.copy(next, 0, at)
      held = next
      size = left
    }
    if (out.length === 0) return
    socket.cork()
    let isOpen = true
    for (const piece of out) isOpen = socket.write(piece)
    socket.uncork()
    if (!isOpen) pause(socket)
  })
}

function pause(socket) {
  socket.pause()
  socket.once('drain', () => socket.resume())
}

function serve(socket) {
  socket.on('error', () => socket.destroy())
  if (FRAMING === 'line') lines(socket)
  else lengths(socket)
}

if (TRANSPORT === 'udp') {
  const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
  socket.on('message', (message, peer) => {
    socket.send(handle(message), peer.port, peer.address)
  })
  socket.bind(Number(PORT), '127.0.0.1')
} else {
  const options = { noDelay: true, allowHalfOpen: true, cert: CERT, key: KEY }
  const server = TRANSPORT === 'tls' ? tls.createServer(options, serve) : net.createServer(options, serve)
  server.listen(TRANSPORT === 'unix' ? { path: SOCKET } : { port: Number(PORT), host: '127.0.0.1', backlog: 511 })
}
process.on('SIGTERM', () => process.exit(0))
