// time limit: 420 s
/** A TLS session that is taken up lets nobody in whom a full handshake would refuse; whoever is let in keeps it, across workers and reloads. */
import { randomBytes } from 'node:crypto'
import { connect as connectTcp } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { killAll } from '../support/command.js'
import { Folder, isAlive, Serving } from '../support/workers.js'

const folder = new Folder()
const successors: number[] = []
test.after(() => {
  killAll()
  for (const pid of successors) if (isAlive(pid)) process.kill(pid, 'SIGTERM')
  folder.remove()
})

interface Pair {
  readonly cert: string
  readonly key: string
}
const pair = async (name: string, options: object = {}): Promise<Pair> => {
  const { cert, private: key } = await generate([{ name: 'commonName', value: name }], { keySize: 2048, ...options })
  return { cert, key }
}
const authority = (name: string) => pair(name, { extensions: [{ name: 'basicConstraints', cA: true, critical: true }] })
const [caA, caB, main, exampleA, exampleB] = await Promise.all([
  authority('CA A'),
  authority('CA B'),
  pair('main.example'),
  pair('a.example'),
  pair('b.example'),
])
const clientA = await pair('clientA', { ca: caA })
const clientB = await pair('clientB', { ca: caB })
for (const [name, { cert, key }] of Object.entries({ main, a: exampleA, b: exampleB })) {
  folder.write(`${name}.pem`, cert)
  folder.write(`${name}.key`, key)
}
folder.write(
  'says.mjs',
  `import { defineHandler, TLS } from 'gaidaros'
export default defineHandler({ name: 'Says', codec: 'line', message: async (line, connection) => {
  if (line === 'STARTTLS') {
    void connection.send('go')
    return connection.upgrade('tls')
  }
  const { resumed, serverName, peerCertificate } = connection.feature(TLS)
  return [resumed ? 'resumed' : 'full', serverName ?? '-', peerCertificate?.subject.CN ?? 'nobody'].join(' ')
} })
`,
)

const kinds = {
  tls: { endpoint: 'tls://127.0.0.1:0' },
  wss: { endpoint: 'wss://127.0.0.1:0' },
  layer: { endpoint: 'tcp://127.0.0.1:0', layers: ['tls'] },
  upgrade: { endpoint: 'tcp://127.0.0.1:0' },
} as const
type Kind = keyof typeof kinds
const versions = ['TLSv1.2', 'TLSv1.3'] as const
const plain = { cert: './main.pem', key: './main.key' }
const named = (ca: string, name: string) => ({ cert: `./${name}.pem`, key: `./${name}.key`, ca })

interface Answer {
  /** Undefined: refused. */
  readonly said: string | undefined
  readonly session: Buffer | undefined
}

/** One message to a listener over TLS, and its answer. */
async function ask(kind: Kind, port: number | undefined, options: ConnectionOptions): Promise<Answer> {
  const raw = connectTcp({ port: port as number, host: '127.0.0.1' })
  raw.on('error', () => {})
  if (kind === 'upgrade') {
    raw.write('STARTTLS\n')
    await new Promise((resolve) => raw.once('data', resolve))
  }
  const socket: TLSSocket = connect({ socket: raw, rejectUnauthorized: false, servername: 'main.example', ...options })
  let session: Buffer | undefined
  socket.on('session', (given) => {
    session = given
  })
  const said = await new Promise<string | undefined>((resolve) => {
    let heard = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('close', () => resolve(undefined))
    raw.on('close', () => resolve(undefined))
    socket.on('secureConnect', () => {
      if (kind !== 'wss') return socket.write('who\n')
      const head = `GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`
      // A text message of three bytes, masked with zeros.
      return socket.write(Buffer.concat([Buffer.from(head), Buffer.from([0x81, 0x83, 0, 0, 0, 0]), Buffer.from('who')]))
    })
    socket.on('data', (chunk) => {
      heard = Buffer.concat([heard, chunk])
      const found = /(resumed|full) \S+ \w+/.exec(heard.toString('latin1'))
      if (found !== null) resolve(found[0])
    })
  })
  socket.destroy()
  raw.destroy()
  return { said, session: session ?? (options.session as Buffer | undefined) }
}

