/**
 * Plays scripts against a server, judges them, and looks for the shortest script that fails as well.
 */
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import { createRandom } from 'gaidaros/testing'
import { type Answer, padOf } from '../fixtures/model-handlers.js'
import { expect, type Heard, judge, type Seen, wireOf } from './expect.js'
import { open, type Where, type WirePeer } from './peers.js'
import { type Drawing, type Script, scriptOf, shown, smaller } from './script.js'

/** A server that scripts are played against. */
export interface Target {
  readonly isStream: boolean
  /** Where the handler for a script of this kind is listened for. */
  where(script: Script): Where
  /** Does to the server what the script says. @returns bytes received by then, where it drains. */
  event?(script: Script): number | undefined
  stop(): Promise<void>
}

/** A peer waits no longer: a machine with too much to do is no fault of the server. */
const PATIENCE_MS = Number(process.env.MODEL_PATIENCE_MS ?? 40_000)
/** Of a script that failed already. */
const SHORT_PATIENCE_MS = 4_000
const SHRINKING_MS = 20_000

/** Plays one script over one connection. */
export async function play(script: Script, target: Target, patienceMs = PATIENCE_MS): Promise<Seen> {
  const { isStream } = target
  const heard: Heard[] = []
  let rest: Buffer = Buffer.alloc(0)
  let isEnded = false
  let end: Seen['end'] = 'none'
  let receivedAtDrain: number | undefined
  let wake: () => void = () => {}
  const changed = () => wake()
  let isOver = false
  let peer: WirePeer | undefined
  let isPaused = false
  const take = (bytes: Buffer) => {
    if (isStream) {
      rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
      while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
        const length = rest.readUInt32BE(0)
        heard.push(heardOf(rest.subarray(4, 4 + length)))
        rest = rest.subarray(4 + length)
      }
    } else heard.push(heardOf(bytes))
    if (script.reading === 'slow' && !isPaused) {
      isPaused = true
      peer?.pause()
      setTimeout(() => {
        isPaused = false
        peer?.resume()
      }, 2)
    }
    changed()
  }
  peer = await open(target.where(script), {
    data: take,
    end() {
      isEnded = true
      if (end === 'none') end = 'fin'
      changed()
    },
    close(isCut, code) {
      isOver = true
      if (code !== undefined && code !== 1006) end = code
      else if (isCut && end === 'none') end = 'reset'
      changed()
    },
  })
  const link = peer
  if (script.reading === 'late') {
    link.pause()
    setTimeout(() => link.resume(), 30)
  }
  const until = async (isSo: () => boolean): Promise<boolean> => {
    const timer = setInterval(changed, 250)
    try {
      while (!isSo()) {
        if (performance.now() >= deadline) return false
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      return true
    } finally {
      clearInterval(timer)
    }
  }
  const deadline = performance.now() + patienceMs
  const { leave, event } = script
  const sending = { bytes: 0 }
  const isDone = () => isOver || isEnded
  await send(script, link, isStream, sending, isDone, (share) => {
    if (event === undefined || receivedAtDrain !== undefined || share < event.share) return
    receivedAtDrain = target.event?.(script)
  })
  let isStuck = false
  if (typeof leave === 'object' && 'reset' in leave) link.reset()
  else if (typeof leave === 'object' && 'resetAnswers' in leave) {
    await until(() => isDone() || heard.length >= Math.min(leave.resetAnswers, expect(script, isStream).toCome))
    link.reset()
  } else {
    if (leave === 'done') {
      const { toCome, endsFirst } = expect(script, isStream, receivedAtDrain)
      isStuck = !(await until(() => isDone() || (!endsFirst && heard.length >= toCome)))
    }
    link.end()
  }
  if (!isStuck) isStuck = !(await until(() => isOver))
  if (isStuck) link.reset()
  return { heard, rest: rest.length, end, isStuck, receivedAtDrain }
}

function heardOf(payload: Buffer): Heard {
  try {
    const { i, k, n, pad } = JSON.parse(payload.toString()) as Answer
    return { i, k, n, isWhole: pad === padOf(i, k, n) }
  } catch {
    return { i: Number.NaN, k: Number.NaN, n: payload.length, isWhole: false }
  }
}

