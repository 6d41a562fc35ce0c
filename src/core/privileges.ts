/**
 * Giving up root for a user and a group, for good.
 *
 * Room: core, mechanism. Ports below 1024 are bound as root; everything after that is done as somebody else. What could be
 * taken back was not given up, so it is tried, and a process that could is stopped.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { BindError, ConfigError, toError } from './errors.js'

export interface Identity {
  /** A name or a number. */
  readonly user?: string | number | undefined
  /** A name or a number. Left out: the user's own. */
  readonly group?: string | number | undefined
}

/** Who one becomes, in numbers. */
export interface Ids {
  readonly uid: number
  readonly gid: number
  /** Undefined for a number that no user has. */
  readonly name: string | undefined
}

/** @returns undefined when nobody is named. @throws {ConfigError} `UNKNOWN_NAME`. */
export function idsOf({ user, group }: Identity): Ids | undefined {
  if (user === undefined && group === undefined) return undefined
  const known = user === undefined ? undefined : userOf(String(user))
  const gid = group === undefined ? known?.gid : groupOf(String(group))
  return { uid: known?.uid ?? process.getuid?.() ?? 0, gid: gid as number, name: known?.name }
}

/**
 * Becomes that user and group: supplementary groups first, then the group, then the user (setuid(2), credentials(7)).
 *
 * @throws {BindError} `PERMISSION_DENIED` when this process may not, or when root can be regained afterwards.
 * @throws {ConfigError} `UNKNOWN_NAME`, `NOT_SUPPORTED` where there are no users.
 */
export function dropPrivileges(identity: Identity): Ids | undefined {
  const ids = idsOf(identity)
  if (ids === undefined) return undefined
  const { setgid, setuid, setgroups, getuid, geteuid, getgid } = process
  // Not in the types of Node 20.
  const { initgroups } = process as { initgroups?: (user: string, extraGroup: number) => void }
  if (!setgid || !setuid || !setgroups || !initgroups || !getuid || !geteuid || !getgid)
    throw new ConfigError('BAD_VALUE', 'daemon.user: this platform has no users to change to', { ...identity })
  if (getuid() === ids.uid && geteuid() === ids.uid && getgid() === ids.gid && ids.uid !== 0) return ids
  try {
    if (identity.user !== undefined && ids.name !== undefined) initgroups(ids.name, ids.gid)
    else setgroups([ids.gid])
    setgid(ids.gid)
    setuid(ids.uid)
  } catch (cause) {
    const message = `daemon.user, daemon.group: user ${getuid()} cannot become ${shown(ids)}: ${toError(cause).message}; start as root`
    throw new BindError('PERMISSION_DENIED', message, { ...ids, cause })
  }
  if (ids.uid !== 0) refuseWayBack(ids)
  return ids
}

/**
 * Does something with the rights of that user, and is root again: what it finds out now will hold later. In one turn, since the
 * whole process is that user meanwhile.
 */
function asUser<T>({ uid, gid, name }: Ids, run: () => T): T {
  const { seteuid, setegid, setgroups, getgroups, getegid, geteuid } = process
  const { initgroups } = process as { initgroups?: (user: string, extraGroup: number) => void }
  if (!seteuid || !setegid || !setgroups || !getgroups || !getegid || !geteuid || !initgroups) return run()
  const [groups, before, root] = [getgroups(), getegid(), geteuid()]
  try {
    if (name === undefined) setgroups([gid])
    else initgroups(name, gid)
    setegid(gid)
    seteuid(uid)
    return run()
  } finally {
    seteuid(root)
    setegid(before)
    setgroups(groups)
  }
}

/** Of some files those that are there and kept from that user, as the kernel judges (folders, groups, lists of access). */
export function keptFrom(ids: Ids, files: readonly string[]): string[] {
  const isReadable = (file: string) => {
    try {
      // access(2) asks for the real user, open(2) for the effective one.
      closeSync(openSync(file, constants.O_RDONLY | constants.O_NONBLOCK))
      return true
    } catch {
      return false
    }
  }
  const there = files.filter(isReadable)
  if (there.length === 0) return []
  return asUser(ids, () => there.filter((file) => !isReadable(file)))
}

function refuseWayBack(ids: Ids): void {
  for (const [what, regain] of [
    ['user', () => process.setuid?.(0)],
    ['effective user', () => process.seteuid?.(0)],
    ['group', () => ids.gid !== 0 && process.setgid?.(0)],
  ] as const) {
    try {
      // `false` for a group that stays root's because that was asked for.
      if (regain() === false) continue
    } catch {
      continue
    }
    const message = `daemon.user: root's ${what} can be taken back after becoming ${shown(ids)} (a capability, such as CAP_SETUID, is left); stopped`
    throw new BindError('PERMISSION_DENIED', message, { ...ids })
  }
}

function shown({ uid, gid, name }: Ids): string {
  return `${name ?? uid}:${gid}`
}

function userOf(user: string): { uid: number; gid: number | undefined; name: string | undefined } {
  const isNumber = /^\d+$/.test(user)
  const line = lines('/etc/passwd').find(([name, , uid]) => (isNumber ? uid === user : name === user))
  if (line !== undefined) return { uid: Number(line[2]), gid: Number(line[3]), name: line[0] }
  // Users of a directory service are in no file; id(1) asks whoever knows them.
  const [uid, gid, name] = [askId('-u', user), askId('-g', user), askId('-un', user)]
  if (uid !== undefined) return { uid: Number(uid), gid: gid === undefined ? undefined : Number(gid), name }
  if (isNumber) return { uid: Number(user), gid: Number(user), name: undefined }
  throw new ConfigError('UNKNOWN_NAME', `daemon.user: there is no user \`${user}\``, { name: user })
}

/** @param key - The setting that names it, for the error. @throws {ConfigError} `UNKNOWN_NAME`. */
export function groupOf(group: string, key = 'daemon.group'): number {
  if (/^\d+$/.test(group)) return Number(group)
  const line = lines('/etc/group').find(([name]) => name === group)
  if (line !== undefined) return Number(line[2])
  throw new ConfigError('UNKNOWN_NAME', `${key}: there is no group \`${group}\``, { name: group })
}

function lines(path: string): string[][] {
  try {
    return readFileSync(path, 'utf8')
      .split('\n')
      .map((line) => line.split(':'))
  } catch {
    return []
  }
}

function askId(what: string, user: string): string | undefined {
  try {
    return execFileSync('id', [what, '--', user], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return undefined
  }
}
