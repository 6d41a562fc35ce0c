/**
 * Gaidaros under the same load as protocols-raw.mjs: a decorated class a protocol, every default limit and deadline on.
 *
 * PORT= node protocols-gaidaros.mjs json-rpc|memcached|…
 */
import { createServer, Handler, OnMessage } from 'gaidaros'
import { SmtpError } from 'gaidaros/plugins/smtp'

/** The decorators by hand, since this file is plain JavaScript. */
function handler(routes, scope = 'server') {
  class Application {
    taken = 0
    values = new Map()
  }
  for (const [route, method] of Object.entries(routes)) {
    const descriptor = { value: method, writable: true, configurable: true, enumerable: false }
    Object.defineProperty(Application.prototype, `on ${route}`, descriptor)
    OnMessage(route)(Application.prototype, `on ${route}`, descriptor)
  }
  Handler({ scope })(Application)
  return Application
}

const zone = new Map([['www.home.test', '192.0.2.7']])
const sensors = new Map([['/sensors/kitchen', Buffer.alloc(64, 'x')]])
const at = '2026-11-25T00:00:00Z'
const applications = {
  'json-rpc': handler({ add: ([one, other]) => one + other }),
  memcached: handler({
    get({ keys, key }) {
      return keys.length === 1 ? this.values.get(key) : keys.map((one) => this.values.get(one))
    },
    set({ key, value, flags }) {
      this.values.set(key, { value, flags })
    },
  }),
  mqtt: handler({
    'sensors/kitchen'() {
      this.taken++
    },
  }),
  stomp: handler({
    SEND() {
      this.taken++
    },
  }),
  syslog: handler(
    {
      info() {
        this.taken++
      },
      debug() {
        const { taken } = this
        this.taken = 0
        return { severity: 'info', timestamp: at, message: String(taken) }
      },
    },
    'connection',
  ),
  smtp: handler({
    RCPT({ address }) {
      if (address !== 'ada@home.test') throw new SmtpError(550, 'no such mailbox')
    },
    MESSAGE() {
      this.taken++
      return 'kept'
    },
  }),
  dns: handler({
    A({ name }) {
      const data = zone.get(name.toLowerCase())
      return data === undefined ? null : [{ type: 'A', name, ttl: 300, data }]
    },
  }),
  coap: handler({ GET: ({ path }) => sensors.get(path) ?? null }),
}

const [name] = process.argv.slice(2)
const isUdp = name === 'dns' || name === 'coap'
const server = await createServer({
  config: false,
  listen: `${isUdp ? 'udp' : 'tcp'}://127.0.0.1:${process.env.PORT}`,
  // What is private is out of its reach unless it is allowed.
  protocol: name === 'socks5' ? { name, allow: ['127.0.0.0/8'] } : name,
  ...(name in applications ? { handler: applications[name] } : {}),
})
await server.start()
process.on('SIGTERM', () => void server.stop({ timeoutMs: 1_000 }).then(() => process.exit(0)))
