/** The throttle gives bytes back: never to a link that flows, whatever the clock does between two readings (F104). */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Accounts } from '#src/core/accounts.js'
import type { Clock } from '#src/core/clock.js'
import { EventHub } from '#src/core/events.js'
import { defaultLimits, defaultTimeouts } from '#src/core/options.js'
import type { Link, LinkSink } from '#src/core/transport.js'
import { SharedTurns } from '#src/core/turns.js'
import { throttle } from '#src/plugins/layers/throttle.js'

/** Time goes on with each reading, as it does where a process is held up between two of them. */
class RestlessClock implements Clock {
  #time = 0
  readonly #timers = new Set<{ readonly due: number; readonly run: () => void }>()
  constructor(readonly stepMs: () => number) {}
  now(): number {
    this.#time += this.stepMs()
    return this.#time
  }
  after(delayMs: number, run: () => void) {
    const timer = { due: this.#time + delayMs, run }
    this.#timers.add(timer)
    return () => void this.#timers.delete(timer)
  }
  /** Runs the earliest timer. @returns false when there is none. */
  next(): boolean {
    const [first] = [...this.#timers].sort((a, b) => a.due - b.due)
    if (first === undefined) return false
    this.#timers.delete(first)
    this.#time = Math.max(this.#time, first.due)
    first.run()
    return true
  }
}

/** A link as Node's sockets are: what is given back while it flows is delivered at once, from within. */
class FlowingLink implements Link {
  state: unknown
  readonly buffered = 0
  readonly stable = true
  isPaused = false
  readonly #waiting: Uint8Array[] = []
  sink: LinkSink | undefined
  write(): boolean {
    return true
  }
  pause(): void {
    this.isPaused = true
  }
  resume(): void {
    this.isPaused = false
  }
  unread(bytes: Uint8Array): void {
    if (this.isPaused) this.#waiting.unshift(bytes)
    else this.sink?.data(this, bytes, 0, bytes.length)
  }
  end(): void {}
  abort(): void {}
  /** Delivers what waits while it flows. */
  pump(): boolean {
    if (this.isPaused) return false
    const next = this.#waiting.shift()
    if (next === undefined) return false
    this.sink?.data(this, next, 0, next.length)
    return true
  }
  comes(bytes: Uint8Array): void {
    this.#waiting.push(bytes)
  }
}

test('F104 bytes that are given back come behind those that came with them, whatever the clock says meanwhile', () => {
  const chunks = fc.array(fc.integer({ min: 1, max: 4_000 }), { minLength: 1, maxLength: 12 })
  const steps = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 50 })
  fc.assert(
    fc.property(
      chunks,
      steps,
      fc.integer({ min: 20_000, max: 400_000 }),
      fc.integer({ min: 1, max: 5_000 }),
      (sizes, ms, read, burst) => {
        let reading = 0
        const clock = new RestlessClock(() => ms[reading++ % ms.length] as number)
        const options = throttle.options?.['~standard'].validate({ read, burst }) as { value: never }
        const layer = throttle.create(options.value, {
          clock,
          events: new EventHub(),
          budget: new Accounts().at(''),
          turns: new SharedTurns(clock),
        })
        const heard: Buffer[] = []
        const above: LinkSink = {
          open: () => {},
          data: (_, buffer, start, end) => void heard.push(Buffer.from(buffer.subarray(start, end))),
          end: () => {},
          drain: () => {},
          close: () => {},
        }
        const link = new FlowingLink()
        link.sink = layer.wrap(above, {
          side: 'accepted',
          endpoint: 'tcp://127.0.0.1:1' as never,
          listener: 'test',
          kind: 'stream',
          limits: defaultLimits,
          timeouts: defaultTimeouts,
          tls: undefined,
        })
        link.sink.open(link)
        const sent = sizes.map((size, i) => Buffer.from(Array.from({ length: size }, (_, at) => (at * 7 + i) & 0xff)))
        for (const one of sent) link.comes(one)
        for (let turns = 0; turns < 100_000 && (link.pump() || clock.next()); turns++);
        assert.ok(Buffer.concat(heard).equals(Buffer.concat(sent)))
      },
    ),
    { numRuns: 1_000 },
  )
})

test.run()
