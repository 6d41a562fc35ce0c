/** Which files of TLS are handed on as bytes: wherever settings have them, together with what belongs to them, and nothing else. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { tlsFiles, withMaterials } from '#src/core/workers/materials.js'

const folder = mkdtempSync(join(tmpdir(), 'gm-'))
test.after(() => rmSync(folder, { recursive: true }))

const file = (name: string) => {
  const path = join(folder, name)
  writeFileSync(path, name)
  return path
}
const bytes = (name: string) => new Uint8Array(Buffer.from(name))
const identity = (name: string) => ({ cert: file(`${name}.pem`), key: file(`${name}.key`) })
const read = (name: string) => ({ cert: bytes(`${name}.pem`), key: bytes(`${name}.key`) })

/** Each place of settings where TLS stands. */
const places: readonly (readonly [string, (tls: object) => object])[] = [
  ['the server', (tls) => ({ tls })],
  ['a listener', (tls) => ({ listeners: { a: { endpoint: 'tls://127.0.0.1:0', tls } } })],
  ['a server name', (tls) => ({ tls: { ...identity('outer'), sni: { 'example.org': tls } } })],
  ['a layer', (tls) => ({ listeners: { a: { layers: ['gzip', { name: 'tls', ...tls }] } } })],
  ['one of several protocols', (tls) => ({ listeners: { a: { protocol: [{ name: 'smtp', tls }] } } })],
  ['an executor', (tls) => ({ executor: { type: 'cluster', tls } })],
]

for (const [where, settings] of places) {
  test(`F121 a key that is kept from the user is handed on with its certificate: ${where}`, () => {
    const given = settings(identity('a'))
    const before = structuredClone(given)
    assert.ok(tlsFiles(given).includes(join(folder, 'a.key')))
    assert.equal(
      withMaterials(given, (path) => path.endsWith('a.key')),
      settings(read('a')),
    )
    // The settings that are in use stay as they are.
    assert.equal(given, before)
    assert.equal(
      withMaterials(given, () => false),
      before,
    )
  })
}

test('F121 lists, revocation lists and ticket keys go with it; text, passphrases and what is not of TLS stay', () => {
  const pem = '-----BEGIN CERTIFICATE-----\n'
  const tls = {
    cert: [file('a.pem'), pem],
    key: file('a.key'),
    ca: [file('ca.pem')],
    crl: file('l.crl'),
    ticketKeys: file('t'),
  }
  const further = { passphrase: 'secret', alpn: ['x'], watch: true }
  const others = {
    plugins: [['./own.js', { key: file('other'), cert: file('other') }]],
    codec: { name: 'line' },
    drain: undefined,
  }
  assert.equal(
    withMaterials({ tls: { ...tls, ...further }, ...others }, (path) => path.endsWith('a.key')),
    {
      tls: {
        cert: [bytes('a.pem'), pem],
        key: bytes('a.key'),
        ca: [bytes('ca.pem')],
        crl: bytes('l.crl'),
        ticketKeys: bytes('t'),
        ...further,
      },
      ...others,
    },
  )
  assert.equal(
    tlsFiles({ tls, ...others }).sort(),
    ['a.key', 'a.pem', 'ca.pem', 'l.crl', 't'].map((name) => join(folder, name)).sort(),
  )
  assert.equal(tlsFiles(undefined), [])
})

test.run()
