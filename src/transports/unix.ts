/**
 * Unix sockets: streams between programs of one machine.
 *
 * Room: transports. `unix:./server.sock`; who may connect is the socket file's mode (0660 unless `socket.mode` says
 * otherwise), set before anybody can connect. A file left behind by a server that died is replaced; nothing else is.
 */
import { lstatSync, type Stats, unlinkSync } from 'node:fs'
import { connect } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { BindError } from '../core/errors.js'
import { optionSchema } from '../core/option-schema.js'
import { type SocketOptions, socketRows } from '../core/options.js'
import type { Capabilities, LinkSink, Transport, TransportOptions } from '../core/transport.js'
import { StreamLink } from './stream-link.js'
import { StreamListener } from './stream-listener.js'
import { connectSocket } from './tcp-listen.js'
import { translateBind } from './platform-errors.js'
import { clientUpgrade, serverUpgrade } from './tls-upgrade.js'

export type UnixOptions = Pick<SocketOptions, 'backlog' | 'mode'>

/** sizeof(sun_path) - 1 on Linux (unix(7)); Node cuts longer ones without a word. */
const LONGEST_PATH = process.platform === 'linux' ? 107 : 103

export const unix: Transport<UnixOptions> = {
  name: 'unix',
  schemes: ['unix'],
  options: optionSchema<UnixOptions>({
    backlog: { ...socketRows.backlog, unit: 'count', min: 1 },
    mode: { ...socketRows.mode, unit: 'mode' },
  }),
  capabilities: (): Capabilities => ({
    kind: 'stream',
    ordered: true,
    reliable: true,
    halfClose: true,
    reset: false,
    backpressure: 'end-to-end',
    upgrade: ['tls'],
  }),

  async listen(endpoint, options, sink) {
    const path = checkedPath(endpoint)
    await clearStale(path, endpoint)
    const upgrade = serverUpgrade(options)
    const listener = new StreamListener(endpoint, {
      sink,
      backlog: options.backlog ?? 511,
      server: {},
      serve: (socket) => new StreamLink(socket, 'unix', sink, options, upgrade).open(),
    })
    const mode = typeof options.mode === 'string' ? Number.parseInt(options.mode, 8) : (options.mode ?? 0o660)
    // The file gets its mode from the umask while it is made, so there is no moment with another one. bind(2) happens
    // within listen(), synchronously, for paths.
    const before = process.umask(~mode & 0o777)
    let bound: Promise<unknown>
    try {
      bound = listener.bind({ path })
    } finally {
      process.umask(before)
    }
    await bound
    return listener
  },

  async connect(endpoint, options: TransportOptions<UnixOptions>, sink: LinkSink, signal) {
    const socket = await connectSocket(endpoint, { path: checkedPath(endpoint) }, signal)
    const link = new StreamLink(socket, 'unix', sink, options, clientUpgrade(endpoint, options))
    link.open()
    return link
  },
}

function checkedPath(endpoint: Endpoint): string {
  const path = endpoint.path ?? ''
  if (path === '' || path.includes('\0')) {
    throw new BindError('PATH_INVALID', `${JSON.stringify(String(endpoint))}: expected a path without NUL, such as unix:./server.sock`, { endpoint })
  }
  const bytes = Buffer.byteLength(path)
  if (bytes > LONGEST_PATH) {
    const message = `${endpoint}: the path has ${bytes} bytes, a Unix socket's has at most ${LONGEST_PATH}; use a shorter or a relative one`
    throw new BindError('PATH_TOO_LONG', message, { endpoint, bytes })
  }
  return path
}

/** Removes what a dead server left; refuses to touch anything else. */
async function clearStale(path: string, endpoint: Endpoint): Promise<void> {
  const found = stat(path)
  if (found === undefined) return
  const occupied = (what: string) => new BindError('PATH_OCCUPIED', `${endpoint}: ${what}; move it away or take another path`, { endpoint })
  if (!found.isSocket()) throw occupied(`there is ${kindOf(found)} at the path, not a socket`)
  if (await isAnswered(path)) {
    throw new BindError('ADDRESS_IN_USE', `${endpoint}: a server listens there; stop it, or take another path`, { endpoint })
  }
  if (process.getuid !== undefined && found.uid !== process.getuid()) throw occupied('the dead socket at the path belongs to another user')
  try {
    unlinkSync(path)
  } catch (error) {
    throw translateBind(error as Error, endpoint)
  }
}

function stat(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch {
    // Not there, or its folder is not: bind says so.
    return undefined
  }
}

/** Anything but a refusal counts as alive: a full backlog (EAGAIN) is a live server too. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path })
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', (error: Error & { code?: string }) => resolve(error.code !== 'ECONNREFUSED'))
  })
}

function kindOf(found: Stats): string {
  if (found.isSymbolicLink()) return 'a symbolic link'
  if (found.isDirectory()) return 'a folder'
  return found.isFile() ? 'a file' : 'something'
}