const listenersOf = (tlsOf: Readonly<Record<string, object>>) =>
  Object.fromEntries(
    Object.entries(kinds).flatMap(([kind, where]) =>
      Object.entries(tlsOf).map(([what, tls]) => [`${kind}-${what}`, { ...where, tls: { ...plain, ...tls } }]),
    ),
  )
const asking = { requestCert: true, ca: './trusted.pem' }
const setups = [1, 2].flatMap((workers) => [false, true].map((hasKeys) => ({ workers, hasKeys })))
let number = 0

function configure({ workers, hasKeys }: (typeof setups)[number], tlsOf: Readonly<Record<string, object>>) {
  const file = `config${++number}.json`
  const keys = hasKeys ? { tls: { ticketKeys: './ticket.key' } } : {}
  const write = (changed: Readonly<Record<string, object>>) =>
    folder.write(file, { workers, handler: './says.mjs', ...keys, listeners: listenersOf(changed) })
  write(tlsOf)
  return { file, write }
}
folder.write('ticket.key', randomBytes(36).toString('base64'))

for (const setup of setups) {
  const title = `${setup.workers} workers, ${setup.hasKeys ? 'with' : 'without'} ticketKeys`

  test(`F95 a session of another listener or another name never takes the place of a certificate (${title})`, async () => {
    folder.write('trusted.pem', caA.cert)
    folder.write('other.pem', caB.cert)
    const { file } = configure(setup, {
      public: {},
      admin: asking,
      names: { ...asking, sni: { 'a.example': named('./trusted.pem', 'a'), 'b.example': named('./other.pem', 'b') } },
    })
    const serving = await Serving.start(folder, ['--config', file])
    const port = (kind: Kind, what: string) => serving.ports[`${kind}-${what}`]
    let refused = 0
    for (const kind of Object.keys(kinds) as Kind[]) {
      for (const version of versions) {
        const of = `${kind} ${version}`
        const base = { minVersion: version, maxVersion: version } as const
        const nobody = await ask(kind, port(kind, 'public'), base)
        assert.is(nobody.said, 'full main.example nobody', of)
        const shown = { ...base, session: nobody.session as Buffer }
        // Honest: taken up in every worker, under the name that was asked for.
        for (let i = 0; i < 4; i++) {
          assert.is((await ask(kind, port(kind, 'public'), shown)).said, 'resumed main.example nobody', of)
        }
        assert.is((await ask(kind, port(kind, 'admin'), base)).said, undefined, of)
        assert.is((await ask(kind, port(kind, 'admin'), shown)).said, undefined, `${of}: another listener's`)
        assert.is((await ask(kind, port(kind, 'names'), shown)).said, undefined, `${of}: another listener's`)
        // Whoever has a certificate is asked for it again.
        const falls = await ask(kind, port(kind, 'admin'), { ...shown, ...clientA })
        assert.is(falls.said, 'full main.example clientA', of)
        const own = { ...base, session: falls.session as Buffer }
        assert.is((await ask(kind, port(kind, 'admin'), own)).said, 'resumed main.example clientA', of)
        const [a, b] = [
          { ...base, servername: 'a.example' },
          { ...base, servername: 'b.example' },
        ]
        const ofA = await ask(kind, port(kind, 'names'), { ...a, ...clientA })
        assert.is(ofA.said, 'full a.example clientA', of)
        assert.is((await ask(kind, port(kind, 'names'), { ...b, ...clientA })).said, undefined, of)
        const fromA = { ...b, session: ofA.session as Buffer }
        assert.is((await ask(kind, port(kind, 'names'), fromA)).said, undefined, `${of}: another name's`)
        const ofMain = await ask(kind, port(kind, 'names'), { ...base, ...clientA })
        const fromMain = { ...b, session: ofMain.session as Buffer }
        assert.is((await ask(kind, port(kind, 'names'), fromMain)).said, undefined, `${of}: the default name's`)
        refused += 4
        const ofB = await ask(kind, port(kind, 'names'), { ...fromA, ...clientB })
        assert.is(ofB.said, 'full b.example clientB', of)
        for (const [name, { session }, client] of [
          [a, ofA, 'a.example clientA'],
          [b, ofB, 'b.example clientB'],
        ] as const) {
          const again = await ask(kind, port(kind, 'names'), { ...name, session: session as Buffer })
          assert.is(again.said, `resumed ${client}`, of)
        }
      }
    }
    assert.is(refused, 32)
    assert.is(await serving.stop(), 0)
  })

  test(`F95 a reload that removes an authority or asks for certificates ends the sessions of before; another does not (${title})`, async () => {
    folder.write('trusted.pem', caA.cert)
    const { file, write } = configure(setup, { turns: {}, admin: { ...asking, watch: false } })
    const serving = await Serving.start(folder, ['--config', file])
    const reload = async () => {
      const { ok, error } = await serving.ask('reload')
      assert.ok(ok, error)
      await serving.settles(setup.workers)
    }
    // From now on there is a supervisor, whatever the number of its workers.
    await reload()
    const port = (kind: Kind, what: string) => serving.ports[`${kind}-${what}`]
    const every = (Object.keys(kinds) as Kind[]).flatMap((kind) =>
      versions.map((version) => ({
        kind,
        of: `${kind} ${version}`,
        base: { minVersion: version, maxVersion: version },
      })),
    )
    const held = []
    for (const one of every) {
      const nobody = await ask(one.kind, port(one.kind, 'turns'), one.base)
      const client = await ask(one.kind, port(one.kind, 'admin'), { ...one.base, ...clientA })
      assert.is(client.said, 'full main.example clientA')
      held.push({
        ...one,
        nobody: { ...one.base, session: nobody.session as Buffer },
        client: { ...one.base, session: client.session as Buffer },
      })
    }
    await reload()
    for (const { kind, of, nobody, client } of held) {
      assert.is((await ask(kind, port(kind, 'turns'), nobody)).said, 'resumed main.example nobody', of)
      assert.is((await ask(kind, port(kind, 'admin'), client)).said, 'resumed main.example clientA', of)
    }
    write({ turns: asking, admin: { ...asking, watch: false } })
    folder.write('trusted.pem', caB.cert)
    await reload()
    for (const { kind, of, base, nobody, client } of held) {
      assert.is((await ask(kind, port(kind, 'turns'), nobody)).said, undefined, `${of}: asks for certificates now`)
      assert.is((await ask(kind, port(kind, 'admin'), client)).said, undefined, `${of}: its authority is gone`)
      const now = await ask(kind, port(kind, 'admin'), { ...client, ...clientB })
      assert.is(now.said, 'full main.example clientB', of)
      const again = await ask(kind, port(kind, 'turns'), { ...base, ...clientB })
      assert.is(again.said, 'full main.example clientB', of)
    }
    assert.is(await serving.stop(), 0)
  })
}

