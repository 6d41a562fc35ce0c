/**
 * The model: what a peer must see of a script, from design.md's "Ends, exactly" and section 7 alone.
 *
 * Its freedoms, all of them:
 * - order `concurrent`: replies come in the order of completion; within one message, in its own order;
 * - what a handler sends of itself after its reply stands anywhere behind it, and may be missing where the connection ended;
 * - order `concurrent`, behind the first message that ends or closes: what was read after it may be answered, each of its
 *   answers or not, for `send` fails where the end is known;
 * - order `concurrent`, a throw that nobody has words for closes at once: any reply of another message may be missing;
 * - `abort()`, a peer that reset, a WebSocket whose peer closed, and a close with more than 64 KiB of the peer's behind it
 *   (discarded up to there, then reset): anything may be missing from the end, and the end may be a reset;
 * - a drain: messages that the server had not received when it began may be unanswered, but none by half.
 */
import { DRAIN, ERROR, PEER_END, REPLY, UNREAD } from '../fixtures/model-handlers.js'
import { framed, type Message, payloadOf, type Script } from './script.js'

/** An answer as the peer saw it. */
export interface Heard {
  readonly i: number
  readonly k: number
  readonly n: number
  /** Its noise is that of `i`, `k` and `n`. */
  readonly isWhole: boolean
}

export interface Seen {
  readonly heard: readonly Heard[]
  /** Bytes of a frame that did not become whole. */
  readonly rest: number
  /** The server's side: finished, cut, or on a WebSocket its code. */
  readonly end: 'fin' | 'reset' | number | 'none'
  /** The peer gave up waiting. */
  readonly isStuck: boolean
  /** What the server had received when it began to drain. */
  readonly receivedAtDrain?: number | undefined
}

/** The answers to one message, in order; of these the first so many must come. */
interface Lane {
  readonly i: number
  readonly keys: readonly string[]
  required: number
  /** Either all of it or nothing. */
  readonly isWhole: boolean
  /** Any of it may be missing, not from its end alone. */
  readonly isHoled: boolean
}

export interface Expected {
  readonly lanes: readonly Lane[]
  readonly floating: ReadonlyMap<string, boolean>
  readonly isSerial: boolean
  /** Anything may be missing from the end, and the end may be a reset. */
  readonly isLossy: boolean
  /** The server finishes by itself. */
  readonly endsFirst: boolean
  /** Answers that come before the peer finishes. */
  readonly toCome: number
  readonly codes: ReadonlySet<number>
}

const LINGER_SLACK = 60 * 1024
const key = (i: number, k: number, n: number) => `${i}.${k}:${n}`

/** On a stream, with its frame. */
export function wireOf(message: Message, isStream: boolean): Buffer {
  const payload = payloadOf(message)
  if (!isStream) return payload
  // Of a frame that is too large, the head says all.
  return 'refused' in message && message.refused === 'too large' ? framed(payload).subarray(0, 104) : framed(payload)
}

interface Done {
  readonly keys: readonly string[]
  readonly late: readonly string[]
  readonly ends: readonly ('end' | 'close' | 'throw' | 'abort')[]
  readonly codes: readonly number[]
}

/** What one message does. */
function done(message: Exclude<Message, { refused: unknown }>, isCareful: boolean): Done {
  const { i } = message
  const keys: string[] = []
  const late: string[] = []
  const ends: Done['ends'][number][] = []
  const codes: number[] = []
  for (const [k, step] of message.steps.entries()) {
    switch (step[0]) {
      case 'send':
      case 'item':
        keys.push(key(i, k, step[1]))
        break
      case 'late':
        late.push(key(i, k, step[2]))
        break
      case 'end':
        ends.push('end')
        codes.push(1000, 1005)
        break
      case 'close':
        ends.push('close')
        codes.push(...(step[1] === undefined ? [1000, 1005] : [Number(step[1])]))
        break
      case 'abort':
        ends.push('abort')
        return { keys, late, ends, codes }
      case 'throw':
        if (isCareful) keys.push(key(i, ERROR, 0))
        else {
          ends.push('throw')
          codes.push(1011)
        }
        return { keys, late, ends, codes }
    }
  }
  if (message.reply !== null && !message.mode.endsWith('iterable')) keys.push(key(i, REPLY, message.reply))
  return { keys, late, ends, codes }
}

