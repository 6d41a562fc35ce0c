import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BindError, ConnectionError } from '#src/core/errors.js'
import type { Capabilities, Link, LinkSink, Transport } from '#src/core/transport.js'
import { transportConformance } from '#src/testing/index.js'
import { createMemoryTransport, type MemoryOptions } from '#src/transports/memory.js'
import { collect } from './collecting-runner.js'

type Changes = {
  /** Changes what a sink is told. */
  sink?: (sink: LinkSink) => Partial<LinkSink>
  /** Changes a link before it is opened, in place. */
  link?: (link: Link, sink: LinkSink) => void
  transport?: (inner: Transport<MemoryOptions>) => Partial<Transport<MemoryOptions>>
}

/** Memory with a fault. */
function broken({ sink: changeSink, link: changeLink, transport: changeTransport }: Changes): Transport<MemoryOptions> {
  const inner = createMemoryTransport()
  const wrapped = (sink: LinkSink): LinkSink => {
    const base: LinkSink = {
      open(link) {
        changeLink?.(link, sink)
        sink.open(link)
      },
      data: (link, buffer, start, end) => sink.data(link, buffer, start, end),
      end: (link) => sink.end(link),
      drain: (link) => sink.drain(link),
      close: (link, error) => sink.close(link, error),
      fault: (error, remote) => sink.fault?.(error, remote),
    }
    return { ...base, ...changeSink?.(sink) }
  }
  const base: Transport<MemoryOptions> = {
    ...inner,
    listen: (endpoint, options, sink) => inner.listen(endpoint, options, wrapped(sink)),
    connect: (endpoint, options, sink, signal) => inner.connect!(endpoint, options, wrapped(sink), signal),
  }
  return { ...base, ...changeTransport?.(base) }
}

const declaring = (changes: Partial<Capabilities>) => (inner: Transport<MemoryOptions>) => ({
  capabilities: (...given: Parameters<typeof inner.capabilities>) => ({ ...inner.capabilities(...given), ...changes }),
})

const leaked: (() => void)[] = []
const later = (run: () => void) => void setImmediate(run)

const LEAVES = 'leaves-nothing-behind'

