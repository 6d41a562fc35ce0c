// time limit: 240 s
/** Certificate files are taken up when their bytes change, however they are replaced, and nothing else is. */
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { type Connection, TLS } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { serve, stopAll, type Watched } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const root = mkdtempSync(join(tmpdir(), 'gtw-'))
test.after(async () => {
  await stopAll()
  rmSync(root, { recursive: true })
})
const pair = async (name: string) => {
  const { cert, private: key } = await generate([{ name: 'commonName', value: name }], { keySize: 2048 })
  return { cert, key }
}
type Pair = Awaited<ReturnType<typeof pair>>
const [one, two, three] = (await Promise.all(['one', 'two', 'three'].map(pair))) as [Pair, Pair, Pair]
let number = 0
const fresh = () => {
  const path = join(root, String(++number))
  mkdirSync(path)
  return path
}
/** Two files of a folder that may be new. */
const put = (folder: string, { cert, key }: Pair) => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'key.pem'), key)
  writeFileSync(join(folder, 'cert.pem'), cert)
}
const turn = (link: string, target: string) => {
  symlinkSync(target, `${link}.new`)
  renameSync(`${link}.new`, link)
}
const start = (folder: string, more: object = {}) =>
  serve({
    listen: 'tls://127.0.0.1:0',
    tls: { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem'), ...more },
    handler: (line: string) => line,
  })
/** What it answers, undefined when it refuses; and the session that it gave. */
const saysTo = ({ port }: Watched, options: object) =>
  new Promise<{ said: string | undefined; session: Buffer | undefined }>((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options })
    let session: Buffer | undefined
    socket.on('session', (given) => {
      session = given
    })
    socket.on('error', () => {})
    socket.once('close', () => resolve({ said: undefined, session }))
    socket.write('who\n')
    socket.once('data', (chunk) => {
      resolve({ said: String(chunk).trim(), session })
      socket.destroy()
    })
  })
const shown = ({ port }: Watched) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
    socket.once('error', reject)
    socket.once('secureConnect', () => {
      resolve(String(socket.getPeerCertificate().subject.CN))
      socket.destroy()
    })
  })
/** Of files: clients that leave as soon as they have seen the certificate are told as well. */
const faults = ({ seen }: Watched) =>
  seen.filter(
    ({ name, event }) => name === 'listener.fault' && /^tls\./.test((event as { error: Error }).error.message),
  ).length
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('F98 what else is written in the folder reloads nothing, and holds nothing up', async () => {
  const folder = fresh()
  put(folder, one)
  const watched = await start(folder)
  let written = 0
  const log = setInterval(() => appendFileSync(join(folder, 'server.log'), `line ${written++}\n`), 20)
  await pause(3_000)
  // The same bytes, written again and with other times, are no change either.
  put(folder, one)
  utimesSync(join(folder, 'cert.pem'), new Date(), new Date())
  await pause(2_500)
  assert.is(watched.count('listener.reloaded'), 0)
  put(folder, two)
  await watched.until('listener.reloaded')
  clearInterval(log)
  assert.ok(written > 50, String(written))
  assert.is(await shown(watched), 'two')
  await pause(2_500)
  assert.is(watched.count('listener.reloaded'), 1)
  assert.is(faults(watched), 0)
})

