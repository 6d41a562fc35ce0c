/**
 * What a node says of itself, to whoever asks and every few moments.
 *
 * Room: plugins/executors. JSON, because other languages and `nats sub` read it too; checked like everything from outside.
 */
import { isToken } from './envelope.js'

export interface Presence {
  readonly instance: string
  readonly state: 'ready' | 'retiring' | 'gone'
  readonly host: string
  readonly pid: number
  readonly version: string
  /** Connections of all fronts that have their handler there. */
  readonly connections: number
  readonly running: number
  readonly handled: number
  readonly memoryBytes: number
}

const MOST_BYTES = 4 * 1024
const states: readonly unknown[] = ['ready', 'retiring', 'gone']

export function writePresence(presence: Presence): Buffer {
  return Buffer.from(JSON.stringify(presence))
}

/** @returns undefined for what is none. */
export function readPresence(bytes: Uint8Array): Presence | undefined {
  if (bytes.length > MOST_BYTES) return undefined
  let given: Partial<Record<keyof Presence, unknown>> | null
  try {
    given = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString())
  } catch {
    return undefined
  }
  if (typeof given !== 'object' || given === null) return undefined
  const { instance, state, host, pid, version, connections, running, handled, memoryBytes } = given
  if (!isToken(instance) || !states.includes(state)) return undefined
  return {
    instance,
    state: state as Presence['state'],
    host: textOf(host),
    pid: countOf(pid),
    version: textOf(version),
    connections: countOf(connections),
    running: countOf(running),
    handled: countOf(handled),
    memoryBytes: countOf(memoryBytes),
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 255) : ''
}

function countOf(value: unknown): number {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : 0
}