export function expect(script: Script, isStream: boolean, receivedAtDrain?: number): Expected {
  const { messages, leave, isCareful } = script
  const isSerial = script.order === 'serial'
  const isDrained = receivedAtDrain !== undefined
  const wires = messages.map((message) => wireOf(message, isStream).length)
  const total = wires.reduce((sum, length) => sum + length, 0)
  const most = isStream && typeof leave === 'object' && 'half' in leave ? Math.floor(leave.half * total) : total
  const lanes: Lane[] = []
  const floating = new Map<string, boolean>()
  const codes = new Set<number>()
  let isLossy = typeof leave === 'object' && ('reset' in leave || 'resetAnswers' in leave || !isStream)
  let hasEnded = false
  let isOver = false
  let isTruncated = false
  let throws = false
  let closedAt = Number.POSITIVE_INFINITY
  let at = 0
  /** The server had not received it when its drain began. */
  let isLate = false
  const lane = (i: number, keys: readonly string[], isRequired: boolean) =>
    lanes.push({
      i,
      keys,
      required: isRequired && !isLate ? keys.length : 0,
      isWhole: isDrained && isRequired,
      isHoled: !isSerial && !isRequired,
    })
  // Order `concurrent`: behind an end it may be answered, as any other message.
  const sorry = () => {
    if (isCareful && !(isSerial && hasEnded)) lane(UNREAD, [key(UNREAD, ERROR, 0)], !hasEnded && !isOver)
  }
  const over = () => {
    isOver = true
    closedAt = Math.min(closedAt, at)
  }
  for (const [index, message] of messages.entries()) {
    if (isOver && isSerial) break
    const from = at
    at += wires[index] as number
    const isTooLarge = 'refused' in message && message.refused === 'too large'
    if (isTooLarge ? from + 4 > most : at > most) {
      isTruncated = from < most
      break
    }
    isLate = isDrained && at > receivedAtDrain
    if ('refused' in message) {
      sorry()
      if (isTooLarge || (!isCareful && isStream)) {
        over()
        break
      }
    } else {
      const { keys, late, ends, codes: own } = done(message, isCareful)
      // After our end everything is still handled, and nothing answered.
      const isSilent = isSerial && hasEnded
      if (!isSilent) lane(message.i, keys, !hasEnded && !isOver)
      for (const one of late) floating.set(one, true)
      if (ends.includes('abort')) isLossy = true
      if (ends.length > 0) hasEnded = true
      if (ends.includes('throw')) throws = true
      if (ends.includes('close') || ends.includes('throw')) over()
      for (const code of own) codes.add(code)
    }
  }
  if (isDrained) {
    floating.set(key(DRAIN, REPLY, 0), false)
    codes.add(1001)
    if (total - receivedAtDrain > LINGER_SLACK) isLossy = true
  }
  if (throws && !isSerial) for (const one of lanes) one.required = 0
  // What was discarded is not known to the byte.
  if (isOver && most - closedAt > LINGER_SLACK) isLossy = true
  const endsFirst = isOver || hasEnded || isDrained
  if (isTruncated && !(isSerial && isOver)) {
    // A drain ends what nobody has finished; it may be faster than the peer's end.
    isLate ||= isDrained
    sorry()
  } else if (!endsFirst && isCareful && isStream) lane(PEER_END, [key(PEER_END, REPLY, 0)], true)
  else if (isDrained || !isSerial) floating.set(key(PEER_END, REPLY, 0), false)
  const isSure = leave === 'done' && !endsFirst
  for (const one of floating.keys()) if (!isSure) floating.set(one, false)
  const toCome =
    lanes.reduce((sum, { i, required }) => sum + (i === PEER_END ? 0 : required), 0) +
    [...floating.values()].filter(Boolean).length
  if (!endsFirst) for (const code of [1000, 1005]) codes.add(code)
  return { lanes, floating, isSerial, isLossy, endsFirst, toCome, codes }
}

