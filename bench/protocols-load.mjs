/**
 * The load on protocols-raw.mjs and protocols-gaidaros.mjs: so many requests, each answer compared byte by byte.
 *
 *   node protocols-load.mjs json-rpc|memcached|… PORT COUNT        prints {"rate":…}; exit code 1 on a wrong answer, or none
 */
import dgram from 'node:dgram'
import net from 'node:net'
import coapPacket from 'coap-packet'
import dnsPacket from 'dns-packet'
import mqttPacket from 'mqtt-packet'

const [name, port, given] = process.argv.slice(2)
const CONNECTIONS = 50
/** Requests under way on a connection. */
const DEPTH = 16
const LIMIT_MS = 30_000
const PAYLOAD = 'x'.repeat(64)

const times = (count, make) => Array.from({ length: count }, (_, i) => make(i + 1)).join('')
const counted = (text) => `${Buffer.byteLength(text)} ${text}`
const mail = `From: bob@away.test\r\nTo: ada@home.test\r\nSubject: good morning\r\n\r\n${`${PAYLOAD}\r\n`.repeat(15)}`

/**
 * `open`: what is said at first, and what the whole answer looks like. `steps`: what is said, and what exactly is answered, over and
 * over; a round of them is `units` requests.
 */
const dialogues = {
  'json-rpc': {
    steps: [
      [
        times(DEPTH, (id) => `{"jsonrpc":"2.0","method":"add","params":[${id},20],"id":${id}}\n`),
        times(DEPTH, (id) => `{"jsonrpc":"2.0","id":${id},"result":${id + 20}}\n`),
      ],
    ],
    units: DEPTH,
  },
  memcached: {
    open: [[`set key 7 0 64\r\n${PAYLOAD}\r\n`, /^STORED\r\n$/]],
    steps: [['get key\r\n'.repeat(DEPTH), `VALUE key 7 64\r\n${PAYLOAD}\r\nEND\r\n`.repeat(DEPTH)]],
    units: DEPTH,
  },
  mqtt: {
    open: [
      [
        (id) => mqttPacket.generate({ cmd: 'connect', clientId: `load-${id}`, keepalive: 60, clean: true }),
        /^\x20\x02\0\0$/,
      ],
    ],
    steps: [
      [
        Buffer.concat(
          Array.from({ length: DEPTH }, (_, i) =>
            mqttPacket.generate({
              cmd: 'publish',
              topic: 'sensors/kitchen',
              payload: PAYLOAD,
              qos: 1,
              messageId: i + 1,
            }),
          ),
        ),
        times(DEPTH, (id) => `\x40\x02\0${String.fromCharCode(id)}`),
      ],
    ],
    units: DEPTH,
  },
  stomp: {
    open: [['CONNECT\naccept-version:1.2\nhost:localhost\n\n\0\n', /^CONNECTED\n[^\0]*\n\n\0\n$/]],
    steps: [
      [
        times(DEPTH, (id) => `SEND\ndestination:/queue/a\nreceipt:r${id}\ncontent-length:64\n\n${PAYLOAD}\0\n`),
        times(DEPTH, (id) => `RECEIPT\nreceipt-id:r${id}\n\n\0\n`),
      ],
    ],
    units: DEPTH,
  },
  // Nothing is answered but a question, the last of each round: how many came.
  syslog: {
    steps: [
      [
        counted(`<14>1 2026-11-25T07:00:00.003Z mx.home.test bench 42 ID47 [a@32473 iut="3"] ${PAYLOAD}`).repeat(64) +
          counted('<15>1 - - - - - - how many'),
        counted('<14>1 2026-11-25T00:00:00Z - - - - - 64'),
      ],
    ],
    units: 64,
  },
  smtp: {
    open: [
      ['', /^220 [^\n]*\n$/],
      ['EHLO load\r\n', /250 [^\n]*\n$/],
    ],
    steps: [
      [
        'MAIL FROM:<bob@away.test>\r\nRCPT TO:<ada@home.test>\r\nDATA\r\n',
        '250 2.1.0 OK\r\n250 2.1.0 OK\r\n354 end with a line of one dot\r\n',
      ],
      [`${mail}.\r\n`, '250 2.0.0 kept\r\n'],
    ],
    units: 1,
  },
}

let left = Number(given)
let done = 0
const began = performance.now()
const limit = setTimeout(() => fail(`only ${done} of ${given} within ${LIMIT_MS} ms`), LIMIT_MS)
let finish
const finished = new Promise((resolve) => (finish = resolve))

function fail(what) {
  console.error(`${name}: ${what}`)
  process.exit(1)
}

/** @returns whether there is more to do. */
function count(units) {
  done += units
  if (done >= Number(given)) finish()
  return done < Number(given)
}
/** @returns whether somebody is to begin with so many. */
function claim(units) {
  left -= units
  return left + units > 0
}
const show = (bytes) => JSON.stringify(Buffer.from(bytes).toString('latin1', 0, 120))

