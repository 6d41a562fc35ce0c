/**
 * The units of the comparison for `npm run bench -- protocols`: of each protocol the server one would write by hand on node:net
 * or node:dgram.
 *
 * Nothing of a framework, but the same duties: requests are found in place, the answers of one chunk leave in one write, a peer
 * that does not read is paused, and what is held is bounded.   PORT= node protocols-raw.mjs json-rpc|memcached|…
 */
import dgram from 'node:dgram'
import net from 'node:net'
import coapPacket from 'coap-packet'
import dnsPacket from 'dns-packet'
import mqttPacket from 'mqtt-packet'

const port = Number(process.env.PORT)
const MOST = 1_048_576
const LF = 10

/** @param open - Of each connection: `next(bytes, at)` takes a request, adds to `out`, gives the place behind it; -1: not whole. */
function overTcp(open, encoding = 'utf8') {
  const serve = (socket) => {
    const peer = open(socket)
    let rest = null
    socket.on('error', () => socket.destroy())
    socket.on('end', () => socket.end())
    socket.on('data', (chunk) => {
      const bytes = rest === null ? chunk : Buffer.concat([rest, chunk])
      let at = 0
      peer.out = ''
      try {
        while (at < bytes.length) {
          const after = peer.next(bytes, at)
          if (after < 0) break
          at = after
        }
      } catch {
        return socket.destroy()
      }
      if (bytes.length - at > MOST) return socket.destroy()
      rest = at === bytes.length ? null : bytes.subarray(at)
      send(socket, peer.out, encoding)
    })
    if (peer.greeting !== undefined) socket.write(peer.greeting)
  }
  net.createServer({ noDelay: true, allowHalfOpen: true }, serve).listen({ port, host: '127.0.0.1', backlog: 511 })
}

function send(socket, out, encoding) {
  if (out.length === 0 || socket.write(out, encoding)) return
  socket.pause()
  socket.once('drain', () => socket.resume())
}

/** @param answer - Datagram, peer → bytes, or undefined for none. */
function overUdp(answer) {
  const socket = dgram.createSocket('udp4')
  socket.on('message', (bytes, peer) => {
    const said = answer(bytes, peer)
    if (said !== undefined) socket.send(said, peer.port, peer.address)
  })
  socket.bind(port, '127.0.0.1')
}

class JsonRpc {
  out = ''
  methods = { add: ([one, other]) => one + other }
  next(bytes, at) {
    const end = bytes.indexOf(LF, at)
    if (end < 0) return -1
    const said = this.answer(bytes.toString('utf8', at, end))
    if (said !== undefined) this.out += `${JSON.stringify(said)}\n`
    return end + 1
  }
  answer(text) {
    const failed = (id, code, message) => ({ jsonrpc: '2.0', id, error: { code, message } })
    let call
    try {
      call = JSON.parse(text)
    } catch {
      return failed(null, -32_700, 'Parse error')
    }
    if (call?.jsonrpc !== '2.0' || typeof call.method !== 'string') return failed(null, -32_600, 'Invalid Request')
    const { method, params, id } = call
    if (!Object.hasOwn(this.methods, method)) return failed(id ?? null, -32_601, 'Method not found')
    const result = this.methods[method](params)
    return id === undefined ? undefined : { jsonrpc: '2.0', id, result }
  }
}

/** Values are kept a byte a character, so that an answer is one text. */
const values = new Map()
class Memcached {
  out = ''
  next(bytes, at) {
    const end = bytes.indexOf(LF, at)
    if (end < 0) return -1
    const [command, ...args] = bytes.latin1Slice(at, bytes[end - 1] === 13 ? end - 1 : end).split(' ')
    if (args.some((arg) => arg.length > 250)) throw new Error('key')
    if (command === 'get') {
      for (const key of args) {
        const item = values.get(key)
        if (item !== undefined) this.out += `VALUE ${key} ${item.flags} ${item.value.length}\r\n${item.value}\r\n`
      }
      this.out += 'END\r\n'
    } else if (command === 'set') {
      const [key, flags, , length] = args
      const size = Number(length)
      if (!(size <= MOST)) throw new Error('length')
      const after = end + 1 + size + 2
      if (after > bytes.length) return -1
      if (bytes[after - 2] !== 13 || bytes[after - 1] !== LF) throw new Error('data')
      values.set(key, { flags: Number(flags), value: bytes.latin1Slice(end + 1, end + 1 + size) })
      this.out += 'STORED\r\n'
      return after
    } else this.out += 'ERROR\r\n'
    return end + 1
  }
}

