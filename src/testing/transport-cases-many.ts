/**
 * Transport cases: many links at once, and what is left when all are gone.
 *
 * Room: testing.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import type { RecordedLink } from './link-recorder.js'
import { always, onStreams, type TransportCase, transportCase } from './transport-case.js'
import { capabilitiesOf, type TransportRig } from './transport-rig.js'

const LINKS = 50

export const manyCases: readonly TransportCase[] = [
  transportCase('fifty-links-independent', '50 links connected at once carry their own bytes', always, async (rig) => {
    const { listener, sink } = await rig.listen()
    const nears = await Promise.all(Array.from({ length: LINKS }, () => rig.connect(listener.endpoint)))
    for (const [i, near] of nears.entries()) near.write(Buffer.from([i]))
    await rig.until(
      () => sink.opened.length === LINKS && sink.opened.every(({ bytes }) => bytes === 1),
      '50 links to tell their number',
    )
    const fars: RecordedLink[] = []
    for (const far of sink.opened) fars[far.received()[0] as number] = far
    assert.equal(Object.keys(fars).length, LINKS, 'links that told a number of their own')
    await eachInTurn(rig, nears, async (near, i) => {
      const far = fars[i] as RecordedLink
      await rig.transfer(near, far, 2_000 + i)
      await rig.transfer(far, near, 2_000 + i)
    })
    assert.equal(sink.opened.length, LINKS, 'links opened')
  }),

  transportCase(
    'abort-harms-no-other',
    'links that are cut harm no other of the same listener',
    always,
    async (rig) => {
      const bound = await rig.listen()
      const pairs = []
      for (let i = 0; i < 6; i++) pairs.push(await rig.pair(bound))
      const cut = pairs.filter((_, i) => i % 2 === 0)
      const others = pairs.filter((_, i) => i % 2 === 1)
      for (const [i, { near, far }] of cut.entries()) (i === 0 ? far : near).abort(new Error('the test cuts it'))
      await rig.untilClosed(...cut.map(({ near, far }, i) => (i === 0 ? far : near)))
      for (const { near, far } of others) {
        await rig.transfer(near, far, 3_000)
        await rig.transfer(far, near, 3_000)
        assert.equal(near.closes + far.closes, 0, 'another link was closed')
      }
    },
  ),

  transportCase(
    'paused-link-holds-no-other',
    'a link that is paused and full holds up no other of the same listener',
    onStreams,
    async (rig) => {
      const bound = await rig.listen()
      const stuck = await rig.pair(bound)
      const other = await rig.pair(bound)
      stuck.far.pause()
      for (let i = 0; i < 256 && stuck.near.write(Buffer.alloc(64 * 1024)); i++);
      await rig.transfer(other.near, other.far, 300_000)
      await rig.transfer(other.far, other.near, 300_000)
    },
  ),

  transportCase('two-listeners-apart', 'two listeners of one transport share nothing', always, async (rig) => {
    const one = await rig.listen()
    // A fixed address serves one at a time: then the case has nothing to prove.
    const two = await rig.listen().catch(() => undefined)
    if (two === undefined || `${two.listener.endpoint}` === `${one.listener.endpoint}`)
      return 'the endpoint given is a fixed one'
    await rig.within(one.listener.unbind(), 'unbind of the first')
    const { near, far } = await rig.pair(two)
    await rig.transfer(near, far, 1_000)
    assert.equal(one.sink.opened.length, 0, "the first listener's sink was told of it")
  }),

  transportCase('upgrade-declared', 'each layer declared for upgrade can be asked for', always, async (rig) => {
    if (rig.capabilities.upgrade.length === 0) return 'none is declared'
    const { near, far } = await rig.pair()
    assert.equal(typeof near.link.upgrade, 'function', "upgrade of the connector's side")
    assert.equal(typeof far.link.upgrade, 'function', "upgrade of the listener's side")
  }),

  {
    id: 'leaves-nothing-behind',
    proves: 'no handle and no descriptor is left when all links are closed and the listener unbound',
    async run(subject, isDeclared) {
      // Loaded lazily by some platforms on first use: what stays for good is there before we count.
      await aLife(subject, isDeclared)
      const before = held()
      for (let i = 0; i < 5; i++) await aLife(subject, isDeclared)
      const deadline = Date.now() + (subject.timeoutMs ?? 5_000)
      // The kernel and the loop take a moment to give them back, and no callback tells us.
      for (let left = difference(before, held()); left !== ''; left = difference(before, held())) {
        assert.ok(Date.now() < deadline, `left behind: ${left}`)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    },
  },
]

const aLife = async (subject: Parameters<TransportCase['run']>[0], isDeclared: boolean) => {
  const { reliable } = capabilitiesOf(subject)
  return transportCase('a-life', 'a listener, links that end in each way, and unbind', always, async (rig) => {
    const bound = await rig.listen()
    for (const way of ['end', 'abort'] as const) {
      const { near, far } = await rig.pair(bound)
      await rig.transfer(near, far, 1_000)
      far.onEnd = () => far.end()
      near[way]()
      if (!reliable) far[way]()
      await rig.untilClosed(near, far)
    }
    await rig.within(bound.listener.unbind(), 'unbind')
  }).run(subject, isDeclared)
}

/** What keeps the process running, by kind, and the number of open descriptors where the platform tells (proc(5)). */
function held(): Map<string, number> {
  const counts = new Map<string, number>()
  for (const name of process.getActiveResourcesInfo()) {
    // The kit's own waiting, and turns already under way.
    if (name === 'Immediate' || name === 'TickObject') continue
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  const descriptors = '/proc/self/fd'
  if (existsSync(descriptors)) counts.set('descriptors', readdirSync(descriptors).length)
  return counts
}

function difference(before: Map<string, number>, after: Map<string, number>): string {
  return [...after]
    .filter(([name, count]) => count > (before.get(name) ?? 0))
    .map(([name, count]) => `${count - (before.get(name) ?? 0)} ${name}`)
    .join(', ')
}

/** All at once where nothing is lost, one after another where a burst may be. */
async function eachInTurn<T>(
  rig: TransportRig,
  items: readonly T[],
  body: (item: T, index: number) => Promise<void>,
): Promise<void> {
  if (rig.capabilities.reliable) await Promise.all(items.map(body))
  else for (const [i, item] of items.entries()) await body(item, i)
}
