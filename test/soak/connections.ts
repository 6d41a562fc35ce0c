/** Long runs over one server, and over four: connections that come and go, are slow, are deaf, or are only there. */
import { readFileSync } from 'node:fs'
import { killAll } from '../support/command.js'
import { Folder, Serving } from '../support/workers.js'
import { Clients } from './clients.js'
import type { Figure } from './run.js'
import { subject, type Usage } from './subject.js'

const MiB = 1024 * 1024
const mib = (bytes: number) => `${(bytes / MiB).toFixed(1)} MiB`
const whole = (count: number) => count.toLocaleString('en-US')
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const stood = ({ stillMs, workedMs }: Usage): Figure => ({
  what: 'the event loop stood still for at most, and worked meanwhile',
  seen: `${stillMs} ms, ${workedMs} ms`,
  goal: 'under 200 ms',
  isMet: stillMs < 200,
})

export async function cycles(isQuick: boolean): Promise<readonly Figure[]> {
  const count = isQuick ? 20_000 : 2_000_000
  const server = await subject({})
  const run = async (some: number) => {
    const clients = new Clients('cycles', server.port, some)
    const outcome = await clients.next<{ count: number; failed: number }>()
    clients.end()
    return outcome
  }
  // What is made once is made by then.
  await run(count / 10)
  await pause(500)
  const before = await server.usage()
  const { failed } = await run(count)
  await pause(500)
  const after = await server.usage()
  await server.stop()
  const grown = after.heapBytes - before.heapBytes
  const balance = (after.counters.opened ?? 0) - (after.counters.closed ?? 0)
  return [
    {
      what: `${whole(count)} times connect, echo, close: failed`,
      seen: whole(failed),
      goal: '0',
      isMet: failed === 0,
    },
    { what: 'heap grown, after collection', seen: mib(grown), goal: 'under 1 MB', isMet: grown < 1e6 },
    {
      what: 'descriptors before and after',
      seen: `${before.descriptors}, ${after.descriptors}`,
      goal: 'equal',
      isMet: before.descriptors === after.descriptors,
    },
    { what: 'opened less closed', seen: whole(balance), goal: '0', isMet: balance === 0 },
    stood(after),
  ]
}

export async function slow(isQuick: boolean): Promise<readonly Figure[]> {
  const count = isQuick ? 1_000 : 10_000
  const server = await subject({ limits: { connections: 12_000 }, timeouts: { frameMs: isQuick ? 4_000 : 15_000 } })
  const honest = new Clients('honest', server.port, 50)
  await honest.next()
  const stretch = async (ms: number) => {
    await pause(ms)
    const answer = honest.next<{ count: number; failed: number; p99: number }>()
    honest.tell('end of stretch')
    return answer
  }
  await stretch(2_000)
  const quiet = await stretch(isQuick ? 2_000 : 6_000)
  const clients = new Clients('slow', server.port, count)
  const { open } = await clients.next<{ open: number }>()
  // Its collections would be taken for the slow ones' doing.
  await server.usage()
  await stretch(0)
  const under = await stretch(isQuick ? 2_000 : 8_000)
  const usage = await server.usage()
  let left = open
  for (const until = performance.now() + 40_000; left > 0 && performance.now() < until; ) {
    await pause(500)
    const answer = clients.next<{ open: number }>()
    clients.tell('how many')
    left = (await answer).open
  }
  for (const all of [honest, clients]) all.end()
  await server.stop()
  return [
    {
      what: `${whole(open)} peers that send a byte in five seconds: p99 of 50 honest ones, before and under them`,
      seen: `${quiet.p99.toFixed(1)} ms, ${under.p99.toFixed(1)} ms`,
      goal: 'under twice',
      isMet: under.p99 < Math.max(2 * quiet.p99, 5),
    },
    { what: 'honest ones not answered', seen: whole(under.failed), goal: '0', isMet: under.failed === 0 },
    { what: 'slow ones left after the frame deadline', seen: whole(left), goal: '0', isMet: left === 0 },
    {
      what: 'resident memory under them',
      seen: mib(usage.residentBytes),
      goal: 'under 250 MiB',
      isMet: usage.residentBytes < 250 * MiB,
    },
    stood(usage),
  ]
}

