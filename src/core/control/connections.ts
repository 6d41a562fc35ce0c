/**
 * `connections`: who is connected, filtered, sorted, a page at a time.
 *
 * Room: core, mechanism of the control socket. What is answered to a client is bounded; what is looked at is each connection
 * once. Between a supervisor and its workers as many rows go as lie before the end of the page, wherever that is.
 */
import type { Server } from '../lifecycle.js'
import type { Session } from '../session.js'
import { brief, type ControlRequest, countOf, listenersOf, sessionsOf, textOf } from './ask.js'

export interface ConnectionFacts {
  readonly id: string
  readonly listener: string
  readonly transport: string
  readonly remote: string
  readonly state: string
  readonly ageMs: number
  /** Since bytes came or went. */
  readonly idleMs: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly messagesIn: number
  readonly messagesOut: number
  readonly unsentBytes: number
  readonly unhandledBytes: number
  readonly inFlight: number
  readonly isPaused: boolean
}

export interface ConnectionPage {
  /** Open now. */
  readonly total: number
  /** Those the filter lets through. */
  readonly matched: number
  readonly offset: number
  readonly connections: readonly ConnectionFacts[]
}

export const MOST_ROWS = 500
const DEFAULT_ROWS = 50
const EVERY_ROW = Number.MAX_SAFE_INTEGER

/** What one can sort and compare by. */
export const connectionKeys = [
  'id',
  'listener',
  'remote',
  'state',
  'ageMs',
  'idleMs',
  'bytesIn',
  'bytesOut',
  'messagesIn',
  'messagesOut',
  'unsentBytes',
  'unhandledBytes',
  'inFlight',
] as const
type Key = (typeof connectionKeys)[number]

interface Query {
  readonly matches: (facts: ConnectionFacts) => boolean
  readonly compare: (a: ConnectionFacts, b: ConnectionFacts) => number
  readonly limit: number
  readonly offset: number
}

export function connectionsOf(server: Server, request: ControlRequest): ConnectionPage {
  if (request.listener !== undefined) listenersOf(server, request.listener)
  const all = sessionsOf(server).map(factsOf)
  return page(all, all.length, request)
}

/** Ids of a worker's connections are `worker/id`. */
export function mergeConnections(
  parts: readonly { readonly worker: string; readonly result: ConnectionPage }[],
  request: ControlRequest,
): ConnectionPage {
  const all = parts.flatMap(({ worker, result }) =>
    result.connections.map((one) => ({ ...one, id: `${worker}/${one.id}` })),
  )
  const sum = (key: 'total' | 'matched') => parts.reduce((total, { result }) => total + result[key], 0)
  const merged = page(all, sum('total'), { ...request, filter: undefined, listener: undefined })
  return { ...merged, matched: sum('matched') }
}

/**
 * What each worker is asked, so that the page asked for is among what they answer: all rows up to its end, since they may all
 * be one worker's.
 */
export function connectionsRequestOf(request: ControlRequest): ControlRequest {
  const { limit, offset } = queryOf(request)
  return { ...request, offset: 0, limit: Math.min(EVERY_ROW, limit + offset), isPart: true }
}

function page(all: readonly ConnectionFacts[], total: number, request: ControlRequest): ConnectionPage {
  const { matches, compare, limit, offset } = queryOf(request)
  const matched = all.filter(matches).sort(compare)
  return { total, matched: matched.length, offset, connections: matched.slice(offset, offset + limit) }
}

export function factsOf(session: Session): ConnectionFacts {
  const { ageMs, idleMs, unsentBytes, unhandledBytes, inFlight, isPaused } = session.work
  const traffic = { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0 }
  session.addTraffic(traffic)
  return {
    id: session.id,
    listener: session.listener ?? '',
    transport: session.transport,
    remote: String(session.remote ?? '-'),
    state: session.state,
    ageMs: Math.round(ageMs),
    idleMs: Math.round(idleMs),
    ...traffic,
    unsentBytes,
    unhandledBytes,
    inFlight,
    isPaused,
  }
}

function queryOf(request: ControlRequest): Query {
  const sort = textOf(request, 'sort') ?? 'ageMs'
  if (!connectionKeys.includes(sort as Key)) {
    throw new Error(`sort: expected one of ${connectionKeys.join(', ')}, got ${brief(sort)}`)
  }
  const key = sort as Key
  // Numbers: the largest first; words: by the alphabet. Ids last, so that pages hold still.
  const direction = request.reverse === true ? -1 : 1
  const compare = (a: ConnectionFacts, b: ConnectionFacts) => {
    const [one, other] = [a[key], b[key]]
    const order = typeof one === 'number' ? (other as number) - one : one < other ? -1 : one > other ? 1 : 0
    return direction * order || (a.id < b.id ? -1 : 1)
  }
  const { listener } = request
  const filter = filterOf(textOf(request, 'filter') ?? '', textOf(request, 'worker'))
  return {
    matches: (facts) => (listener === undefined || facts.listener === listener) && filter(facts),
    compare,
    limit: countOf(request, 'limit', { most: request.isPart === true ? EVERY_ROW : MOST_ROWS }) ?? DEFAULT_ROWS,
    offset: countOf(request, 'offset', { most: EVERY_ROW }) ?? 0,
  }
}

/**
 * Words that all must be found in id, listener, transport, address or state; or comparisons, such as `idleMs>60000`.
 *
 * @param worker - Whose connections these are: their ids are shown as `worker/id`, so that is how they are looked for.
 * @throws {Error} for a comparison with something that is no number of a connection.
 */
export function filterOf(text: string, worker?: string): (facts: ConnectionFacts) => boolean {
  const terms = text
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => termOf(word, worker === undefined ? '' : `${worker}/`))
  return (facts) => terms.every((term) => term(facts))
}

function termOf(word: string, prefix: string): (facts: ConnectionFacts) => boolean {
  const comparison = /^(\w+)([<>])(\d{1,15})$/.exec(word)
  if (comparison === null) {
    const wanted = word.toLowerCase()
    return ({ id, listener, transport, remote, state }) =>
      `${prefix}${id} ${listener} ${transport} ${remote} ${state}`.toLowerCase().includes(wanted)
  }
  const [, key = '', sign, number] = comparison
  const numbers = connectionKeys.filter((one) => /Ms$|Bytes$|^bytes|^messages|^inFlight/.test(one))
  const known = numbers.find((one) => one.toLowerCase() === key.toLowerCase())
  if (known === undefined) throw new Error(`filter: expected a number such as ${numbers.join(', ')}, got ${brief(key)}`)
  const bound = Number(number)
  return (facts) => (sign === '<' ? (facts[known] as number) < bound : (facts[known] as number) > bound)
}
