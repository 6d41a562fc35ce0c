/** The supervisor over processes that only say what they are told to: who is replaced, by how many, and when. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { EventHub, type EventName, eventNames } from '#src/core/events.js'
import { type DrainTimes, defaultDrain } from '#src/core/options.js'
import type { HeldSet, SocketHolder, SocketPort } from '#src/core/workers/holder.js'
import type { Planned } from '#src/core/workers/messages.js'
import { Supervisor } from '#src/core/workers/supervisor.js'
import type { Child, ChildSink } from '#src/core/workers/worker.js'
import { HandClock } from '../../../support/clock.js'

type Message = { readonly t: string; readonly [key: string]: unknown }

const planned = (count: number, drain: Partial<DrainTimes> = {}): Planned => ({
  wants: [],
  workers: { count },
  drain: { ...defaultDrain, timeoutMs: 5_000, ...drain },
  handlerMs: 700,
  companions: [],
  seed: undefined,
})
const pong = { connections: 3, heapShare: 0, counters: {}, figures: [] }

/** A process in the test's hand. */
class FakeChild implements Child {
  readonly pid: number
  readonly told: Message[] = []
  readonly sink: ChildSink
  killed: string | undefined
  isOver = false

  constructor(pid: number, sink: ChildSink) {
    this.pid = pid
    this.sink = sink
  }
  send(message: object, _handle: unknown, done: (error: Error | null) => void): void {
    this.told.push(message as Message)
    queueMicrotask(() => done(this.isOver ? new Error('gone') : null))
  }
  kill(signal: 'SIGKILL' | 'SIGTERM'): void {
    this.killed = signal
    setImmediate(() => this.exit(null, signal))
  }
  says(message: Message): void {
    this.sink.message(message, undefined)
  }
  exit(status: number | null, signal: string | null): void {
    if (this.isOver) return
    this.isOver = true
    this.sink.exit(status, signal)
  }
  /** As one that was told to drain, and did. */
  leaves(): void {
    this.says({ t: 'drained', ...pong, reports: {} })
    this.exit(0, null)
  }
  wasTold(what: string): boolean {
    return this.told.some(({ t }) => t === what)
  }
}

class FakeHolder implements SocketHolder {
  readonly seated = new Set<number>()
  async bind(): Promise<HeldSet> {
    return {
      endpoints: new Map(),
      equip: async (port) => port.send({ t: 'bound', sockets: [] }),
      seat: (port) => void this.seated.add((port as SocketPort & { pid: number }).pid),
    }
  }
  unseat(port: SocketPort): void {
    this.seated.delete((port as SocketPort & { pid: number }).pid)
  }
  retire(ports: readonly SocketPort[]): void {
    for (const port of ports) this.unseat(port)
  }
  keep(): void {}
  forget(): void {}
  keepOnly(): void {}
  changed(): void {}
  async finish(): Promise<void> {}
  suspend(): void {}
}

const turns = async (count = 6) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

function rig(count: number, drain: Partial<DrainTimes> = {}) {
  const clock = new HandClock()
  const children: FakeChild[] = []
  const holder = new FakeHolder()
  const events = new EventHub()
  const seen: { name: EventName; event: Record<string, unknown> }[] = []
  for (const name of eventNames) events.on(name, (event) => seen.push({ name, event: event as never }))
  const counters: Record<string, number> = {}
  const supervisor = new Supervisor({
    spawn(sink) {
      const child = new FakeChild(100 + children.length, sink)
      children.push(child)
      return child
    },
    warm() {},
    holder,
    clock,
    events,
    counters,
    args: [],
    isSuccessor: false,
    ticketKeys: () => new Uint8Array(48),
    probe: async () => {},
  })
  /** Until it serves. */
  const raise = async (child: FakeChild | undefined) => {
    child?.says({ t: 'planned', ...planned(count, drain) })
    await turns()
    child?.says({ t: 'ready', listeners: [] })
    await turns()
  }
  const start = async () => {
    const started = supervisor.start(count)
    await turns()
    await raise(children[0])
    for (let i = 1; i < count; i++) children[i]?.says({ t: 'planned', ...planned(count, drain) })
    await turns()
    for (let i = 1; i < count; i++) children[i]?.says({ t: 'ready', listeners: [] })
    await started
  }
  const living = () => children.filter(({ isOver }) => !isOver)
  const ends = () => seen.filter(({ name }) => name === 'worker.ended').map(({ event }) => event)
  const stop = async () => {
    const stopped = supervisor.stop({ timeoutMs: 0 })
    await turns()
    for (const child of living()) child.leaves()
    await stopped
  }
  return { clock, children, holder, supervisor, counters, seen, start, raise, living, ends, stop }
}

const dying: Message = { t: 'dying', error: { name: 'Error', message: 'no database' } }