test('F98 links that are turned, folders that are moved and files that are replaced are followed, each time', async () => {
  const ways: Readonly<Record<string, (folder: string) => { begin(): string; next(pair: Pair): void }>> = {
    // Kubernetes: files are links to ..data/file, and ..data is turned.
    '..data': (folder) => {
      const version = (given: Pair) => {
        const made = `..${++number}`
        put(join(folder, made), given)
        turn(join(folder, '..data'), made)
      }
      return {
        begin() {
          version(one)
          for (const file of ['cert.pem', 'key.pem']) symlinkSync(join('..data', file), join(folder, file))
          return folder
        },
        next: version,
      }
    },
    // A link above, to a folder that is turned further up still.
    current: (folder) => {
      const version = (given: Pair) => {
        const made = `v${++number}`
        put(join(folder, made), given)
        turn(join(folder, 'current'), made)
      }
      return {
        begin() {
          version(one)
          symlinkSync(join('current'), join(folder, 'live'))
          return join(folder, 'live')
        },
        next: version,
      }
    },
    moved: (folder) => {
      const at = join(folder, 'certs')
      return {
        begin() {
          put(at, one)
          return at
        },
        next(given) {
          put(`${at}.new`, given)
          renameSync(at, join(folder, `old${++number}`))
          renameSync(`${at}.new`, at)
        },
      }
    },
    renamed: (folder) => ({
      begin() {
        put(folder, one)
        return folder
      },
      next({ cert, key }) {
        for (const [file, text] of Object.entries({ 'key.pem': key, 'cert.pem': cert })) {
          writeFileSync(join(folder, `.${file}`), text)
          renameSync(join(folder, `.${file}`), join(folder, file))
        }
      },
    }),
  }
  for (const [what, make] of Object.entries(ways)) {
    const way = make(fresh())
    const watched = await start(way.begin())
    assert.is(await shown(watched), 'one', what)
    for (const [given, name] of [
      [two, 'two'],
      [three, 'three'],
      [one, 'one'],
    ] as const) {
      way.next(given)
      await watched.until('listener.reloaded')
      assert.is(await shown(watched), name, what)
    }
    assert.is(watched.count('listener.reloaded'), 3, what)
  }
})

test('F98 files that are gone are told once, and their return is told', async () => {
  const folder = fresh()
  put(folder, one)
  const watched = await start(folder)
  renameSync(join(folder, 'cert.pem'), join(folder, 'away.pem'))
  const { error } = await watched.until('listener.fault')
  assert.match(error.message, /tls\.cert: cannot read the file/)
  await pause(2_500)
  assert.is(faults(watched), 1)
  assert.is(await shown(watched), 'one')
  renameSync(join(folder, 'away.pem'), join(folder, 'cert.pem'))
  await watched.until('listener.reloaded')
  assert.is(faults(watched), 1)
})

/** A CA by openssl, whose lists of revoked certificates are made and renewed. */
class Authority {
  readonly folder = fresh()

  constructor(name: string) {
    writeFileSync(this.at('index.txt'), '')
    writeFileSync(this.at('crlnumber'), '01\n')
    const config = [
      '[ca]',
      'default_ca = x',
      '[x]',
      'database = index.txt',
      'crlnumber = crlnumber',
      'default_md = sha256',
      'default_crl_days = 30',
    ]
    writeFileSync(this.at('ca.cnf'), `${config.join('\n')}\n`)
    this.#run(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
      '-subj',
      `/CN=${name}`,
      '-days',
      '30',
    )
    this.list()
  }

  at(file: string): string {
    return join(this.folder, file)
  }

  issue(name: string): { certFile: string; keyFile: string } {
    this.#run(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      `/CN=${name}`,
    )
    this.#run(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-out',
      `${name}.pem`,
      '-days',
      '30',
    )
    return { certFile: this.at(`${name}.pem`), keyFile: this.at(`${name}.key`) }
  }

  revoke(name: string): void {
    this.#run('ca', '-config', 'ca.cnf', '-revoke', `${name}.pem`, '-keyfile', 'ca.key', '-cert', 'ca.pem')
    this.list()
  }

  list(): void {
    this.#run('ca', '-config', 'ca.cnf', '-gencrl', '-out', 'crl.new', '-keyfile', 'ca.key', '-cert', 'ca.pem')
    renameSync(this.at('crl.new'), this.at('crl.pem'))
  }

  #run(...args: readonly string[]): void {
    execFileSync('openssl', args, { cwd: this.folder, stdio: 'ignore' })
  }
}