/** Topic → sockets. */
const subscribers = new Map()
let published = 0
function mqtt(socket) {
  const parser = mqttPacket.parser({ protocolVersion: 4 })
  const options = { protocolVersion: 4 }
  let out = []
  const say = (packet) => out.push(mqttPacket.generate(packet, options))
  socket.on('error', () => socket.destroy())
  socket.on('timeout', () => socket.destroy())
  socket.on('close', () => {
    for (const all of subscribers.values()) all.delete(socket)
  })
  parser.on('error', () => socket.destroy())
  parser.on('packet', (packet) => {
    switch (packet.cmd) {
      case 'connect':
        socket.setTimeout(packet.keepalive * 1_500)
        return say({ cmd: 'connack', returnCode: 0, sessionPresent: false })
      case 'publish': {
        published++
        const { topic, payload, qos, messageId } = packet
        const wanting = subscribers.get(topic)
        if (wanting !== undefined) {
          const bytes = mqttPacket.generate({ cmd: 'publish', topic, payload, qos: 0 }, options)
          for (const one of wanting) one.write(bytes)
        }
        if (qos === 1) say({ cmd: 'puback', messageId })
        return
      }
      case 'subscribe':
        for (const { topic } of packet.subscriptions) {
          if (!subscribers.has(topic)) subscribers.set(topic, new Set())
          subscribers.get(topic).add(socket)
        }
        return say({ cmd: 'suback', messageId: packet.messageId, granted: packet.subscriptions.map(() => 0) })
      case 'pingreq':
        return say({ cmd: 'pingresp' })
      case 'disconnect':
        return socket.end()
    }
  })
  socket.on('data', (chunk) => {
    out = []
    if (parser.parse(chunk) > MOST) return socket.destroy()
    if (out.length > 0) send(socket, out.length === 1 ? out[0] : Buffer.concat(out))
  })
}

const meant = { '\\n': '\n', '\\c': ':', '\\\\': '\\', '\\r': '\r' }
class Stomp {
  out = ''
  constructor(socket) {
    this.socket = socket
    socket.on('close', () => {
      for (const all of subscribers.values()) all.delete(socket)
    })
  }
  next(bytes, from) {
    let at = from
    while (bytes[at] === LF || bytes[at] === 13) if (++at === bytes.length) return at
    const blank = bytes.indexOf('\n\n', at)
    if (blank < 0) return -1
    const [command, ...lines] = bytes.utf8Slice(at, blank).split('\n')
    const headers = {}
    const read = (text) => (text.includes('\\') ? text.replace(/\\[ncr\\]/g, (one) => meant[one]) : text)
    for (const line of lines) {
      const colon = line.indexOf(':')
      if (colon < 0) throw new Error('header')
      headers[read(line.slice(0, colon))] ??= read(line.slice(colon + 1))
    }
    const length = headers['content-length']
    const end = length === undefined ? bytes.indexOf(0, blank + 2) : blank + 2 + Number(length)
    if (end < 0 || end >= bytes.length) return -1
    if (bytes[end] !== 0) throw new Error('NUL')
    this.take(command, headers, bytes.subarray(blank + 2, end))
    return end + 1
  }
  take(command, headers, body) {
    const { destination, receipt } = headers
    if (command === 'CONNECT') {
      this.out += 'CONNECTED\nversion:1.2\nserver:raw\nheart-beat:0,0\n\n\0\n'
      return
    }
    if (command === 'SEND') {
      published++
      const wanting = subscribers.get(destination)
      if (wanting !== undefined) {
        const head = `MESSAGE\ndestination:${destination}\nmessage-id:${published}\ncontent-length:${body.length}\n\n`
        const frame = Buffer.concat([Buffer.from(head), body, Buffer.from('\0\n')])
        for (const one of wanting) one.write(frame)
      }
    } else if (command === 'SUBSCRIBE') {
      if (!subscribers.has(destination)) subscribers.set(destination, new Set())
      subscribers.get(destination).add(this.socket)
    } else throw new Error('command')
    if (receipt !== undefined) this.out += `RECEIPT\nreceipt-id:${receipt}\n\n\0\n`
  }
}

