/**
 * Unix sockets: `unix:path`.
 *
 * Room: transports. Thin, like tcp; what is its own is the file: its path, its mode, its leaving.
 */
import { chmodSync, chownSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { isMainThread } from 'node:worker_threads'
import type { Endpoint } from '../core/endpoint.js'
import { BindError } from '../core/errors.js'
import { groupOf } from '../core/privileges.js'
import type { Capabilities, Transport } from '../core/transport.js'
import { dial } from './dial.js'
import { pipePath } from './pipe-path.js'
import { bindError } from './platform-errors.js'
import { StreamLink } from './stream-link.js'
import { StreamListener } from './stream-listener.js'
import {
  bindServer,
  clientOptions,
  serverOptions,
  streamScope,
  type UnixOptions,
  unixOptions,
} from './stream-options.js'
import { handedServers } from './tcp-bind.js'
import { abstractName, checkUnixPath, makeWay, OwnSocketFile } from './unix-path.js'
import { prepareUpgrade, upgradeParts } from './upgrade-check.js'

export type { UnixOptions } from './stream-options.js'

const DEFAULT_MODE = 0o660

const capabilities: Capabilities = {
  kind: 'stream',
  ordered: true,
  reliable: true,
  halfClose: true,
  // A socket that closes with bytes unread gives ECONNRESET, else an orderly end (unix(7)): no promise.
  reset: false,
  backpressure: 'end-to-end',
  upgrade: ['tls'],
}

/** The transport of Unix sockets. `socket` options: `backlog`, `mode` (default 0660). */
export const unix: Transport<UnixOptions> = {
  name: 'unix',
  schemes: ['unix'],
  binds: 'unix',
  options: unixOptions,
  capabilities: () => capabilities,

  async check(endpoint, options) {
    if (abstractName(endpoint) === undefined) checkUnixPath(endpoint)
    if (options.group !== undefined) groupOf(String(options.group), 'socket.group')
    await prepareUpgrade(options.tls)
  },

  async listen(endpoint, options, sink) {
    const upgrades = await upgradeParts(options, sink)
    const { backlog = 511 } = options
    const scope = streamScope(endpoint, 'accepted', options, sink)
    const accept = (socket: Socket) => new StreamLink(socket, undefined, scope).open()
    const handed = await handedServers(options)
    if (handed !== undefined) return new StreamListener({ ...upgrades(), ...handed, sink, backlog, accept })
    const mode = modeOf(options)
    const pipe = pipePath(endpoint, process.platform)
    const server = createServer(serverOptions({ noDelay: false, keepAlive: false }))
    let file: OwnSocketFile | undefined
    const abstract = pipe === undefined ? abstractName(endpoint) : undefined
    if (pipe !== undefined) await bindPipe(server, endpoint, pipe, backlog, mode)
    else if (abstract !== undefined) await bindAbstract(server, endpoint, abstract, backlog)
    else {
      const path = checkUnixPath(endpoint)
      await makeWay(endpoint, path)
      await bindWithMode(server, endpoint, path, options)
      file = new OwnSocketFile(path)
    }
    return new StreamListener({
      ...upgrades(),
      endpoint,
      servers: [server],
      sink,
      backlog,
      accept,
      closing: (close) => (file === undefined ? close() : file.closing(close)),
    })
  },

  connect(endpoint, options, sink, signal) {
    const scope = streamScope(endpoint, 'connected', options, sink)
    const target = {
      ...clientOptions({ noDelay: false, keepAlive: false }),
      path: pipePath(endpoint, process.platform) ?? abstractName(endpoint) ?? endpoint.path ?? '',
    }
    return dial(endpoint, target, signal, (socket) => {
      const link = new StreamLink(socket, undefined, scope)
      link.open()
      return link
    })
  },
}

function modeOf({ mode = DEFAULT_MODE }: UnixOptions): number {
  return typeof mode === 'string' ? Number.parseInt(mode, 8) : mode
}

/** Of a mode a pipe knows what others may: its owner may everything. */
async function bindPipe(server: Server, endpoint: Endpoint, path: string, backlog: number, mode: number) {
  const [readableAll, writableAll] = [(mode & 0o004) !== 0, (mode & 0o002) !== 0]
  try {
    await bindServer(server, { path, backlog, readableAll, writableAll })
  } catch (cause) {
    throw bindError(endpoint, cause)
  }
}

/** A name without a file. @throws {BindError} `ADDRESS_IN_USE` where another process has it. */
export async function bindAbstract(server: Server, endpoint: Endpoint, name: string, backlog: number): Promise<void> {
  try {
    await bindServer(server, { path: name, backlog })
  } catch (cause) {
    throw bindError(endpoint, cause)
  }
}

/**
 * The mode of a new socket is what umask(2) leaves of 0777. Node binds paths within the call of `listen`, so the umask
 * is ours for that call only, and the file never has another mode: chmod(2) after the bind would leave a window. A socket
 * that is to have another group is bound with no permission for anybody but its owner until it has it.
 */
export async function bindWithMode(
  server: Server,
  endpoint: Endpoint,
  path: string,
  options: UnixOptions,
): Promise<void> {
  const { backlog = 511 } = options
  const mode = modeOf(options)
  const gid = options.group === undefined ? undefined : groupOf(String(options.group), 'socket.group')
  if (!isMainThread) {
    const message = `${endpoint}: a worker thread cannot set a socket's mode without a window; listen in the main thread`
    throw new BindError('NOT_SUPPORTED', message, { endpoint, option: 'mode' })
  }
  const before = process.umask(0o777 & ~(gid === undefined ? mode : mode & 0o700))
  let bound: Promise<void>
  try {
    bound = bindServer(server, { path, backlog })
  } finally {
    process.umask(before)
  }
  try {
    await bound
  } catch (thrown) {
    throw bindError(endpoint, thrown)
  }
  if (gid === undefined) return
  try {
    chownSync(path, -1, gid)
    chmodSync(path, mode)
  } catch (cause) {
    await new Promise((closed) => server.close(closed))
    const message = `cannot listen on ${endpoint}: its file cannot be given to group ${options.group} (socket.group): ${(cause as Error).message}; the process has to be a member of it, or root`
    throw new BindError('PERMISSION_DENIED', message, { endpoint, path, cause })
  }
}
