/**
 * The unit of the comparison: the echo server one would write by hand on node:net, node:tls or node:dgram.
 *
 * Nothing of a framework, but the same duties: frames are found, decoded to what a handler would get, answered one by one,
 * and the answers of one chunk leave in one write.   TRANSPORT=tcp|tls|unix|udp FRAMING=line|len4 PORT= | SOCKET= node raw.mjs
 */
import dgram from 'node:dgram'
import net from 'node:net'
import tls from 'node:tls'

const { TRANSPORT = 'tcp', FRAMING = 'line', PORT, SOCKET, CERT, KEY } = process.env

/** The application: what a handler method would be. */
const handle = (message) => message

function lines(socket) {
  let rest = ''
  socket.on('data', (chunk) => {
    const text = rest === '' ? chunk.latin1Slice(0, chunk.length) : rest + chunk.latin1Slice(0, chunk.length)
    let out = ''
    let at = 0
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', at)) {
      out += `${handle(text.slice(at, end))}\n`
      at = end + 1
    }
    rest = at === text.length ? '' : text.slice(at)
    if (out !== '' && !socket.write(out, 'latin1')) pause(socket)
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
    // What a handler gets: text for lines, bytes for the rest.
    const reply =
      FRAMING === 'line' ? Buffer.from(handle(message.latin1Slice(0, message.length)), 'latin1') : handle(message)
    socket.send(reply, peer.port, peer.address)
  })
  socket.bind(Number(PORT), '127.0.0.1')
} else {
  const options = { noDelay: true, allowHalfOpen: true, cert: CERT, key: KEY }
  const server = TRANSPORT === 'tls' ? tls.createServer(options, serve) : net.createServer(options, serve)
  server.listen(TRANSPORT === 'unix' ? { path: SOCKET } : { port: Number(PORT), host: '127.0.0.1', backlog: 511 })
}
process.on('SIGTERM', () => process.exit(0))