const faults: [string, Changes, readonly string[]][] = [
  ['no fault at all', {}, []],
  [
    'a byte lost after 500,000',
    {
      sink(sink) {
        const seen = new WeakMap<Link, number>()
        return {
          data(link, buffer, start, end) {
            const before = seen.get(link) ?? 0
            seen.set(link, before + end - start)
            const isHit = before < 500_000 && before + end - start >= 500_000
            sink.data(link, buffer, isHit ? start + 1 : start, end)
          },
        }
      },
    },
    ['bytes-whole-in-order', 'refused-write-taken'],
  ],
  [
    'a link that closes twice',
    {
      sink: (sink) => ({
        close(link, error) {
          sink.close(link, error)
          sink.close(link, error)
        },
      }),
    },
    ['open-first-close-once-last', 'end-and-abort-repeat', 'peer-gone-closes'],
  ],
  [
    'data after close',
    {
      sink: (sink) => ({
        close(link, error) {
          sink.close(link, error)
          later(() => sink.data(link, Buffer.from('x'), 0, 1))
        },
      }),
    },
    ['open-first-close-once-last', 'abort-inside-data', 'peer-gone-closes', 'write-after-abort-ignored'],
  ],
  [
    'half-close declared, and both sides closed when one ends',
    {
      sink: (sink) => ({
        end(link) {
          sink.end(link)
          link.end()
        },
      }),
    },
    ['half-close-by-connector', 'half-close-by-listener'],
  ],
  [
    'a pause that is only wished for',
    { link: (link) => Object.assign(link, { pause() {} }) },
    ['paused-reader-stops-writer', 'pause-stops-data', 'pause-inside-data', 'pause-inside-open'],
  ],
  [
    'data given from inside write',
    {
      link(link, sink) {
        const write = link.write.bind(link)
        link.write = (bytes) => {
          if (bytes.length === 32 * 1024) sink.drain(link)
          return write(bytes)
        }
      },
    },
    ['no-reentrant-calls'],
  ],
  [
    'a write that never says stop',
    {
      link(link) {
        const write = link.write.bind(link)
        link.write = (bytes) => {
          write(bytes)
          return true
        }
      },
    },
    ['paused-reader-stops-writer'],
  ],
  [
    'drain that is forgotten',
    { sink: () => ({ drain() {} }) },
    [
      'bytes-whole-in-order',
      'stable-buffers-stay',
      'buffered-returns-to-zero',
      'false-then-drain',
      'paused-reader-stops-writer',
      'half-close-by-connector',
      'half-close-by-listener',
      'paused-link-holds-no-other',
    ],
  ],
  [
    'drain that comes twice',
    {
      sink: (sink) => ({
        drain(link) {
          sink.drain(link)
          sink.drain(link)
        },
      }),
    },
    ['false-then-drain'],
  ],
  [
    'writes that are refused and dropped',
    {
      link(link) {
        const write = link.write.bind(link)
        link.write = (bytes) => {
          if (link.buffered < 64 * 1024) return write(bytes)
          return false
        }
      },
    },
    ['refused-write-taken', 'pause-stops-data', 'pause-inside-data', 'end-sends-what-was-written'],
  ],
  ['an abort that looks like an end', { sink: (sink) => ({ close: (link) => sink.close(link) }) }, ['abort-is-reset']],
  [
    "a reset shown as the platform's own error",
    { sink: (sink) => ({ close: (link, error) => sink.close(link, error && new Error('ECONNRESET')) }) },
    ['abort-is-reset'],
  ],
  [
    'an end that drops what waits',
    { link: (link) => Object.assign(link, { end: () => link.abort() }) },
    [
      'orderly-end-without-error',
      'half-close-by-connector',
      'half-close-by-listener',
      'end-sends-what-was-written',
      'end-is-heard',
      'end-inside-data',
      'write-after-end-ignored',
    ],
  ],
  [
    'an abort of one link that closes all',
    (() => {
      const links = new Set<Link>()
      return {
        link(link: Link) {
          links.add(link)
          const abort = link.abort.bind(link)
          link.abort = () => {
            abort()
            const others = [...links]
            links.clear()
            for (const other of others) other.abort()
          }
        },
      }
    })(),
    ['abort-is-reset', 'abort-harms-no-other'],
  ],
  [
    'a listener that ignores pause',
    {
      transport: (inner) => ({
        listen: async (...given) => Object.assign(await inner.listen(...given), { pause() {} }),
      }),
    },
    ['listener-pause-holds-newcomers', 'unbind-refuses-waiting'],
  ],
  [
    'an address that stays taken',
    {
      transport: (inner) => ({
        listen: async (...given) => Object.assign(await inner.listen(...given), { unbind: async () => {} }),
      }),
    },
    ['unbind-frees-address', 'unbind-opens-no-more', 'unbind-refuses-waiting', 'connect-to-nobody-refused'],
  ],
  [
    'unbind that closes the links',
    (() => {
      const links: Link[] = []
      return {
        link: (link: Link) => void links.push(link),
        transport: (inner: Transport<MemoryOptions>) => ({
          async listen(...given: Parameters<typeof inner.listen>) {
            const listener = await inner.listen(...given)
            const unbind = listener.unbind.bind(listener)
            return Object.assign(listener, {
              unbind() {
                for (const link of links.splice(0)) link.end()
                return unbind()
              },
            })
          },
        }),
      }
    })(),
    ['unbind-keeps-links'],
  ],
  [
    "the platform's own error for a taken address",
    {
      transport: (inner) => ({
        listen: (...given) =>
          inner.listen(...given).catch((error: BindError) => Promise.reject(new Error(error.message))),
      }),
    },
    ['bind-taken-address-in-use'],
  ],
  [
    'a signal that is not looked at',
    {
      transport: (inner) => ({
        connect: (endpoint, options, sink) => inner.connect!(endpoint, options, sink, new AbortController().signal),
      }),
    },
    ['connect-given-up-beforehand', 'connect-given-up-under-way'],
  ],
  [
    'a timeout where nobody listens',
    {
      transport: (inner) => ({
        connect: (...given) =>
          inner.connect!(...given).catch((error: ConnectionError) => {
            throw error.code === 'REFUSED' ? new ConnectionError('CONNECT_TIMEOUT', 'nobody answered') : error
          }),
      }),
    },
    ['connect-to-nobody-refused'],
  ],
  [
    'buffers said to be stable and used again',
    {
      sink(sink) {
        const own = Buffer.alloc(64 * 1024)
        return {
          data(link, buffer, start, end) {
            own.set(buffer.subarray(start, end))
            sink.data(link, own, 0, end - start)
          },
        }
      },
    },
    ['stable-buffers-stay'],
  ],
  [
    'state used by the transport',
    {
      sink: (sink) => ({
        data(link, buffer, start, end) {
          sink.data(link, buffer, start, end)
          link.state = 'mine'
        },
      }),
    },
    ['state-is-cores'],
  ],
  [
    'remote and local endpoints confused',
    { link: (link) => Object.assign(link, { remote: link.local }) },
    ['endpoints-crosswise'],
  ],
  ['a stream that calls itself unreliable', { transport: declaring({ reliable: false }) }, ['declaration-well-formed']],
  [
    'messages joined in one turn',
    { transport: declaring({ kind: 'message', maxMessageBytes: 65_507 }) },
    ['message-boundaries-kept', 'messages-of-one-turn-apart', 'empty-message-kept', 'oversized-message-not-cut'],
  ],
  [
    'a timer for each link that is never cleared',
    (() => {
      const timers: NodeJS.Timeout[] = []
      leaked.push(() => timers.forEach((timer) => clearTimeout(timer)))
      return { link: () => void timers.push(setTimeout(() => {}, 60_000)) }
    })(),
    ['leaves-nothing-behind'],
  ],
]

const run = async ([title, changes, expected]: (typeof faults)[number], isAlone: boolean) => {
  const subject = { name: title, transport: broken(changes), endpoint: 'memory:', timeoutMs: 4_000, quietMs: 20 }
  // That case looks at the whole process, so it means something only when nothing else runs.
  const skip = isAlone ? [] : [{ reason: 'others run at the same time', cases: [LEAVES] }]
  const { failed, reasons } = await collect((runner) => transportConformance({ ...subject, skip }, runner))
  for (const clear of leaked) clear()
  return { failed, expected, reasons: JSON.stringify(reasons, undefined, 1) }
}

const isAlone = ([title, , expected]: (typeof faults)[number]) =>
  title === 'no fault at all' || expected.includes(LEAVES)

for (const fault of faults.filter(isAlone)) {
  test(`the kit finds ${fault[0]}`, async () => {
    const { failed, expected, reasons } = await run(fault, true)
    assert.equal(failed, expected, reasons)
  })
}

// They wait much and compute little: together they take as long as the slowest.
let runs: Promise<Awaited<ReturnType<typeof run>>[]> | undefined
for (const [i, fault] of faults.filter((each) => !isAlone(each)).entries()) {
  test(`the kit finds ${fault[0]}`, async () => {
    runs ??= Promise.all(faults.filter((each) => !isAlone(each)).map((each) => run(each, false)))
    const { failed, expected, reasons } = (await runs)[i]!
    assert.equal(failed, expected, reasons)
  })
}

test.run()
