/** Long runs of a cluster: its nodes, and then its NATS server, killed every 200 ms for a minute under load, with the ledger. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Command, gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer, serve, stopAll, type Watched } from '../support/faults.js'
import { Ledger, type LedgerSums } from '../support/message-ledger.js'
import { noNats, startNats, stopNats } from '../support/nats.js'
import type { Figure } from './run.js'

const handler = join(root, 'build/fixtures/ledger-handler.js')
const CLIENTS = 20
/** Messages of one client under way. */
const WINDOW = 4

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const placesOf = ({ server }: Watched) => server.listeners.get('default')?.plan.executors[0]?.load().places ?? []
const readyOf = (watched: Watched) => placesOf(watched).filter(({ state }) => state === 'ready')

interface Run {
  readonly url: string
  readonly nodes: number
  readonly more: Readonly<Record<string, string | number>>
}

/** A front in this process, nodes in their own, and clients. */
class Cluster {
  readonly ledger: Ledger
  readonly watched: Watched
  readonly #nodes = new Map<number, Command>()
  readonly #file: string
  readonly #run: Run
  readonly #clients: Promise<void>[]

  private constructor(run: Run, file: string, watched: Watched) {
    this.#run = run
    this.#file = file
    this.watched = watched
    this.ledger = new Ledger(watched.port, WINDOW)
    this.#clients = []
  }

  static async start(run: Run): Promise<Cluster> {
    const file = join(mkdtempSync(join(tmpdir(), 'gs-')), 'ledger')
    writeFileSync(file, '')
    process.env.LEDGER_FILE = file
    const { url, more } = run
    const watched = await serve({ handler, executor: { type: 'cluster', servers: url, ...more } })
    const cluster = new Cluster(run, file, watched)
    await Promise.all(Array.from({ length: run.nodes }, () => cluster.addNode()))
    await eventually(() => readyOf(watched).length === run.nodes, 'all nodes', 60_000)
    for (let i = 0; i < CLIENTS; i++) cluster.#clients.push(cluster.ledger.client())
    return cluster
  }

  async addNode(): Promise<void> {
    const { url, more } = this.#run
    const sets = Object.entries(more).flatMap(([key, value]) => ['--set', `cluster.${key}=${value}`])
    const command = gaidaros(['node', '--cluster', url, '--handler', handler, ...sets], {
      limitMs: 300_000,
      env: { LEDGER_FILE: this.#file },
    })
    this.#nodes.set(command.pid, command)
    await command.shows(/^ready$/m)
  }

  /** SIGKILL to one that serves. @returns false: there is none. */
  async killNode(turn: number): Promise<boolean> {
    const serving = [...this.#nodes.values()].filter((one) => /^ready$/m.test(one.stdout))
    const victim = serving[turn % Math.max(1, serving.length)]
    if (victim === undefined) return false
    this.#nodes.delete(victim.pid)
    process.kill(victim.pid, 'SIGKILL')
    await victim.ended
    return true
  }

  /** Everything ends in order, and the columns are held against each other. @throws when they do not fit. */
  async end(): Promise<LedgerSums & { readonly reasons: string; readonly isWhole: boolean }> {
    this.ledger.end()
    await Promise.all(this.#clients)
    await eventually(() => readyOf(this.watched).length === this.#nodes.size, 'the cluster is whole again', 60_000)
    const last = await Peer.open(this.watched.port)
    await last.send('0 0 0 x\n').hears('0 0 0\n')
    last.leave()
    await this.watched.server.stop()
    for (const one of this.#nodes.values()) one.child.kill('SIGTERM')
    for (const one of this.#nodes.values()) await one.ended
    const sums = this.ledger.check(readFileSync(this.#file, 'utf8').replace(/^0 0 0\n/gm, ''))
    const counted: Record<string, number> = {}
    for (const { name, event } of this.watched.seen) {
      if (name !== 'connection.closed') continue
      const { code } = (event as { reason: { code: string } }).reason
      counted[code] = (counted[code] ?? 0) + 1
    }
    rmSync(join(this.#file, '..'), { recursive: true })
    const expected = ['LOST', 'OVERLOADED', 'TIMEOUT', 'ENDED', 'RESET', 'PEER_ENDED', 'SHUTDOWN']
    const isWhole = Object.keys(counted).every((code) => expected.includes(code))
    return {
      ...sums,
      reasons: Object.entries(counted)
        .map((one) => one.join(' '))
        .join(', '),
      isWhole,
    }
  }
}

function figures(what: string, kills: number, sums: Awaited<ReturnType<Cluster['end']>>): readonly Figure[] {
  const { sent, acked, handled, unknown, broken, reasons, isWhole } = sums
  return [
    {
      what: `${kills} ${what}: sent, handled, answered; answered and not handled, doubled, out of order`,
      seen: `${sent}, ${handled}, ${acked}; 0, 0, 0`,
      goal: '0, 0, 0',
      isMet: kills > 0 && acked > 0,
    },
    {
      what: 'unknown, on connections that were cut; why connections ended',
      seen: `${unknown}, on ${broken}; ${reasons}`,
      goal: `at most ${WINDOW} on each, each with a reason`,
      isMet: unknown <= broken * WINDOW && isWhole,
    },
  ]
}

/** SIGKILL to a node every 200 ms; another one is started in its place. */
export async function nodes(isQuick: boolean): Promise<readonly Figure[]> {
  if (noNats !== undefined) return skipped(noNats)
  const nats = await startNats()
  const cluster = await Cluster.start({
    url: nats.url,
    nodes: 3,
    more: { whenDown: 'wait', heartbeatMs: 100, lostMs: 2_000 },
  })
  const seconds = isQuick ? 4 : 60
  const until = performance.now() + seconds * 1_000
  const begun: Promise<void>[] = []
  let kills = 0
  while (performance.now() < until) {
    await pause(200)
    if (!(await cluster.killNode(kills))) continue
    kills++
    begun.push(cluster.addNode())
  }
  await Promise.all(begun)
  const all = figures(`nodes killed in ${seconds} s under load`, kills, await cluster.end())
  await tidy()
  return all
}

/** SIGKILL to nats-server every 200 ms, and the same one again at once. */
export async function nats(isQuick: boolean): Promise<readonly Figure[]> {
  if (noNats !== undefined) return skipped(noNats)
  const all: Figure[] = []
  for (const whenDown of ['fail', 'wait'] as const) {
    let server = await startNats()
    const cluster = await Cluster.start({ url: server.url, nodes: 2, more: { whenDown, lostMs: 20_000 } })
    const seconds = isQuick ? 4 : 60
    const until = performance.now() + seconds * 1_000
    let kills = 0
    while (performance.now() < until) {
      await pause(200)
      await server.kill()
      server = await server.restart()
      kills++
    }
    all.push(...figures(`times NATS was killed in ${seconds} s under load (${whenDown})`, kills, await cluster.end()))
    await server.kill()
  }
  await tidy()
  return all
}

function skipped(reason: string): readonly Figure[] {
  return [{ what: `skip: ${reason}`, seen: '-', goal: '-', isMet: process.env.CI === undefined }]
}

async function tidy(): Promise<void> {
  await stopAll()
  killAll()
  stopNats()
}
