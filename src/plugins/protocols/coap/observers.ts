/**
 * Clients that want to be told when a resource changes, and what each of them has been told.
 *
 * Room: plugins/protocols. RFC 7641. Notifications are confirmable, one at a time for each: what changes meanwhile waits, and
 * only the newest. So a lossy network or a slow device sets its own pace, and one that has gone is forgotten.
 */

import type { Account, Holding } from '../../../core/account.js'
import type { Connection } from '../../../core/connection.js'
import type { PluginServices } from '../../../core/plugin.js'
import type { Block } from './blocks.js'

/** What of a reply matters here. */
interface Replied {
  readonly code?: string
  readonly payload?: string | Uint8Array
}

/** One client's wish to be told of one resource. */
export interface Observation {
  readonly connection: Connection
  readonly token: Buffer
  readonly path: string
  /** Of its bodies in blocks. */
  readonly key: string
  /** The size it asked for. */
  readonly wanted: Block | undefined
}

interface Told<R> extends Observation {
  readonly resource: Resource<R>
  /** What has not been acknowledged. */
  pending: Pending | undefined
  /** There is news that came meanwhile: the resource's newest. */
  isBehind: boolean
}

/** One path. What its observers wait for is kept once, whatever many they are. */
interface Resource<R> {
  readonly observers: Set<Told<R>>
  newest: R | undefined
  holding: Holding | undefined
  /** Observers that are behind. */
  waiting: number
}

interface Pending {
  id: number
  bytes: Buffer
  isLast: boolean
  /** Times it was sent again. */
  again: number
  waitMs: number
  cancel: () => void
}

/** Makes a notification's bytes, under an id that is new. */
export type Compose<R> = (observation: Observation, reply: R, sequence: number) => { id: number; bytes: Buffer }

/** RFC 7252, 4.8: ACK_TIMEOUT, ACK_RANDOM_FACTOR, MAX_RETRANSMIT. */
const ACK_MS = 2_000
const SPREAD = 0.5
const MOST_AGAIN = 4
/** Of one client: it does not take the place of the others. */
const MOST_OF_PEER = 64
/** RFC 7641, 4.4: 24 bits. */
const SEQUENCES = 2 ** 24
/** Beside its bytes, news has a few objects. */
const NEWS_BYTES = 512

export class Observers<R extends Replied> {
  readonly #most: number
  readonly #clock: PluginServices['clock']
  readonly #compose: Compose<R>
  readonly #send: (connection: Connection, bytes: Buffer) => Promise<void>
  /** By token, of each peer. */
  readonly #ofPeer = new Map<Connection, Map<string, Told<R>>>()
  readonly #ofPath = new Map<string, Resource<R>>()
  readonly #account: Account
  #count = 0
  /** One for all: a client that begins anew is not told what looks older than what it has. */
  #sequence = 0

  constructor(
    most: number,
    account: Account,
    clock: PluginServices['clock'],
    compose: Compose<R>,
    send: (connection: Connection, bytes: Buffer) => Promise<void>,
  ) {
    this.#most = most
    this.#account = account
    this.#clock = clock
    this.#compose = compose
    this.#send = send
  }

