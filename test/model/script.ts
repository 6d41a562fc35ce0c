/**
 * A script: one connection's life, drawn from a seed, and how it is made smaller.
 */
import { createRandom, type Random } from 'gaidaros/testing'
import { type Mode, padOf, SPOILT, type Step } from '../fixtures/model-handlers.js'

/** What a peer sends. */
export type Message =
  | {
      readonly i: number
      readonly mode: Mode
      readonly steps: readonly Step[]
      readonly reply: number | null
      readonly n: number
    }
  /** Whole, and no JSON. */
  | { readonly i: number; readonly refused: 'garbage' }
  /** Longer than `frameBytes`: its head says so. */
  | { readonly i: number; readonly refused: 'too large' }

/** How a peer leaves: when it has seen all; its side or both after a share of its bytes, or after so many answers. */
export type Leave = 'done' | { readonly half: number } | { readonly reset: number } | { readonly resetAnswers: number }

/** What happens to the server, when the peer has sent a share of its bytes. */
export interface ServerEvent {
  readonly kind: 'drain' | 'reload'
  readonly share: number
}

export interface Script {
  readonly messages: readonly Message[]
  readonly order: 'serial' | 'concurrent'
  /** The handler has `@OnError`, `@OnPeerEnd` and `@OnDrain`. */
  readonly isCareful: boolean
  /** Where the bytes are cut: 0: nowhere; else pieces of this size on average, with a turn or a wait behind some. */
  readonly cut: { readonly seed: number; readonly mean: number }
  readonly reading: 'eager' | 'slow' | 'late'
  readonly leave: Leave
  readonly event?: ServerEvent | undefined
}

/** What kind of scripts a group draws. */
export interface Drawing {
  readonly isStream: boolean
  readonly event?: ServerEvent['kind']
}

export const FRAME_BYTES = 256 * 1024
const LARGE_BYTES = FRAME_BYTES + 1

function size(random: Random): number {
  const dice = random.below(100)
  if (dice < 15) return 0
  if (dice < 65) return random.between(1, 300)
  if (dice < 78) return 16 * 1024 + random.between(-40, 3)
  if (dice < 91) return 64 * 1024 + random.between(-40, 3)
  return random.between(0, 200_000)
}

const modes: readonly Mode[] = ['sync', 'async', 'iterable', 'async iterable']

function drawSteps(random: Random, mode: Mode, ender: Step | undefined): Step[] {
  const isIterable = mode.endsWith('iterable')
  const mayWait = mode.startsWith('async')
  const steps: Step[] = []
  const count = random.below(5)
  for (let at = 0; at < count; at++) {
    const dice = random.below(100)
    if (isIterable && dice < 60) steps.push(['item', size(random)])
    else if (dice < 70)
      steps.push(mayWait && random.chance(0.5) ? ['send', size(random), true] : ['send', size(random)])
    else if (dice < 90) {
      if (mayWait) steps.push(['wait', random.pick([0, 0, 0, 1, 5])])
    } else if (dice < 95) steps.push(['pause', random.between(0, 5)])
    else steps.push(['late', random.between(0, 8), random.between(0, 300)])
  }
  if (ender !== undefined) {
    steps.splice(random.below(steps.length + 1), 0, ender)
    if (random.chance(0.15))
      steps.splice(random.below(steps.length + 1), 0, random.pick<Step>([['end'], ['close'], ['throw']]))
  }
  return steps
}

