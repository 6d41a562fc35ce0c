// time limit: 240 s
/** Watching and steering a running server from the command line: connections, kill, limit, tap, and `top` in a terminal. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, killAll, root } from '../support/command.js'
import { Peer } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gk-'))
const socket = join(folder, 'c.sock')
const run = (args: readonly string[], limitMs = 30_000) =>
  gaidaros([...args, '--control', socket], { cwd: folder, limitMs })

async function result(...args: readonly string[]) {
  const command = run(args)
  const status = await command.ended
  return { status, out: command.stdout, err: command.stderr }
}

let server: Command
let port = 0

test.before(async () => {
  server = run(['serve', '--listen', 'tcp://127.0.0.1:0', '-v'], 115_000)
  port = (await server.ready()).default ?? 0
})

test('the socket is the owner’s alone', () => {
  assert.is(statSync(socket).mode & 0o777, 0o600)
})

test('connections lists them, kill ends one with a reason', async () => {
  const [one, other] = [await Peer.open(port), await Peer.open(port)]
  await one.echoes('x')
  await other.echoes('x')
  await other.echoes('y')
  const { out } = await result('connections', '--sort', 'messagesIn')
  assert.match(out, /^ID +LISTENER +PEER +STATE/)
  assert.match(out, /^1 to 2 of 2$/m)
  const page = JSON.parse((await result('connections', 'messagesIn<2', '--json')).out)
  assert.equal([page.total, page.matched], [2, 1])
  const [{ id, remote }] = page.connections
  assert.is(remote, `tcp://127.0.0.1:${one.socket.localPort}`)

  const killed = await result('kill', id, 'maintenance')
  assert.equal([killed.status, killed.out], [0, `killed 1 connection: ${id}\n`])
  await one.over
  await server.shows(
    /connection\.closed connection=\w+ .*code=KILLED by=server error="killed by the operator: maintenance"/,
  )
  await other.echoes('z')
  assert.is((await result('kill', id)).status, 1)
  assert.is((await result('kill', '--source', '10.0.0.0/8')).status, 1)
  assert.is((await result('kill')).status, 2)
  const all = await result('kill', '--listener', 'default', '--now', '--json')
  assert.is(JSON.parse(all.out).killed, 1)
  await other.over
})

test('limit takes effect at once, and what is no limit is refused', async () => {
  const peer = await Peer.open(port)
  await peer.echoes('x')
  assert.is((await result('limit', 'limits.connections=1')).out, 'default: connections 10000 → 1\n')
  // Cut so early that connect() itself may fail.
  await Peer.open(port).then(
    (second) => second.over,
    (error) => assert.is(error.code, 'ECONNRESET'),
  )
  assert.is((await result('limit', 'limits.connections')).status, 2)
  const wrong = await result('limit', 'limits.conections=5')
  assert.is(wrong.status, 1)
  assert.match(wrong.err, /nearest: `connections`/)
  await result('limit', 'limits.connections=10000')
  peer.leave()
})

test('tap prints messages as JSON lines and ends with the connection', async () => {
  const peer = await Peer.open(port)
  await peer.echoes('x')
  const { connections } = JSON.parse((await result('connections', '--json', '--sort', 'id')).out)
  const { id } = connections.find((one: { remote: string }) => one.remote.endsWith(`:${peer.socket.localPort}`))
  const tap = run(['tap', id])
  await tap.shows('tapping')
  await peer.echoes('password=hunter2')
  await tap.shows(/"direction":"out"/)
  peer.socket.end()
  assert.is(await tap.ended, 0)
  const lines = tap.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.equal(
    lines.slice(0, 2).map(({ direction, message }) => [direction, message]),
    [
      ['in', 'password=(hidden)'],
      ['out', 'password=(hidden)'],
    ],
  )
  assert.is(lines.at(-1).closed.code, 'ENDED')
  assert.is((await result('tap', 'nobody')).status, 1)
  assert.is((await result('tap')).status, 2)
})

test('an interrupted tap ends well', async () => {
  const peer = await Peer.open(port)
  await peer.echoes('x')
  const { connections } = JSON.parse((await result('connections', '--json')).out)
  const tap = run(['tap', connections[0].id])
  await tap.shows('tapping')
  tap.child.kill('SIGINT')
  assert.is(await tap.ended, 0)
  peer.leave()
})

test('top --once prints one frame', async () => {
  const peer = await Peer.open(port)
  await peer.echoes('x')
  const { out, status } = await result('top', '--once')
  assert.is(status, 0)
  assert.match(out, /^gaidaros \S+ {2}process \d+ {2}ready/)
  assert.match(out, /^default +listening +\d\/10000/m)
  assert.match(out, /^ ID +LISTENER +PEER/m)
  assert.match(out, new RegExp(`127\\.0\\.0\\.1:${peer.socket.localPort}`))
  assert.not.match(out, /\u001b/)
  const noTerminal = await result('top')
  assert.is(noTerminal.status, 2)
  assert.match(noTerminal.err, /--once/)
  peer.leave()
})

let terminals = 0
/** A terminal of 80 by 24 with `top` in it. */
class Terminal {
  readonly #name = `gaidaros-${process.pid}-${++terminals}`
  readonly #control: string

  constructor(control = socket) {
    this.#control = control
  }

