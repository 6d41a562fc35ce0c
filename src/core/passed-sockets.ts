/**
 * What says that a service manager has passed sockets on (sd_listen_fds(3)): for one process, not for those it starts.
 *
 * Room: core, mechanism.
 */

const names: readonly string[] = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']

/** The environment of a child: its descriptor 3 is something else. */
export function withoutPassedSockets(env: Readonly<NodeJS.ProcessEnv>): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)))
}