test('F95 a revoked client is refused, with an old ticket as well; a name has the lists of its own authority', async () => {
  if (!hasTool('openssl')) return skip('openssl', 'openssl is not installed')
  const { readFileSync } = await import('node:fs')
  const [a, b] = [new Authority('CA A'), new Authority('CA B')]
  const [good, bad, other] = [a.issue('good'), a.issue('bad'), b.issue('other')]
  const folder = fresh()
  put(folder, one)
  const watched = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: {
      cert: join(folder, 'cert.pem'),
      key: join(folder, 'key.pem'),
      requestCert: true,
      ca: a.at('ca.pem'),
      crl: a.at('crl.pem'),
      sni: {
        'b.example': { ...two, ca: b.at('ca.pem'), crl: [b.at('crl.pem')] },
        'both.example': { ...two, ca: [a.at('ca.pem'), b.at('ca.pem')], crl: [a.at('crl.pem'), b.at('crl.pem')] },
      },
    },
    handler: (_line: string, connection: Connection) =>
      `${connection.feature(TLS)?.resumed} ${connection.feature(TLS)?.peerCertificate?.subject.CN}`,
  })
  const says = (client: { certFile: string; keyFile: string } | undefined, more: object) => {
    const shows = client && { cert: readFileSync(client.certFile), key: readFileSync(client.keyFile) }
    return saysTo(watched, { ...shows, ...more })
  }
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const base = { minVersion: version, maxVersion: version }
    const name = `bad${version.slice(-1)}`
    const client = a.issue(name)
    const before = await says(client, { ...base, servername: 'main.example' })
    assert.is(before.said, `false ${name}`)
    const both = await says(client, { ...base, servername: 'both.example' })
    assert.is(both.said, `false ${name}`)
    const again = { ...base, servername: 'main.example', session: before.session }
    assert.is((await says(client, again)).said, `true ${name}`)
    a.revoke(name)
    await watched.until('listener.reloaded')
    const refused = watched.until('listener.fault', ({ error }) => /CERT_REVOKED/.test(error.message))
    assert.is((await says(client, { ...base, servername: 'main.example' })).said, undefined)
    await refused
    assert.is((await says(client, again)).said, undefined, `${version}: with its old ticket`)
    assert.is((await says(undefined, again)).said, undefined, `${version}: with its old ticket alone`)
    assert.is((await says(client, { ...base, servername: 'both.example', session: both.session })).said, undefined)
    assert.is((await says(good, { ...base, servername: 'main.example' })).said, 'false good')
    assert.is((await says(other, { ...base, servername: 'b.example' })).said, 'false other')
    assert.is((await says(other, { ...base, servername: 'both.example' })).said, 'false other')
    assert.is((await says(good, { ...base, servername: 'b.example' })).said, undefined)
  }
  assert.is((await says(bad, { servername: 'main.example' })).said, 'false bad')
})

test('F95 a client whose certificate has ended since is refused, though its session has not', async () => {
  const ca = await generate([{ name: 'commonName', value: 'CA' }], {
    keySize: 2048,
    extensions: [{ name: 'basicConstraints', cA: true, critical: true }],
  } as object)
  const ends = new Date(Math.ceil(Date.now() / 1000) * 1000 + 8_000)
  const short = await generate([{ name: 'commonName', value: 'short' }], {
    keySize: 2048,
    ca: { cert: ca.cert, key: ca.private },
    notAfterDate: ends,
  } as object)
  const watched = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: { ...one, requestCert: true, ca: ca.cert },
    handler: (_line: string, connection: Connection) => String(connection.feature(TLS)?.resumed),
  })
  const says = (options: object) => saysTo(watched, options)
  const held = []
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const base = { minVersion: version, maxVersion: version, cert: short.cert, key: short.private }
    const { said, session } = await says(base)
    assert.is(said, 'false', version)
    held.push({ ...base, session })
  }
  while (Date.now() <= ends.getTime() + 1_000) await pause(100)
  for (const options of held) {
    const refused = watched.until('listener.fault', ({ error }) =>
      /CERT_HAS_EXPIRED.*was made before/.test(error.message),
    )
    assert.is((await says(options)).said, undefined)
    await refused
  }
})

test.run()