const severities = ['emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info', 'debug']
class Syslog {
  out = ''
  taken = 0
  next(bytes, at) {
    let length = 0
    for (let i = at; i < bytes.length; i++) {
      const byte = bytes[i]
      if (byte === 32) {
        const end = i + 1 + length
        if (end > bytes.length) return -1
        this.take(this.read(bytes.utf8Slice(i + 1, end)))
        return end
      }
      if (byte < 48 || byte > 57 || length > MOST) throw new Error('count')
      length = length * 10 + byte - 48
    }
    return -1
  }
  /** RFC 5424. */
  read(text) {
    const found =
      /^<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) (-|(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])+)(?: (.*))?$/s.exec(text)
    if (found === null) return { severity: 'notice', message: text }
    const [, priority, timestamp, host, app, pid, msgid, data, message = ''] = found
    const structured = {}
    if (data !== '-') {
      for (const [, id, pairs] of data.matchAll(/\[([^ \]]+)((?: [^ =]+="(?:[^"\\]|\\.)*")*)\]/g))
        structured[id] = Object.fromEntries(
          [...pairs.matchAll(/([^ =]+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, value]) => [key, value]),
        )
    }
    const severity = severities[priority & 7]
    return { facility: priority >> 3, severity, timestamp, host, app, pid, msgid, structured, message }
  }
  take({ severity }) {
    if (severity !== 'debug') this.taken++
    else {
      const text = `<14>1 2026-11-25T00:00:00Z - - - - - ${this.taken}`
      this.out += `${text.length} ${text}`
      this.taken = 0
    }
  }
}

class Smtp {
  greeting = '220 localhost ESMTP\r\n'
  out = ''
  from = undefined
  to = []
  inMail = false
  scanned = 0
  mails = 0
  next(bytes, at) {
    if (this.inMail) return this.mail(bytes, at)
    const end = bytes.indexOf('\r\n', at)
    if (end < 0) return -1
    if (end - at > 4_096) throw new Error('line')
    this.out += `${this.answer(bytes.utf8Slice(at, end))}\r\n`
    return end + 2
  }
  answer(line) {
    if (/[\r\n\0]/.test(line)) return '500 5.5.2 lines end in CR LF'
    const command = line.slice(0, 4).toUpperCase()
    switch (command) {
      case 'EHLO':
        return '250-localhost\r\n250-PIPELINING\r\n250 8BITMIME'
      case 'MAIL': {
        const [, address] = /^MAIL FROM: ?<([^<>]*)>/i.exec(line) ?? []
        if (address === undefined) return '501 5.5.4 MAIL'
        this.from = address
        return '250 2.1.0 OK'
      }
      case 'RCPT': {
        const [, address] = /^RCPT TO: ?<([^<>]+)>/i.exec(line) ?? []
        if (address === undefined) return '501 5.5.4 RCPT'
        if (this.from === undefined || this.to.length >= 100) return '503 5.5.1 not now'
        if (address !== 'ada@home.test') return '550 no such mailbox'
        this.to.push(address)
        return '250 2.1.0 OK'
      }
      case 'DATA':
        if (this.to.length === 0) return '503 5.5.1 begin with MAIL and RCPT'
        this.inMail = true
        this.scanned = 0
        return '354 end with a line of one dot'
      default:
        return '500 5.5.2 unknown command'
    }
  }
  mail(bytes, at) {
    const end = bytes.indexOf('\r\n.\r\n', at + Math.max(0, this.scanned - 4))
    if (end < 0) {
      this.scanned = bytes.length - at
      return -1
    }
    let text = bytes.latin1Slice(at, end + 2)
    this.inMail = false
    this.to = []
    this.from = undefined
    // A line that another server would take for two.
    if (/(?:^|[^\r])\n|\r(?!\n)/.test(text)) this.out += '550 5.6.0 lines end in CR LF\r\n'
    else {
      if (text.startsWith('.') || text.includes('\n.')) text = text.replace(/^\./gm, '')
      const data = Buffer.from(text, 'latin1')
      if (data.length > 0) this.mails++
      this.out += '250 2.0.0 kept\r\n'
    }
    return end + 5
  }
}