function talk(id, { open = [], steps, units }) {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  const script = steps.map(([say, wanted]) => [Buffer.from(say), Buffer.from(wanted, 'latin1')])
  let greeting = 0
  let step = 0
  let heard = null
  const say = () => {
    if (greeting < open.length) {
      const [said] = open[greeting]
      return socket.write(typeof said === 'function' ? said(id) : said)
    }
    if (step > 0 || claim(units)) socket.write(script[step][0])
  }
  socket.on('error', (error) => fail(error.message))
  socket.on('close', () => done < Number(given) && fail('the server closed'))
  socket.on('connect', say)
  socket.on('data', (chunk) => {
    const bytes = heard === null ? chunk : Buffer.concat([heard, chunk])
    heard = bytes
    if (greeting < open.length) {
      if (!open[greeting][1].test(bytes.toString('latin1'))) return
      greeting++
    } else {
      const wanted = script[step][1]
      if (bytes.length < wanted.length) return
      if (!bytes.equals(wanted)) fail(`expected ${show(wanted)}, got ${show(bytes)}`)
      step = (step + 1) % script.length
      if (step === 0) count(units)
    }
    heard = null
    say()
  })
}

/** @param make - Id → a question and the answer to it, bytes both. */
function ask(first, make) {
  const socket = dgram.createSocket('udp4')
  let id = first
  let wanted
  const say = () => {
    if (!claim(1)) return
    id = (id + 1) & 0xffff
    const [question, answer] = make(id)
    wanted = answer
    socket.send(question)
  }
  socket.on('error', (error) => fail(error.message))
  socket.on('message', (bytes) => {
    if (!bytes.equals(wanted)) fail(`expected ${show(wanted)}, got ${show(bytes)}`)
    count(1)
    say()
  })
  socket.connect(Number(port), '127.0.0.1', say)
}

/** The same question and answer with another id at `place`. */
function numbered(question, answer, place) {
  return (id) => {
    question.writeUInt16BE(id, place)
    answer.writeUInt16BE(id, place)
    // Copies: what is sent is not sent at once.
    return [Buffer.from(question), Buffer.from(answer)]
  }
}

function datagrams() {
  if (name === 'dns') {
    const questions = [{ type: 'A', name: 'www.home.test' }]
    const answers = [{ type: 'A', name: 'www.home.test', ttl: 300, data: '192.0.2.7' }]
    const flags = dnsPacket.AUTHORITATIVE_ANSWER | dnsPacket.RECURSION_DESIRED
    return numbered(
      dnsPacket.encode({ type: 'query', flags: dnsPacket.RECURSION_DESIRED, questions }),
      dnsPacket.encode({ type: 'response', flags, questions, answers }),
      0,
    )
  }
  const token = Buffer.from('abcd')
  const options = ['sensors', 'kitchen'].map((value) => ({ name: 'Uri-Path', value: Buffer.from(value) }))
  return numbered(
    coapPacket.generate({ code: '0.01', confirmable: true, token, options }),
    coapPacket.generate({ code: '2.05', ack: true, token, payload: Buffer.from(PAYLOAD) }),
    2,
  )
}

/** A connection through the proxy to an echo of ours, 64 bytes there and back, and its end. */
function proxied(target) {
  if (!claim(1)) return
  const steps = [
    [Buffer.from([5, 1, 0]), Buffer.from([5, 0])],
    [Buffer.from([5, 1, 0, 1, 127, 0, 0, 1, target >> 8, target & 255]), Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])],
    [Buffer.from(PAYLOAD), Buffer.from(PAYLOAD)],
  ]
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  let step = 0
  let heard = Buffer.alloc(0)
  socket.on('error', (error) => fail(error.message))
  socket.on('connect', () => socket.write(steps[0][0]))
  socket.on('data', (chunk) => {
    heard = Buffer.concat([heard, chunk])
    const wanted = steps[step][1]
    if (heard.length < wanted.length) return
    if (!heard.equals(wanted)) fail(`expected ${show(wanted)}, got ${show(heard)}`)
    heard = Buffer.alloc(0)
    if (++step < steps.length) socket.write(steps[step][0])
    else socket.end()
  })
  socket.on('close', () => {
    if (step < steps.length) fail('the proxy closed')
    if (count(1)) proxied(target)
  })
}

if (name in dialogues) for (let i = 0; i < CONNECTIONS; i++) talk(i, dialogues[name])
else if (name === 'socks5') {
  const echo = net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy())
    socket.pipe(socket)
  })
  echo.listen({ port: 0, host: '127.0.0.1', backlog: 511 }, () => {
    for (let i = 0; i < CONNECTIONS; i++) proxied(echo.address().port)
  })
} else {
  const make = datagrams()
  for (let i = 0; i < CONNECTIONS; i++) ask(i * 1_000, make)
}
await finished
clearTimeout(limit)
console.log(JSON.stringify({ rate: (done * 1_000) / (performance.now() - began) }))
process.exit(0)