/** @returns what is wrong; undefined: all is well. */
export function judge(script: Script, isStream: boolean, seen: Seen): string | undefined {
  const expected = expect(script, isStream, seen.receivedAtDrain)
  const keys: string[] = []
  const floats = new Set<string>()
  for (const { i, k, n, isWhole } of seen.heard) {
    const own = key(i, k, n)
    if (!isWhole) return `the bytes of ${own} are not those that were sent`
    if (!expected.floating.has(own)) keys.push(own)
    else if (floats.has(own)) return `${own} came twice`
    else floats.add(own)
  }
  const wrong = expected.isSerial ? serial(expected, keys) : concurrent(expected, keys)
  if (wrong !== undefined) return wrong
  if (seen.isStuck) return `the peer waited in vain: ${missing(expected, keys, floats) ?? 'for the end'}`
  if (!expected.isLossy) {
    const gone = missing(expected, keys, floats)
    if (gone !== undefined) return gone
    if (seen.rest > 0) return `${seen.rest} bytes of a frame came without the rest`
    if (seen.end === 'reset' || seen.end === 'none') return `expected an orderly end, got ${seen.end}`
    if (typeof seen.end === 'number' && !expected.codes.has(seen.end))
      return `closed with ${seen.end}; expected ${[...expected.codes].join(' or ')}`
  }
  return undefined
}

/** Everything in order: so much of it as came is the beginning of the whole. */
function serial({ lanes, isLossy }: Expected, keys: readonly string[]): string | undefined {
  const whole = lanes.flatMap((one) => one.keys)
  for (const [at, own] of keys.entries()) {
    if (own !== whole[at]) return `answer ${at} is ${own}; expected ${whole[at] ?? 'no more'} (got ${keys.join(' ')})`
  }
  if (isLossy) return undefined
  let at = 0
  for (const one of lanes) {
    const came = Math.max(0, Math.min(one.keys.length, keys.length - at))
    if (one.isWhole && came > 0 && came < one.keys.length)
      return `of message ${one.i} came ${came} of ${one.keys.length} answers`
    at += one.keys.length
  }
  return undefined
}

/** Each message's answers in order. */
function concurrent({ lanes, isLossy }: Expected, keys: readonly string[]): string | undefined {
  const came = new Map<Lane, number>()
  for (const own of keys) {
    const lane = lanes.find((one) => {
      const next = came.get(one) ?? 0
      return one.isHoled ? one.keys.indexOf(own, next) >= 0 : one.keys[next] === own
    })
    if (lane === undefined) return `${own} was not to come, or not yet, or not again (got ${keys.join(' ')})`
    came.set(lane, lane.keys.indexOf(own, came.get(lane) ?? 0) + 1)
  }
  if (isLossy) return undefined
  for (const [lane, count] of came) {
    if (lane.isWhole && count < lane.keys.length)
      return `of message ${lane.i} came ${count} of ${lane.keys.length} answers`
  }
  return undefined
}

function missing(expected: Expected, keys: readonly string[], floats: ReadonlySet<string>): string | undefined {
  const left = new Map<string, number>()
  for (const own of keys) left.set(own, (left.get(own) ?? 0) + 1)
  for (const { i, keys: own, required } of expected.lanes) {
    for (const [at, one] of own.entries()) {
      const count = left.get(one) ?? 0
      if (count > 0) left.set(one, count - 1)
      else if (at < required) return `answer ${one} of message ${i} is missing (got ${keys.join(' ') || 'nothing'})`
    }
  }
  for (const [own, isRequired] of expected.floating) if (isRequired && !floats.has(own)) return `${own} is missing`
  return undefined
}