test('one that dies of an error before it serves is started again once, not twice: they never multiply', async () => {
  const { children, supervisor, clock, start, living, stop } = rig(1)
  await start()
  children[0]?.exit(null, 'SIGKILL')
  await turns()
  assert.is(children.length, 2)
  // As a database that is down does it: an error nobody caught, while modules are loaded.
  for (let round = 0; round < 12; round++) {
    const fresh = living()
    assert.ok(fresh.length <= 1, `${fresh.length} at a time`)
    for (const child of fresh) {
      child.says(dying)
      child.exit(1, null)
    }
    await turns()
    if (living().length === 0) clock.advance(30_000)
    await turns()
  }
  assert.ok(children.length <= 15, `${children.length} were started`)
  assert.is(supervisor.isCrashing, true)
  await stop()
})

test('one of the old generation that dies while it drains is no crash of the present one', async () => {
  const { children, supervisor, counters, seen, start, raise, living, stop } = rig(1)
  await start()
  const reloading = supervisor.reload()
  await turns()
  await raise(children[1])
  await reloading
  for (let i = 0; i < 6; i++) {
    children[0]?.says(dying)
    await turns()
  }
  children[0]?.exit(1, null)
  await turns()
  assert.is(children.length, 2, 'nobody takes the place of one that was leaving')
  assert.is(counters['workers.crash-loop'], undefined)
  assert.is(seen.filter(({ name }) => name === 'workers.crashing').length, 0)
  assert.is(living().length, 1)
  await stop()
})

test('one that says during a reload that it dies, although it was proved, gets no connections', async () => {
  const { children, supervisor, holder, start, raise, stop } = rig(2)
  await start()
  const reloading = supervisor.reload()
  await turns()
  await raise(children[2])
  // The other new one is still loading.
  children[2]?.says(dying)
  await turns()
  await raise(children[3])
  await reloading
  await turns()
  assert.not(holder.seated.has(102), 'it leaves')
  assert.ok(holder.seated.has(103))
  assert.is(children.length, 5, 'another one takes its place')
  await raise(children[4])
  assert.equal([...holder.seated].sort(), [103, 104])
  await stop()
})

test('one that crashes while it drains is lost, and the reason is said', async () => {
  const { children, supervisor, counters, start, raise, ends, stop } = rig(1)
  await start()
  children[0]?.says({ t: 'pong', ...pong })
  const reloading = supervisor.reload()
  await turns()
  await raise(children[1])
  await reloading
  children[0]?.exit(null, 'SIGSEGV')
  await turns()
  const [{ reason, connections } = {}] = ends()
  assert.equal([reason, connections], ['SIGSEGV', 3])
  assert.is(counters['workers.lost'], 1)
  assert.is(children.length, 2)
  await stop()
  assert.is(ends().at(-1)?.reason, 'drained')
  assert.is(counters['workers.lost'], 1)
})

test('a slot is filled by one at a time, whoever asks for it', async () => {
  const { children, supervisor, start, living, raise, stop } = rig(2)
  await start()
  children[1]?.exit(null, 'SIGKILL')
  await turns()
  // A reload that fails meanwhile changes nothing.
  const reloading = supervisor.reload().catch((error: Error) => error)
  await turns()
  children[3]?.says({ t: 'failed', error: { name: 'Error', message: 'bad' } })
  children[3]?.exit(1, null)
  assert.match(String(await reloading), /bad/)
  await turns()
  assert.equal(
    living().map(({ pid }) => pid),
    [100, 102],
  )
  await raise(children[2])
  assert.equal(
    supervisor.workers.map(({ pid, state }) => [pid, state]),
    [
      [100, 'ready'],
      [102, 'ready'],
    ],
  )
  await stop()
})

const drains = (child: FakeChild | undefined) => child?.told.filter(({ t }) => t === 'drain') ?? []

test('F113 a reload leaves the old generation its connections for drain.reloadMs, and then drains it as RELOADED', async () => {
  const { children, supervisor, clock, start, raise, stop, ends } = rig(1, { reloadMs: 60_000, jitterMs: 40 })
  await start()
  const reloading = supervisor.reload()
  await turns()
  await raise(children[1])
  await reloading
  assert.equal(drains(children[0]), [{ t: 'drain', serveMs: 60_000, timeoutMs: 5_000, jitterMs: 40, code: 'RELOADED' }])
  assert.equal(supervisor.before, [1])
  // It is asked for signs of life as those that serve are, and may be silent once it ends its last connections.
  clock.advance(1_000)
  assert.ok(children[0]?.wasTold('ping'))
  for (let i = 0; i < 63; i++) {
    for (const child of i < 61 ? children : children.slice(1)) child.says({ t: 'pong', ...pong })
    clock.advance(1_000)
  }
  assert.is(children[0]?.killed, undefined)
  clock.advance(5_000)
  await turns()
  assert.is(ends()[0]?.reason, 'not drained')
  await stop()
})