/** Sends what the script says, cut where it says. */
async function send(
  { messages, cut, leave }: Script,
  link: WirePeer,
  isStream: boolean,
  sending: { bytes: number },
  isDone: () => boolean,
  progress: (share: number) => void,
): Promise<void> {
  const random = createRandom(cut.seed)
  const wires = messages.map((message) => wireOf(message, isStream))
  const total = wires.reduce((sum, { length }) => sum + length, 0)
  const share = typeof leave === 'object' ? ('half' in leave ? leave.half : 'reset' in leave ? leave.reset : 1) : 1
  const most = Math.floor(share * total)
  // Small pieces of a large message would take longer than they teach.
  const mean = cut.mean === 0 ? 0 : Math.max(cut.mean, Math.ceil(total / 200))
  progress(0)
  for (const wire of isStream && mean === 0 ? [Buffer.concat(wires)] : wires) {
    for (let at = 0; at < wire.length; ) {
      if (isDone() || sending.bytes >= most) return
      const length = Math.min(
        mean === 0 ? wire.length : random.between(1, mean * 2),
        wire.length - at,
        most - sending.bytes,
      )
      link.write(wire.subarray(at, at + length), at + length === wire.length)
      at += length
      sending.bytes += length
      const dice = mean === 0 ? 0 : random.below(100)
      if (dice >= 95) await wait(1)
      else if (dice >= 50) await turn()
      progress(sending.bytes / total)
    }
  }
  progress(1)
}

export interface Failure {
  readonly seed: string
  readonly what: string
  readonly script: Script
  readonly shortest: Script
  readonly shortestWhat: string
}

export function failureText({ seed, what, shortest, shortestWhat }: Failure): string {
  return `seed ${seed}: ${what}\nshortest found: ${shortestWhat}\n${shown(shortest)}`
}

/** @returns what is wrong with one script; undefined: nothing. */
export async function tried(script: Script, target: Target, patienceMs?: number): Promise<string | undefined> {
  try {
    return judge(script, target.isStream, await play(script, target, patienceMs))
  } catch (error) {
    return `the script could not be played: ${(error as Error).message}`
  }
}

/** Leaves out of a script what it fails without. @param fresh - A target for each try, where a script uses one up. */
export async function shrink(script: Script, what: string, attempt: (script: Script) => Promise<string | undefined>) {
  const until = performance.now() + SHRINKING_MS
  let found = { script, what }
  for (let isSmaller = true; isSmaller && performance.now() < until; ) {
    isSmaller = false
    for (const candidate of smaller(found.script)) {
      if (performance.now() > until) break
      const still = await attempt(candidate)
      if (still === undefined) continue
      found = { script: candidate, what: still }
      isSmaller = true
      break
    }
  }
  return found
}

export interface Group {
  readonly name: string
  readonly drawing: Drawing
  /** Scripts that are played at a time. */
  readonly atOnce?: number
  /** Failures after which no more is played. Default: 1. */
  readonly mostFailures?: number
  /** Leaves out of a script what the group does without. */
  without?(script: Script): Script
  /** A target for a script of its own; stopped behind it. */
  fresh?(): Promise<Target>
}

/** Plays so many scripts of a group. @param target - Shared by all; without it `fresh` makes one for each. */
export async function playMany(
  group: Group,
  seed: string,
  count: number,
  target: Target | undefined,
  progress: (done: number) => void = () => {},
): Promise<readonly Failure[]> {
  const failures: Failure[] = []
  let next = 0
  const once = async (script: Script, patienceMs?: number) => {
    const own = target ?? (await (group.fresh as NonNullable<Group['fresh']>)())
    const wrong = await tried(script, own, patienceMs)
    if (target === undefined) await own.stop()
    return wrong
  }
  const lane = async () => {
    while (next < count && failures.length < (group.mostFailures ?? 1)) {
      const own = `${seed}/${next++}`
      const drawn = scriptOf(own, group.drawing)
      const script = group.without?.(drawn) ?? drawn
      const what = await once(script)
      progress(next)
      if (what === undefined) continue
      if (failures.length >= (group.mostFailures ?? 1)) continue
      const failure = { seed: own, what, script, shortest: script, shortestWhat: what }
      failures.push(failure)
      const shortest = await shrink(script, what, (one) => once(one, SHORT_PATIENCE_MS))
      Object.assign(failure, { shortest: shortest.script, shortestWhat: shortest.what })
    }
  }
  await Promise.all(Array.from({ length: group.atOnce ?? 6 }, lane))
  return failures
}
