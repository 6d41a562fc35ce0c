/**
 * What is asked of a running server, read with care: it came over a socket.
 *
 * Room: core, mechanism of the control socket.
 */
import type { ListenerHandle, Server } from '../lifecycle.js'
import { nearest } from '../nearest.js'
import { Session } from '../session.js'

/** A request: its command, and whatever that command reads of it. */
export interface ControlRequest {
  readonly id?: unknown
  readonly command?: unknown
  readonly [key: string]: unknown
}

/** Who asks, where something may be told later on. */
export interface Asker {
  /** @returns false while no more should be told. */
  tell(line: object): boolean
  /** Settles when nobody listens any more. */
  readonly closed: Promise<unknown>
}

/** @throws {Error} unless it is left out or text of a length that can be meant. */
export function textOf(request: ControlRequest, key: string, most = 200): string | undefined {
  const value = request[key]
  if (value === undefined || value === null) return undefined
  if (typeof value === 'string' && value.length <= most) return value
  throw new Error(`${key}: expected text of at most ${most} characters, got ${brief(value)}`)
}

/** @throws {Error} unless it is left out or a whole number in range. */
export function countOf(
  request: ControlRequest,
  key: string,
  range: { readonly most: number; readonly least?: number },
) {
  const value = request[key]
  if (value === undefined || value === null) return undefined
  const { least = 0, most } = range
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return value as number
  throw new Error(`${key}: expected a whole number from ${least} to ${most}, got ${brief(value)}`)
}

export function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 77)}…` : text
}

/** One listener by name, or all. @throws {Error} naming those there are. */
export function listenersOf(server: Server, name: unknown): ListenerHandle[] {
  const all = [...server.listeners]
  if (name === undefined || name === null) return all
  const found = all.filter((listener) => listener.name === name)
  if (found.length > 0) return found
  const names = all.map((listener) => listener.name)
  const near = nearest(String(name), names)
  throw new Error(
    `no listener \`${String(name)}\`${near ? `; nearest: \`${near}\`` : ''}; there are: ${names.join(', ')}`,
  )
}

export function sessionsOf(server: Server): Session[] {
  const sessions: Session[] = []
  for (const connection of server.connections) if (connection instanceof Session) sessions.push(connection)
  return sessions
}

/** @throws {Error} when it is gone. */
export function sessionOf(server: Server, id: unknown): Session {
  for (const connection of server.connections) {
    if (connection.id === id && connection instanceof Session) return connection
  }
  throw new Error(`no connection ${brief(id)}; it may have ended; \`gaidaros connections\` lists them`)
}