test('F113 a worker that hangs while it serves its last connections is given up', async () => {
  const { children, supervisor, clock, start, raise, stop, ends } = rig(1)
  await start()
  const reloading = supervisor.reload()
  await turns()
  await raise(children[1])
  await reloading
  for (let i = 0; i < 8; i++) {
    children[1]?.says({ t: 'pong', ...pong })
    clock.advance(1_000)
  }
  await turns()
  assert.is(ends()[0]?.reason, 'stuck')
  await stop()
})

test('F113 reloads that are asked for while one runs are one further reload', async () => {
  const { children, supervisor, seen, start, raise, stop } = rig(1)
  await start()
  const asked = Array.from({ length: 60 }, () => supervisor.reload())
  await turns()
  assert.is(children.length, 2)
  await raise(children[1])
  await asked[0]
  await turns()
  assert.is(children.length, 3, 'and one more')
  await raise(children[2])
  await Promise.all(asked)
  await turns()
  assert.is(children.length, 3)
  assert.is(seen.filter(({ name }) => name === 'reload.started').length, 2)
  // Of one that fails all are told who have asked for it, and the next one is a new one.
  const failing = [1, 2, 3].map(() => supervisor.reload().catch((error: Error) => error.message))
  await turns()
  for (const index of [3, 4]) {
    children[index]?.says({ t: 'failed', error: { name: 'Error', message: `bad ${index}` } })
    children[index]?.exit(1, null)
    await turns()
  }
  const said = await Promise.all(failing)
  assert.match(String(said[0]), /bad 3/)
  assert.match(String(said[1]), /bad 4/)
  assert.is(said[1], said[2])
  await stop()
})

test('F113 at most two generations drain beside the one that serves; a third ends the oldest at once, with time for what it reads', async () => {
  const { children, supervisor, start, raise, living, stop } = rig(1)
  await start()
  for (let i = 1; i <= 3; i++) {
    const reloading = supervisor.reload()
    await turns()
    await raise(children[i])
    await reloading
  }
  assert.equal(
    children.slice(0, 3).map((child) => drains(child).length),
    [2, 1, 1],
  )
  assert.equal(drains(children[0])[1], { t: 'drain', timeoutMs: 700, code: 'RELOADED' })
  // As long as that one is there no other generation is begun.
  const reloading = supervisor.reload()
  await turns()
  assert.is(children.length, 4)
  assert.is(living().length, 4)
  children[0]?.leaves()
  await turns()
  assert.is(children.length, 5)
  await raise(children[4])
  await reloading
  assert.is(living().length, 4)
  assert.is(drains(children[1]).length, 2)
  await stop()
})

test('F113 a worker that does not come to an end of loading is given up for the next reload, and only for that', async () => {
  const { children, supervisor, clock, start, raise, seen, stop } = rig(1)
  await start()
  const first = supervisor.reload().catch((error: Error) => error)
  await turns()
  children[0]?.says({ t: 'pong', ...pong })
  clock.advance(1_000)
  assert.is(children[1]?.killed, undefined, 'nobody waits')
  const second = supervisor.reload()
  await turns()
  assert.is(children[1]?.killed, undefined, 'it may be about to be ready')
  children[0]?.says({ t: 'pong', ...pong })
  clock.advance(1_500)
  await turns()
  assert.is(children[1]?.killed, 'SIGKILL')
  assert.match(String(await first), /still loading after \d+ ms, and another reload was asked for/)
  await raise(children[2])
  await second
  assert.is(seen.filter(({ name }) => name === 'reload.finished').length, 1)
  await stop()
})

test('a stop may wait: not ready, and newcomers are still let in; a sooner one is not made to wait', async () => {
  const { children, supervisor, holder, clock, start, seen, living } = rig(1, { delayMs: 60_000 })
  await start()
  const stopped = supervisor.stop()
  await turns()
  assert.is(supervisor.state, 'draining')
  assert.ok(holder.seated.has(100))
  for (let i = 0; i < 59; i++) {
    children[0]?.says({ t: 'pong', ...pong })
    clock.advance(1_000)
  }
  await turns()
  assert.ok(holder.seated.has(100))
  assert.is(seen.filter(({ name }) => name === 'drain.started').length, 0)
  void supervisor.stop({ timeoutMs: 3_000, delayMs: 0 })
  await turns()
  assert.not(holder.seated.has(100))
  assert.equal(drains(children[0]), [{ t: 'drain', timeoutMs: 3_000 }])
  for (const child of living()) child.leaves()
  await stopped
})

test.run()