  /** @returns the sequence number for the answer; undefined: no room, the client is not told of changes. */
  add(observation: Observation): number | undefined {
    const { connection, token, path } = observation
    const name = token.toString('hex')
    // The same token: the same wish again (RFC 7641, 4.1).
    const before = this.#ofPeer.get(connection)?.get(name)
    if (before !== undefined) this.#drop(before)
    if (this.#count >= this.#most || (this.#ofPeer.get(connection)?.size ?? 0) >= MOST_OF_PEER) return undefined
    let resource = this.#ofPath.get(path)
    if (resource === undefined) {
      resource = { observers: new Set(), newest: undefined, holding: undefined, waiting: 0 }
      this.#ofPath.set(path, resource)
    }
    const told: Told<R> = { ...observation, resource, pending: undefined, isBehind: false }
    let ofPeer = this.#ofPeer.get(connection)
    if (ofPeer === undefined) {
      this.#ofPeer.set(connection, (ofPeer = new Map()))
      void connection.closed.then(() => {
        for (const one of ofPeer?.values() ?? []) this.#drop(one)
        this.#ofPeer.delete(connection)
      })
    }
    ofPeer.set(name, told)
    resource.observers.add(told)
    this.#count++
    return this.#next()
  }

  cancel(connection: Connection, token: Buffer): void {
    const told = this.#ofPeer.get(connection)?.get(token.toString('hex'))
    if (told !== undefined) this.#drop(told)
  }

  /** An acknowledgement or a reset came. */
  heard(connection: Connection, isReset: boolean, id: number): void {
    for (const told of this.#ofPeer.get(connection)?.values() ?? []) {
      const { pending } = told
      if (pending?.id !== id) continue
      pending.cancel()
      told.pending = undefined
      const next = this.#catchUp(told)
      // The client knows nothing of it any more (RFC 7641, 3.6).
      if (isReset || pending.isLast) this.#drop(told)
      else if (next !== undefined) this.#tell(told, next)
      return
    }
  }

  /** @returns how many are told. */
  notify(path: string, reply: R): number {
    const resource = this.#ofPath.get(path)
    if (resource === undefined) return 0
    const all = [...resource.observers]
    const behind = all.filter(({ pending }) => pending !== undefined)
    if (behind.length > 0) this.#keep(resource, reply)
    for (const told of behind) {
      if (!told.isBehind) resource.waiting++
      told.isBehind = true
    }
    for (const told of all) if (told.pending === undefined) this.#tell(told, reply)
    return all.length
  }

  /** What comes next for those who are behind; without room for it they are told that it is over, and ask anew. */
  #keep(resource: Resource<R>, reply: R): void {
    resource.holding?.release()
    const holding = this.#account.hold(() => lose())
    const lose = () => {
      if (resource.holding !== holding) return
      resource.holding = undefined
      resource.newest = { code: '5.03' } as R
    }
    resource.holding = holding
    resource.newest = reply
    if (!holding.take(NEWS_BYTES + (reply.payload?.length ?? 0))) lose()
  }

  /** @returns the news it waits for, which is no longer kept for it. */
  #catchUp(told: Told<R>): R | undefined {
    if (!told.isBehind) return undefined
    const { resource } = told
    const { newest } = resource
    told.isBehind = false
    if (--resource.waiting === 0) {
      resource.holding?.release()
      resource.holding = undefined
      resource.newest = undefined
    }
    return newest
  }

  #tell(told: Told<R>, reply: R): void {
    const { id, bytes } = this.#compose(told, reply, this.#next())
    const waitMs = ACK_MS * (1 + SPREAD * Math.random())
    // What is no success any more ends it (RFC 7641, 4.2).
    told.pending = { id, bytes, isLast: !reply.code?.startsWith('2'), again: 0, waitMs, cancel: () => {} }
    this.#sendPending(told, told.pending)
  }

  #sendPending(told: Told<R>, pending: Pending): void {
    pending.cancel = this.#clock.after(pending.waitMs, () => this.#sendAgain(told, pending))
    this.#send(told.connection, pending.bytes).catch(() => this.#drop(told))
  }

  /** What is sent again is what holds now; how often is counted on (RFC 7641, 4.5.2). */
  #sendAgain(told: Told<R>, pending: Pending): void {
    if (pending.again >= MOST_AGAIN) return this.#drop(told)
    const next = this.#catchUp(told)
    if (next !== undefined) {
      Object.assign(pending, this.#compose(told, next, this.#next()))
      pending.isLast = !next.code?.startsWith('2')
    }
    pending.again++
    pending.waitMs *= 2
    this.#sendPending(told, pending)
  }

  #drop(told: Told<R>): void {
    const { connection, token, path, resource } = told
    told.pending?.cancel()
    this.#catchUp(told)
    const ofPeer = this.#ofPeer.get(connection)
    const name = token.toString('hex')
    if (ofPeer?.get(name) !== told) return
    ofPeer.delete(name)
    this.#count--
    resource.observers.delete(told)
    if (resource.observers.size === 0) this.#ofPath.delete(path)
  }
  #next(): number {
    this.#sequence = (this.#sequence + 1) % SEQUENCES
    return this.#sequence
  }
}