export async function deaf(isQuick: boolean): Promise<readonly Figure[]> {
  const count = isQuick ? 100 : 1_000
  const server = await subject({ reply: { bytes: 16 * 1024 } })
  const before = await server.usage()
  const clients = new Clients('deaf', server.port, count)
  await clients.next()
  await pause(isQuick ? 2_000 : 10_000)
  const after = await server.usage()
  clients.end()
  await server.stop()
  const cost = after.residentBytes - before.residentBytes
  return [
    {
      what: `${whole(count)} peers that ask for 10 MB each and never read: resident memory`,
      seen: `${mib(cost)} more`,
      goal: 'under 256 MiB',
      isMet: cost < 256 * MiB,
    },
    stood(after),
  ]
}

export async function watermark(isQuick: boolean): Promise<readonly Figure[]> {
  const lines = isQuick ? 10_240 : 102_400
  const high = 16 * 1024
  const server = await subject({
    limits: { writeHighBytes: high, writeLowBytes: 4 * 1024 },
    reply: { lines },
  })
  const clients = new Clients('reader', server.port, lines * 1_024)
  const { got } = await clients.next<{ got: number }>()
  const usage = await server.usage()
  clients.end()
  await server.stop()
  return [
    {
      what: `${mib(lines * 1_024)} through a mark of 16 KiB: most that waited`,
      seen: `${whole(usage.mostHeld)} B of ${mib(got)}`,
      goal: 'at most 32,768 B',
      isMet: usage.mostHeld <= 2 * high && got === lines * 1_024,
    },
    stood(usage),
  ]
}

export async function idle(isQuick: boolean): Promise<readonly Figure[]> {
  const [count, workers, holdMs] = isQuick ? [2_000, 2, 1_000] : [50_000, 4, 60_000]
  const folder = new Folder()
  const handler = folder.write('echo.mjs', 'export default (line) => line')
  const settings = {
    listen: 'tcp://0.0.0.0:0',
    workers: { count: workers, balance: 'kernel' },
    handler,
    limits: { connections: 18_000 },
  }
  const config = folder.write('idle.json', settings)
  const serving = await Serving.start(folder, ['--config', config], { limitMs: 600_000 })
  const pids = [serving.command.child.pid as number, ...(await serving.pids())]
  const resident = () =>
    pids.reduce(
      (sum, pid) => sum + 1_024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]),
      0,
    )
  const before = resident()
  const began = performance.now()
  const all = Array.from({ length: 4 }, () => new Clients('idle', serving.port, count / 4))
  await Promise.all(all.map((clients) => clients.next()))
  const rampMs = performance.now() - began
  await pause(holdMs)
  const cost = (resident() - before) / count
  const outcomes = all.map((clients) => clients.next<{ answered: number; gone: number; ms: number }>())
  for (const clients of all) clients.tell('speak')
  const said = await Promise.all(outcomes)
  const answered = said.reduce((sum, one) => sum + one.answered, 0)
  const gone = said.reduce((sum, one) => sum + one.gone, 0)
  const { workers: list } = await serving.status()
  for (const clients of all) clients.end()
  await serving.stop()
  killAll()
  folder.remove()
  return [
    {
      what: `${whole(count)} connections over ${workers} workers, held ${holdMs / 1_000} s: lost, answered`,
      seen: `${whole(gone)}, ${whole(answered)}`,
      goal: `0, ${whole(count)}`,
      isMet: gone === 0 && answered === count,
    },
    {
      what: 'all processes together, a connection',
      seen: `${(cost / 1_024).toFixed(1)} KiB`,
      goal: 'at most 16 KiB',
      isMet: cost <= 16 * 1_024,
    },
    {
      what: 'until all were there; until all had answered',
      seen: `${(rampMs / 1_000).toFixed(1)} s; ${(Math.max(...said.map(({ ms }) => ms)) / 1_000).toFixed(1)} s`,
      goal: 'at most 30 s',
      isMet: rampMs < 30_000,
    },
    {
      what: 'by worker',
      seen: list.map(({ connections }) => whole(connections)).join(', '),
      goal: 'none at its limit',
      isMet: list.every(({ connections }) => connections < 18_000),
    },
  ]
}