export function draw(random: Random, { isStream, event }: Drawing): Script {
  const count = random.between(1, 8)
  const endsAt = random.chance(0.45) ? random.below(count) : -1
  const ender = random.pick<Step>([
    ['end'],
    ['end'],
    ['close'],
    ['close'],
    ['close', '4001'],
    ['throw'],
    ['throw'],
    ['abort'],
  ])
  const messages: Message[] = []
  for (let i = 0; i < count; i++) {
    const dice = random.below(100)
    if (dice < 4) messages.push({ i, refused: 'garbage' })
    else if (dice < 6 && isStream) messages.push({ i, refused: 'too large' })
    else {
      const mode = random.pick(modes)
      const steps = drawSteps(random, mode, i === endsAt || random.chance(0.04) ? ender : undefined)
      const reply = mode.endsWith('iterable') || random.chance(0.2) ? null : size(random)
      messages.push({ i, mode, steps, reply, n: random.chance(0.5) ? 0 : size(random) })
    }
  }
  const leaving = random.below(100)
  const share = random.between(0, 1_000) / 1_000
  // A peer that leaves by itself beside an event of the server would leave little to be said.
  const mayLeave = event === undefined || random.chance(0.2)
  return {
    messages,
    order: random.chance(0.5) ? 'serial' : 'concurrent',
    isCareful: random.chance(0.5),
    cut: { seed: random.next(), mean: random.pick([0, 0, 3, 100, 1_000, 16_384, 65_536]) },
    reading: random.pick(['eager', 'eager', 'slow', 'late']),
    leave: !mayLeave
      ? 'done'
      : leaving < 40
        ? 'done'
        : leaving < 55
          ? { half: 1 }
          : leaving < 75 && isStream
            ? { half: share }
            : leaving < 85
              ? { reset: share }
              : leaving < 92
                ? { resetAnswers: random.below(5) }
                : 'done',
    event: event === undefined ? undefined : { kind: event, share: random.between(0, 1_000) / 1_000 },
  }
}

/** Seeds of scripts are shown, and given back by `MODEL_SEED`. */
export const scriptOf = (seed: number | string, drawing: Drawing): Script => draw(createRandom(seed), drawing)

/** A message as it goes over the wire, without its frame. */
export function payloadOf(message: Message): Buffer {
  if ('refused' in message) {
    return message.refused === 'garbage' ? Buffer.from(`{no json ${message.i}`) : Buffer.alloc(LARGE_BYTES, 0x20)
  }
  return Buffer.from(JSON.stringify({ ...message, pad: padOf(message.i, SPOILT, message.n) }))
}

/** As `length-field` frames it by default. */
export function framed(payload: Buffer): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(payload.length)
  return Buffer.concat([head, payload])
}

/** Smaller scripts, those first that leave out most. */
export function* smaller(script: Script): Generator<Script> {
  const { messages } = script
  const halves = Math.ceil(messages.length / 2)
  if (messages.length > 2) {
    yield { ...script, messages: messages.slice(0, halves) }
    yield { ...script, messages: messages.slice(halves) }
  }
  for (const one of messages)
    if (messages.length > 1) yield { ...script, messages: messages.filter((other) => other !== one) }
  if (script.cut.mean !== 0) yield { ...script, cut: { seed: 0, mean: 0 } }
  if (script.reading !== 'eager') yield { ...script, reading: 'eager' }
  if (script.leave !== 'done') yield { ...script, leave: 'done' }
  if (typeof script.leave === 'object' && 'half' in script.leave && script.leave.half !== 1)
    yield { ...script, leave: { half: 1 } }
  if (script.isCareful) yield { ...script, isCareful: false }
  if (script.order === 'concurrent') yield { ...script, order: 'serial' }
  for (const message of messages) {
    if ('refused' in message) continue
    const put = (other: Message): Script => ({
      ...script,
      messages: messages.map((one) => (one === message ? other : one)),
    })
    for (const step of message.steps) yield put({ ...message, steps: message.steps.filter((other) => other !== step) })
    if (message.n > 0) yield put({ ...message, n: 0 })
    if (message.reply !== null && message.reply > 0) yield put({ ...message, reply: 0 })
    if (message.mode !== 'sync' && !message.steps.some(([what]) => what === 'item')) {
      yield put({ ...message, mode: 'sync', steps: message.steps.filter(([what]) => what !== 'wait') })
    }
    for (const step of message.steps) {
      const small = smallerStep(step)
      if (small !== undefined)
        yield put({ ...message, steps: message.steps.map((one) => (one === step ? small : one)) })
    }
  }
}

function smallerStep(step: Step): Step | undefined {
  if ((step[0] === 'send' || step[0] === 'item') && (step[1] > 0 || step[2] === true)) return [step[0], 0]
  if (step[0] === 'late' && step[2] > 0) return ['late', step[1], 0]
  return undefined
}

/** In one line a message. */
export function shown(script: Script): string {
  const { messages, ...rest } = script
  return [
    JSON.stringify(rest),
    ...messages.map((message) =>
      'refused' in message
        ? `  ${message.i}: a frame that is ${message.refused}`
        : `  ${message.i}: ${message.mode}, ${message.n} bytes, steps ${JSON.stringify(message.steps)}, reply ${message.reply ?? 'none'}`,
    ),
  ].join('\n')
}
