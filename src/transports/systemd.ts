/**
 * `systemd:NAME` or `systemd:INDEX`: a listening socket that systemd has passed on.
 *
 * Room: transports. sd_listen_fds(3): `LISTEN_FDS` sockets from descriptor 3 on, for the process `LISTEN_PID`, their names in
 * `LISTEN_FDNAMES` (systemd.socket(5), FileDescriptorName=).
 */
import type { Endpoint } from '../core/endpoint.js'
import { BindError } from '../core/errors.js'
import type { Transport } from '../core/transport.js'
import { inheritedCapabilities, listenOn } from './fd.js'
import { type TcpOptions, tcpOptions } from './stream-options.js'
import { prepareUpgrade } from './upgrade-check.js'

/** SD_LISTEN_FDS_START. */
const FIRST = 3

export const systemd: Transport<TcpOptions> = {
  name: 'systemd',
  schemes: ['systemd'],
  binds: 'descriptor',
  options: tcpOptions,
  capabilities: () => inheritedCapabilities,
  check: (_endpoint, options) => prepareUpgrade(options.tls),
  listen: (endpoint, options, sink) => listenOn(() => passedDescriptor(endpoint, process.env), endpoint, options, sink),
}

/** @throws {BindError} that says which variables were found. */
export function passedDescriptor(
  endpoint: Endpoint,
  env: Readonly<Record<string, string | undefined>>,
  pid = process.pid,
): number {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = '' } = env
  const fail = (problem: string) => {
    const found = `LISTEN_PID=${LISTEN_PID ?? ''} LISTEN_FDS=${LISTEN_FDS ?? ''} LISTEN_FDNAMES=${LISTEN_FDNAMES}`
    return new BindError('BIND_FAILED', `${endpoint}: ${problem} (${found}; this is process ${pid})`, { endpoint })
  }
  const count = Number(LISTEN_FDS)
  if (LISTEN_FDS === undefined || !Number.isInteger(count) || count < 1) {
    throw fail('systemd has passed no sockets; start this by a socket unit, or by systemd-socket-activate')
  }
  if (LISTEN_PID !== undefined && Number(LISTEN_PID) !== pid) {
    throw fail(
      'the sockets were passed to another process; let systemd start node itself, without a shell or npx between',
    )
  }
  const names = LISTEN_FDNAMES === '' ? [] : LISTEN_FDNAMES.split(':')
  const wanted = endpoint.path ?? ''
  const index = /^\d+$/.test(wanted) && !names.includes(wanted) ? Number(wanted) : names.indexOf(wanted)
  if (index < 0 || index >= count) {
    const known = names.length > 0 ? `names ${names.join(', ')}, or 0 to ${count - 1}` : `0 to ${count - 1}`
    throw fail(`there is no socket \`${wanted}\`; there are: ${known}`)
  }
  return FIRST + index
}
