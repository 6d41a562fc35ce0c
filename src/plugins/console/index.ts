/**
 * `gaidaros/plugins/console`: a page on which an operator watches and steers the running server.
 *
 * Room: plugins/console. Off unless it is named. What answers is a Gaidaros server of its own, on loopback or a Unix socket,
 * speaking HTTP; what it knows and does is what the control socket knows and does.
 */
import { ConfigError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import { type CompanionHost, definePlugin } from '../../core/plugin.js'
import { tlsSecrets } from '../../core/secrets.js'
import { consoleApp } from './app.js'
import { Feed } from './feed.js'
import { isLoopback } from './guard.js'
import { Token } from './token.js'

export interface ConsoleOptions {
  readonly listen: string
  readonly tokenFile?: string
  readonly hosts: readonly string[]
  readonly allowPublic: boolean
  readonly tls?: Readonly<Record<string, unknown>>
  readonly readOnly: boolean
}

/** Pages that look at the same time; each holds a connection or two. */
const MOST_CONNECTIONS = 32

/**
 * The address and, unless `tokenFile` is given, the token are printed once to standard error. The token is never taken from
 * the configuration itself, a flag or the environment, because these end up in logs and lists of processes.
 *
 * @example
 * { "plugins": ["gaidaros/plugins/console"] }
 * { "plugins": [["gaidaros/plugins/console", { "listen": "unix:./console.sock", "tokenFile": "./console.token" }]] }
 */
export const consolePage = definePlugin<ConsoleOptions>({
  name: 'console',
  options: optionSchema<ConsoleOptions>({
    listen: {
      unit: 'text',
      default: 'tcp://127.0.0.1:8090',
      why: 'Where the page is served: loopback or a Unix socket (mode 0600), anything else with `allowPublic` alone.',
    },
    tokenFile: {
      unit: 'text',
      why: 'The file with the token, of mode 0600; made if it is missing. Left out: made anew at each start, and printed once.',
    },
    hosts: {
      unit: 'list',
      default: [],
      check: (value) =>
        (value as unknown[]).every((one) => typeof one === 'string')
          ? undefined
          : 'a list of names such as "ops.example.org"',
      why: 'Further names under which browsers may ask for it, behind a proxy; others are refused, against DNS rebinding.',
    },
    allowPublic: {
      unit: 'switch',
      default: false,
      why: 'Lets it listen where other machines reach it. Off: an operator’s page is nobody else’s business.',
    },
    tls: { unit: 'any', secret: tlsSecrets, why: 'Certificate and key, for a `tls://` address.' },
    readOnly: { unit: 'switch', default: false, why: 'Shows everything and changes nothing.' },
  }),
  setup(registry, options) {
    registry.companion({ name: 'console', start: (host) => start(host, options) })
  },
})

export default consolePage

async function start(host: CompanionHost, options: ConsoleOptions): Promise<() => void> {
  const { listen, allowPublic, hosts, tls, readOnly } = options
  if (!allowPublic && !isLoopback(listen)) {
    throw new ConfigError(
      'BAD_VALUE',
      `plugin console: listen: ${listen} can be reached from other machines; expected loopback (tcp://127.0.0.1:8090) or a Unix socket, or allowPublic: true with a network that only operators are in`,
      { value: listen },
    )
  }
  const token = Token.from(options.tokenFile)
  const feed = new Feed(host)
  const isUnix = listen.startsWith('unix:')
  const endpoints = await host.serve({
    listeners: {
      console: {
        endpoint: listen,
        protocol: {
          name: 'http',
          app: consoleApp({ feed, token, hosts, isReadOnly: readOnly }),
          requestMs: 10_000,
        } as never,
        ...(tls && { tls }),
        ...(isUnix && { socket: { mode: 0o600 } }),
        limits: { connections: MOST_CONNECTIONS, frameBytes: 64 * 1024 },
        timeouts: { idleMs: 60_000, firstByteMs: 10_000 },
      },
    },
  })
  const endpoint = String(endpoints[0] ?? listen)
  const address = isUnix ? endpoint : endpoint.replace(/^tcp:/, 'http:').replace(/^tls:/, 'https:')
  process.stderr.write(`console: ${address}${isUnix ? '' : '/'}${token.hint}\n`)
  return () => feed.stop()
}