for (const workers of [1, 2]) {
  test(`F95 SIGUSR2: sessions of the program before are held against the rules of now (${workers} workers)`, async () => {
    folder.write('trusted.pem', caA.cert)
    const { file, write } = configure({ workers, hasKeys: true }, { public: {}, turns: {} })
    const pidFile = folder.at(`pid${workers}`)
    const serving = await Serving.start(folder, ['--config', file, '--pid-file', pidFile])
    const port = (what: string) => serving.ports[`tls-${what}`]
    const base = (version: (typeof versions)[number]) => ({ minVersion: version, maxVersion: version })
    const held = []
    for (const version of versions) {
      const [stays, turns] = [
        await ask('tls', port('public'), base(version)),
        await ask('tls', port('turns'), base(version)),
      ]
      held.push({ version, stays: stays.session as Buffer, turns: turns.session as Buffer })
    }
    write({ public: {}, turns: asking })
    serving.command.child.kill('SIGUSR2')
    const [, pid] = await serving.command.shows(/upgrade\.started pid=(\d+)/)
    successors.push(Number(pid))
    await serving.command.shows('upgrade.finished')
    while (isAlive(serving.command.pid)) await new Promise((resolve) => setTimeout(resolve, 50))
    for (const { version, stays, turns } of held) {
      const again = await ask('tls', port('public'), { ...base(version), session: stays })
      assert.is(again.said, 'resumed main.example nobody', version)
      assert.is((await ask('tls', port('turns'), { ...base(version), session: turns })).said, undefined, version)
      const client = await ask('tls', port('turns'), { ...base(version), session: turns, ...clientA })
      assert.is(client.said, 'full main.example clientA', version)
    }
  })
}

test.run()