  /** @param before - Said to the shell first. */
  start(before = "printf 'before\\n'"): void {
    const cli = join(root, 'dist/cli.js')
    const command = `${before}; ${process.execPath} ${cli} top --control ${this.#control} --interval-ms 200; printf 'status %s\\n' $?; sleep 60`
    this.#tmux('-f', '/dev/null', 'new-session', '-d', '-x', '80', '-y', '24', '-s', 'top', command)
  }
  press(...keys: readonly string[]): void {
    this.#tmux('send-keys', '-t', 'top', ...keys)
  }
  get screen(): string {
    return this.#tmux('capture-pane', '-p', '-t', 'top')
  }
  get isOnOtherScreen(): boolean {
    return this.#tmux('display', '-p', '-t', 'top', '#{alternate_on}').trim() === '1'
  }
  get isCursorShown(): boolean {
    return this.#tmux('display', '-p', '-t', 'top', '#{cursor_flag}').trim() === '1'
  }
  /** As stty(1) says them. */
  get settings(): string {
    const tty = this.#tmux('display', '-p', '-t', 'top', '#{pane_tty}').trim()
    return execFileSync('stty', ['-a', '-F', tty], { encoding: 'utf8' })
  }
  async shows(pattern: RegExp): Promise<void> {
    const began = performance.now()
    while (!pattern.test(this.screen)) {
      if (performance.now() - began > 15_000) throw new Error(`expected ${pattern}, on the screen:\n${this.screen}`)
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
  }
  /** The process of `top` itself. */
  get top(): number {
    const shell = this.#tmux('display', '-p', '-t', 'top', '#{pane_pid}').trim()
    return Number(execFileSync('pgrep', ['-P', shell], { encoding: 'utf8' }).trim())
  }
  end(): void {
    this.#tmux('kill-server')
  }
  #tmux(...args: string[]): string {
    return execFileSync('tmux', ['-L', this.#name, ...args], { encoding: 'utf8' })
  }
}

test('top works in a terminal of 80 by 24: sorts, filters, pauses, kills with a reason, and gives the screen back', async () => {
  if (!hasTool('tmux')) return skip('top', 'tmux is not installed')
  const [one, two] = [await Peer.open(port), await Peer.open(port)]
  await one.echoes('x')
  await two.echoes('x')
  await two.echoes('y')
  const terminal = new Terminal()
  terminal.start()
  try {
    await terminal.shows(/ID +LISTENER +PEER/)
    await terminal.shows(/k kill/)
    assert.ok(terminal.isOnOtherScreen)
    const lines = terminal.screen.split('\n')
    assert.ok(lines.length <= 25 && lines.every((line) => [...line].length <= 80), terminal.screen)
    assert.not.match(terminal.screen, /before/)
    terminal.press('s')
    await terminal.shows(/IDLE▼|IN▼|▼/)
    terminal.press('p')
    await terminal.shows(/PAUSED/)
    terminal.press('p')
    terminal.press('/')
    terminal.press(`:${two.socket.localPort}`, 'Enter')
    await terminal.shows(/1 of \d+ \(:\d+\)/)
    terminal.press('k')
    await terminal.shows(/reason: _/)
    terminal.press('-l', 'loud peer')
    await terminal.shows(/reason: loud peer_/)
    terminal.press('Enter')
    await terminal.shows(/killed 1 connection/)
    await two.over
    await server.shows(/killed by the operator: loud peer/)
    await one.echoes('still here')
    terminal.press('/')
    for (let i = 0; i < 8; i++) terminal.press('BSpace')
    terminal.press('Enter')
    await terminal.shows(/> *\w+ +default/)
    terminal.press('z')
    await terminal.shows(/default +suspended/)
    terminal.press('z')
    await terminal.shows(/default +listening/)
    terminal.press('q')
    await terminal.shows(/status 0/)
    assert.match(terminal.screen, /before/)
    assert.not.ok(terminal.isOnOtherScreen)
  } finally {
    terminal.end()
    one.leave()
  }
})

for (const [what, end] of [
  ['SIGTERM', ({ top }: Terminal) => process.kill(top, 'SIGTERM')],
  ['SIGINT', ({ top }: Terminal) => process.kill(top, 'SIGINT')],
  ['SIGHUP', ({ top }: Terminal) => process.kill(top, 'SIGHUP')],
  ['Ctrl-C', (terminal: Terminal) => terminal.press('C-c')],
  ['Ctrl-C at a prompt', (terminal: Terminal) => terminal.press('k', 'C-c')],
] as const) {
  test(`top gives the terminal back as it was on ${what}`, async () => {
    if (!hasTool('tmux')) return skip('top and signals', 'tmux is not installed')
    const peer = await Peer.open(port)
    await peer.echoes('x')
    const terminal = new Terminal()
    terminal.start(`stty -a > ${join(folder, 'before')}; printf 'before\\n'`)
    try {
      await terminal.shows(/k kill/)
      assert.ok(terminal.isOnOtherScreen)
      end(terminal)
      await terminal.shows(/before\nstatus 0/)
      assert.not.ok(terminal.isOnOtherScreen)
      assert.is(terminal.isCursorShown, true)
      assert.is(terminal.settings, readFileSync(join(folder, 'before'), 'utf8'))
      await peer.echoes('not killed')
    } finally {
      terminal.end()
      peer.leave()
    }
  })
}

test('top ends by itself, and gives the terminal back, when its server does', async () => {
  if (!hasTool('tmux')) return skip('top and the end', 'tmux is not installed')
  const other = gaidaros(['serve', '--listen', 'tcp://127.0.0.1:0', '--control', join(folder, 'o.sock')], {
    limitMs: 60_000,
  })
  await other.ready()
  const terminal = new Terminal(join(folder, 'o.sock'))
  terminal.start()
  try {
    await terminal.shows(/k kill|q quit/)
    other.child.kill('SIGTERM')
    assert.is(await other.ended, 0)
    await terminal.shows(/before\ngaidaros: .*\nstatus 1/)
    assert.not.ok(terminal.isOnOtherScreen)
  } finally {
    terminal.end()
  }
})

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