const zone = new Map([['www.home.test', '192.0.2.7']])
function dns(bytes) {
  let query
  try {
    query = dnsPacket.decode(bytes)
  } catch {
    return undefined
  }
  const { type, opcode, id, questions } = query
  if (type !== 'query' || questions.length !== 1) return undefined
  const [{ name, type: kind }] = questions
  const data = kind === 'A' && opcode === 'QUERY' ? zone.get(name.toLowerCase()) : undefined
  const flags = dnsPacket.AUTHORITATIVE_ANSWER | (query.flag_rd ? dnsPacket.RECURSION_DESIRED : 0) | (data ? 0 : 3)
  const answers = data === undefined ? [] : [{ type: 'A', name, ttl: 300, data }]
  const said = dnsPacket.encode({ type: 'response', id, flags, questions, answers })
  // What is too long comes again by TCP.
  return said.length <= 512 ? said : dnsPacket.encode({ type: 'response', id, flags: flags | 0x200, questions })
}

/** RFC 7252, 4.5: peer → the answers it has had, so that a request that comes twice is handled once. */
const exchanges = new Map()
const sensors = new Map([['/sensors/kitchen', Buffer.alloc(64, 'x')]])
function coap(bytes, { address, port: from }) {
  let request
  try {
    request = coapPacket.parse(bytes)
  } catch {
    return undefined
  }
  const { messageId, token, code, confirmable, options } = request
  const key = `${address}:${from}`
  let had = exchanges.get(key)
  if (had === undefined) {
    if (exchanges.size >= 1_000) exchanges.delete(exchanges.keys().next().value)
    exchanges.set(key, (had = new Map()))
  }
  const known = had.get(messageId)
  if (known !== undefined && Date.now() - known.at < 247_000) return known.bytes
  const path = `/${options
    .filter(({ name }) => name === 'Uri-Path')
    .map(({ value }) => value.toString())
    .join('/')}`
  const payload = code === '0.01' ? sensors.get(path) : undefined
  const said = code !== '0.01' ? '4.05' : payload === undefined ? '4.04' : '2.05'
  const reply = coapPacket.generate({ code: said, messageId, token, ack: confirmable, options: [], payload })
  had.delete(messageId)
  had.set(messageId, { bytes: reply, at: Date.now() })
  if (had.size > 64) had.delete(had.keys().next().value)
  return reply
}

const allowed = new net.BlockList()
allowed.addSubnet('127.0.0.0', 8, 'ipv4')
function socks5(socket) {
  let held = Buffer.alloc(0)
  let isGreeted = false
  const timer = setTimeout(() => socket.destroy(), 10_000)
  socket.on('error', () => socket.destroy())
  socket.on('close', () => clearTimeout(timer))
  const refuse = (code) => socket.end(Buffer.from([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))
  const take = (chunk) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    if (held.length > 1_024) return socket.destroy()
    if (!isGreeted) {
      if (held.length < 2 || held.length < 2 + held[1]) return
      if (held[0] !== 5 || !held.subarray(2, 2 + held[1]).includes(0)) return socket.end(Buffer.from([5, 255]))
      held = held.subarray(2 + held[1])
      isGreeted = true
      socket.write(Buffer.from([5, 0]))
    }
    if (held.length < 10) return
    if (held[0] !== 5 || held[1] !== 1) return refuse(7)
    if (held[3] !== 1) return refuse(8)
    const host = held.subarray(4, 8).join('.')
    if (!allowed.check(host)) return refuse(2)
    clearTimeout(timer)
    socket.off('data', take)
    socket.pause()
    if (held.length > 10) socket.unshift(held.subarray(10))
    const target = net.connect({ host, port: held.readUInt16BE(8), noDelay: true, allowHalfOpen: true })
    const failed = () => refuse(5)
    target.once('error', failed)
    target.once('connect', () => {
      target.off('error', failed)
      target.on('error', () => socket.destroy())
      socket.on('close', () => target.destroy())
      socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
      socket.pipe(target)
      target.pipe(socket)
    })
  }
  socket.on('data', take)
}

const overSockets = (serve) =>
  net.createServer({ noDelay: true, allowHalfOpen: true }, serve).listen({ port, host: '127.0.0.1', backlog: 511 })
const servers = {
  'json-rpc': () => overTcp(() => new JsonRpc()),
  memcached: () => overTcp(() => new Memcached(), 'latin1'),
  mqtt: () => overSockets(mqtt),
  stomp: () => overTcp((socket) => new Stomp(socket)),
  syslog: () => overTcp(() => new Syslog()),
  smtp: () => overTcp(() => new Smtp()),
  socks5: () => overSockets(socks5),
  dns: () => overUdp(dns),
  coap: () => overUdp(coap),
}
servers[process.argv[2]]()
process.on('SIGTERM', () => process.exit(0))
