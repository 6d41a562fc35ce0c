/**
 * What a serving process says of itself on standard output, and when it ends with its peer.
 *
 * Room: the command line.
 */
import type { Endpoint } from '../core/endpoint.js'
import type { ConfiguredServer } from '../gaidaros.js'

export function announce(server: ConfiguredServer): void {
  // Standard output is the peer's, where that is the connection.
  announceTo(hasStdio(server) ? process.stderr : process.stdout, server.listeners)
}

/** A line for each endpoint, then `ready`. */
export function announceTo(
  output: NodeJS.WriteStream,
  listeners: Iterable<{ readonly name: string; readonly endpoints: readonly (string | Endpoint)[] }>,
): void {
  let lines = ''
  for (const { name, endpoints } of listeners) {
    for (const endpoint of endpoints) lines += `listening ${name} ${endpoint}\n`
  }
  output.write(`${lines}ready\n`)
}

function hasStdio(server: ConfiguredServer): boolean {
  return [...server.listeners].some(({ endpoints }) => endpoints.some(({ scheme }) => scheme === 'stdio'))
}

/** Started for one peer, it ends with that peer. */
export function endWithPeer(server: ConfiguredServer): void {
  const isAll = [...server.listeners].every(({ endpoints }) => endpoints.every(({ scheme }) => scheme === 'stdio'))
  if (isAll) server.on('connection.closed', () => void server.stop())
}
