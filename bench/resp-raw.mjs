/**
 * The unit of the comparison for RESP: the key-value store one would write by hand on node:net.
 *
 * Nothing of a framework, but the same duties: requests are found in place, the answers of one chunk leave in one write, a peer that
 * does not read is paused, and a request is bounded.   PORT= node resp-raw.mjs
 */
import net from 'node:net'

const { PORT } = process.env
const MOST = 1_048_576

const map = new Map()
const bulk = (text) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`

/** The application. */
function handle(command, args) {
  switch (command) {
    case 'GET': {
      const value = map.get(args[0])
      return value === undefined ? '$-1\r\n' : bulk(value)
    }
    case 'SET':
      map.set(args[0], args[1])
      return '+OK\r\n'
    case 'PING':
      return '+PONG\r\n'
    default:
      return `-ERR unknown command '${command.slice(0, 40)}'\r\n`
  }
}

let after = 0
/** A count behind its type byte. @returns -1 when it is not whole. */
function count(bytes, at, end) {
  let value = 0
  for (let i = at + 1; i < end; i++) {
    const byte = bytes[i]
    if (byte === 13) {
      if (i + 1 >= end) return -1
      after = i + 2
      return value
    }
    if (byte < 48 || byte > 57) throw new Error('digits')
    value = value * 10 + byte - 48
  }
  return -1
}

function serve(socket) {
  let rest = null
  socket.on('error', () => socket.destroy())
  socket.on('data', (chunk) => {
    const bytes = rest === null ? chunk : Buffer.concat([rest, chunk])
    const end = bytes.length
    let at = 0
    let out = ''
    try {
      next: while (at < end) {
        if (bytes[at] !== 42) throw new Error('an array')
        const length = count(bytes, at, end)
        if (length < 0) break
        let from = after
        let command = ''
        const args = []
        for (let i = 0; i < length; i++) {
          if (from >= end) break next
          const size = count(bytes, from, end)
          if (size < 0 || after + size + 2 > end) break next
          if (size > MOST) throw new Error('size')
          const text = bytes.utf8Slice(after, after + size)
          if (i === 0) command = text.toUpperCase()
          else args.push(text)
          from = after + size + 2
        }
        at = from
        out += handle(command, args)
      }
    } catch (error) {
      socket.end(`${out}-ERR Protocol error: ${error.message}\r\n`)
      return
    }
    rest = at === end ? null : bytes.subarray(at)
    if (out !== '' && !socket.write(out)) {
      socket.pause()
      socket.once('drain', () => socket.resume())
    }
  })
}

net
  .createServer({ noDelay: true, allowHalfOpen: true }, serve)
  .listen({ port: Number(PORT), host: '127.0.0.1', backlog: 511 })
process.on('SIGTERM', () => process.exit(0))
