/**
 * Files that root makes for whom it becomes, in folders that may be that user's already.
 *
 * Room: core, mechanism. In such a folder a name is whatever its owner makes of it: a link to a file of root's, or one of its hard
 * links. So nothing is followed, and nothing is given away that was there before and was somebody else's (as CVE-2016-1247 did).
 */
import {
  chownSync,
  closeSync,
  constants,
  fchownSync,
  fstatSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  type Stats,
} from 'node:fs'
import { basename, dirname, join, parse, resolve, sep } from 'node:path'
import { BindError, toError } from './errors.js'
import type { Ids } from './privileges.js'

const { O_APPEND, O_CREAT, O_DIRECTORY = 0, O_EXCL, O_NOFOLLOW = 0, O_NONBLOCK = 0, O_WRONLY } = constants
/** open(2), Linux; not in Node's constants. A descriptor that stands for a file and opens nothing. */
const O_PATH = 0o10000000

/**
 * Opens a file for appending and gives it to that user.
 *
 * @param what - The option, for messages.
 * @throws {BindError} `PATH_OCCUPIED` for what is no regular file with one name that is new, root's or that user's, and where a
 *   link of somebody else's is on the way; `PATH_INVALID` when it cannot be opened. Reach: the start.
 */
export function openFor(owner: Ids, path: string, mode: number, what: string): number {
  const refuse = (problem: string) => {
    const user = owner.name ?? owner.uid
    const remedy = `as root only a regular file of root's or ${user}'s own is opened and given to ${user}; name another file, or remove that one`
    return new BindError('PATH_OCCUPIED', `${what}: ${path} ${problem}; ${remedy}`, { path })
  }
  const at = join(folderOf(path, refuse), basename(path))
  const flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK
  let descriptor: number | undefined
  let isNew = true
  try {
    try {
      descriptor = openSync(at, flags | O_CREAT | O_EXCL, mode)
    } catch (error) {
      if ((error as { code?: string }).code !== 'EEXIST') throw error
      isNew = false
      if (lstatSync(at).isSymbolicLink()) throw refuse('is a link')
      descriptor = openSync(at, flags)
    }
    const found = fstatSync(descriptor)
    if (!found.isFile()) throw refuse('is no regular file')
    if (found.nlink !== 1) throw refuse(`is a file with ${found.nlink} names`)
    if (![0, owner.uid].includes(found.uid)) throw refuse(`is a file of user ${found.uid}`)
    // A folder may have become a link since it was looked at.
    const opened = nameOf(descriptor)
    if (opened !== undefined && opened !== at) throw refuse(`turned out to be ${opened}`)
    if (isNew || found.uid === 0) fchownSync(descriptor, owner.uid, owner.gid)
    return descriptor
  } catch (thrown) {
    if (descriptor !== undefined) closeSync(descriptor)
    if (thrown instanceof BindError) throw thrown
    const cause = toError(thrown)
    throw new BindError('PATH_INVALID', `${what}: ${path} cannot be written: ${cause.message}`, { path, cause })
  }
}

/**
 * Makes a folder, with those above it, and gives it to that user; one that was there keeps its own.
 *
 * @param what - The option, for messages.
 * @throws {BindError} `PATH_OCCUPIED` where a link of somebody else's is on the way.
 */
export function makeFolderFor(owner: Ids, path: string, what: string): void {
  const refuse = (problem: string) => {
    const message = `${what}: the folder ${path} ${problem}; as root no link of somebody else's is followed; name another folder`
    return new BindError('PATH_OCCUPIED', message, { path })
  }
  const at = folderOf(join(path, 'file'), refuse)
  if (mkdirSync(at, { recursive: true }) === undefined) return
  const descriptor = openSync(at, O_DIRECTORY | O_NOFOLLOW)
  try {
    const opened = nameOf(descriptor)
    if (opened !== undefined && opened !== at) throw refuse(`turned out to be ${opened}`)
    if (fstatSync(descriptor).uid === 0) fchownSync(descriptor, owner.uid, owner.gid)
  } finally {
    closeSync(descriptor)
  }
}

/**
 * Gives all sockets of a server that have a file. Its pid file is none of them: with a number of that user's choice in it, root's
 * `kill` would end what that user likes.
 *
 * @param endpoints - Where it listens.
 * @param control - The path of its control socket.
 */
export function handOverSockets(endpoints: readonly string[], control: string | undefined, owner: Ids): void {
  for (const one of endpoints) {
    // An abstract name has no file (unix(7)).
    if (one.startsWith('unix:') && !one.startsWith('unix:@')) handOverSocket(one.slice('unix:'.length), owner)
  }
  if (control !== undefined) handOverSocket(control, owner)
}

/**
 * Gives a Unix socket that root has bound to that user. Its group stays when it is another one than root's: `socket.group` has
 * said so. One that is not root's, such as a service manager's, stays whose it is.
 *
 * @throws {BindError} `PATH_OCCUPIED` for what is no socket with one name: it was put there in place of ours.
 */
function handOverSocket(path: string, owner: Ids): void {
  const refuse = (problem: string) =>
    new BindError(
      'PATH_OCCUPIED',
      `daemon.user: the socket ${path} cannot be given to ${owner.name ?? owner.uid}: ${problem}; somebody changes its folder while the server starts`,
      { path },
    )
  const judge = (found: Stats): number | undefined => {
    if (!found.isSocket()) throw refuse('something else stands there')
    if (found.nlink !== 1) throw refuse(`it has ${found.nlink} names`)
    if (found.uid !== 0) return undefined
    return found.gid === (process.getegid?.() ?? 0) ? owner.gid : found.gid
  }
  try {
    if (process.platform !== 'linux') {
      const gid = judge(lstatSync(path))
      if (gid !== undefined) lchownSync(path, owner.uid, gid)
      return
    }
    const descriptor = openSync(path, O_PATH | O_NOFOLLOW)
    try {
      const gid = judge(fstatSync(descriptor))
      // What was looked at, whatever has its name by now; fchown(2) takes no such descriptor.
      if (gid !== undefined) chownSync(`/proc/self/fd/${descriptor}`, owner.uid, gid)
    } finally {
      closeSync(descriptor)
    }
  } catch (thrown) {
    throw thrown instanceof BindError ? thrown : refuse(toError(thrown).message)
  }
}

/** The folder of a path, in full. Links on the way are followed when they are root's. */
function folderOf(path: string, refuse: (problem: string) => Error): string {
  const folder = dirname(resolve(path))
  let at = parse(folder).root
  let left = folder.slice(at.length).split(sep).filter(Boolean)
  for (let links = 0; left.length > 0; ) {
    const [name = '', ...rest] = left
    const next = join(at, name)
    let found: Stats | undefined
    try {
      found = lstatSync(next, { throwIfNoEntry: false })
    } catch {
      // Opening says why.
    }
    left = rest
    if (found?.isSymbolicLink() !== true) {
      at = next
      continue
    }
    if (found.uid !== 0 || ++links > MOST_LINKS) throw refuse(`is reached through ${next}, a link of user ${found.uid}`)
    const target = resolve(at, readlinkSync(next))
    at = parse(target).root
    left = [...target.slice(at.length).split(sep).filter(Boolean), ...rest]
  }
  return at
}

/** As path_resolution(7). */
const MOST_LINKS = 40

/** Where an open file is, on Linux. */
function nameOf(descriptor: number): string | undefined {
  try {
    return process.platform === 'linux' ? readlinkSync(`/proc/self/fd/${descriptor}`) : undefined
  } catch {
    return undefined
  }
}
