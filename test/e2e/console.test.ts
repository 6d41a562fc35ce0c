// time limit: 120 s
/** The operator's page in a real browser, and at its door what no browser of the operator's would send. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConfiguredServer, createServer } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Browser } from '../support/browser.js'
import { gaidaros, killAll } from '../support/command.js'
import { Peer } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'go-'))
const tokenFile = join(folder, 'token')
const servers: ConfiguredServer[] = []

async function serve(options: object = {}, further: object = {}) {
  const said: string[] = []
  const write = process.stderr.write
  process.stderr.write = ((text: string) => said.push(String(text)) > 0) as never
  try {
    const server = await createServer({
      config: false,
      listeners: {
        public: { endpoint: 'tcp://127.0.0.1:0', handler: (line: string) => line },
        spare: { endpoint: `unix:${join(folder, `${servers.length}.sock`)}`, handler: (line: string) => line },
      },
      plugins: [['gaidaros/plugins/console', { listen: 'tcp://127.0.0.1:0', tokenFile, ...options }]],
      ...further,
    })
    servers.push(server)
    await server.start()
    const text = said.join('')
    const port = Number(/console: https?:\/\/[^:]+:(\d+)/.exec(text)?.[1] ?? 0)
    return { server, port, said: text, public: server.listeners.get('public')?.endpoint.port ?? 0 }
  } finally {
    process.stderr.write = write
  }
}

interface Reply {
  readonly status: number
  readonly headers: Record<string, unknown>
  readonly text: string
}

function ask(where: object, path: string, headers: Record<string, string> = {}, body?: string): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const options = { ...where, path, method: body === undefined ? 'GET' : 'POST', headers, agent: false }
    const sent = request(options, (response) => {
      let text = ''
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

const assertRejects = async (promise: Promise<unknown>, pattern: RegExp) => {
  try {
    await promise
  } catch (error) {
    assert.match((error as Error).message, pattern)
    return
  }
  assert.unreachable('it was not refused')
}

const token = () => readFileSync(tokenFile, 'utf8').trim()
const bearer = () => ({ authorization: `Bearer ${token()}` })

test('it is off unless it is named', async () => {
  const server = await createServer({ config: false, listen: 'tcp://127.0.0.1:0', handler: (line: string) => line })
  servers.push(server)
  await server.start()
  assert.is(server.listeners.size, 1)
})

test('the token is made in a file of mode 0600, and is not printed', async () => {
  const { said } = await serve()
  assert.is(statSync(tokenFile).mode & 0o777, 0o600)
  assert.ok(token().length >= 32)
  assert.not.match(said, new RegExp(token()))
  assert.match(said, /console: http:\/\/127\.0\.0\.1:\d+\/ \(its token is in .*token\)/)
})

test('a token file that others can read, or that is guessable, is refused', async () => {
  const file = join(folder, 'open')
  writeFileSync(file, `${'x'.repeat(40)}\n`, { mode: 0o600 })
  chmodSync(file, 0o640)
  await assertRejects(serve({ tokenFile: file }), /can be read by others; chmod 600/)
  chmodSync(file, 0o600)
  writeFileSync(file, 'hunter2\n')
  await assertRejects(serve({ tokenFile: file }), /at least 24 characters/)
})

test('anything but loopback and Unix sockets is refused unless it is forced', async () => {
  for (const listen of ['tcp://0.0.0.0:0', 'tcp://[::]:0', 'tcp://127.0.0.1.example.org:0', 'ws://192.0.2.1:0']) {
    await assertRejects(serve({ listen }), /can be reached from other machines.*allowPublic/)
  }
  const { port } = await serve({ listen: 'tcp://0.0.0.0:0', allowPublic: true, hosts: ['ops.example.org'] })
  assert.is((await ask({ port }, '/', { host: 'ops.example.org' })).status, 200)
  assert.is((await ask({ port }, '/', { host: 'evil.example.org' })).status, 421)
})

test('a wrong token is 401, a wrong Host 421, another origin 403; nothing is told', async () => {
  const { port, public: peerPort } = await serve()
  const peer = await Peer.open(peerPort)
  await peer.echoes('x')
  const state = (headers: Record<string, string>) => ask({ port }, '/api/state', headers)
  for (const [headers, status] of [
    [{}, 401],
    [{ authorization: 'Bearer wrong' }, 401],
    [{ authorization: `Basic ${token()}` }, 401],
    [{ authorization: `Bearer ${token()}x` }, 401],
    [{ ...bearer(), host: 'rebound.example.org' }, 421],
    [{ ...bearer(), host: `127.0.0.1.example.org:${port}` }, 421],
    [{ ...bearer(), origin: 'https://evil.example.org' }, 403],
    [{ ...bearer(), origin: 'null' }, 403],
    [{ ...bearer(), 'sec-fetch-site': 'cross-site' }, 403],
    [{ ...bearer(), origin: `http://localhost:${port}` }, 200],
    [bearer(), 200],
  ] as const) {
    const reply = await state(headers)
    assert.is(reply.status, status, JSON.stringify(headers))
    if (status !== 200) assert.not.match(reply.text, /public|pid|version|at \//)
  }
  assert.is((await ask({ port }, `/api/state?token=${token()}`)).status, 401)
  for (const path of ['/api/kill', '/api/suspend']) {
    assert.is((await ask({ port }, path, {}, '{"listener":"public"}')).status, 401)
    assert.is((await ask({ port }, path, { ...bearer(), origin: 'http://evil' }, '{"listener":"public"}')).status, 403)
  }
  await peer.echoes('still here')
  peer.leave()
})

test('what makes no sense is refused in few words, and files are the page’s alone', async () => {
  const { port } = await serve()
  for (const path of [
    '/../package.json',
    '/console.js.map',
    '/api/',
    '/api/constructor',
    '/__proto__',
    '/%2e%2e/x',
    '//',
  ]) {
    const reply = await ask({ port }, path, bearer())
    assert.is(reply.status, 404, path)
  }
  for (const body of ['', '5', '[]', '{', 'x'.repeat(20_000)]) {
    assert.is((await ask({ port }, '/api/kill', bearer(), body)).status, 400, body.slice(0, 10))
  }
  assert.is((await ask({ port }, '/api/stop', bearer(), '{}')).status, 404)
  assert.is((await ask({ port }, '/api/kill', bearer(), '{"connection":"nobody"}')).status, 409)
  assert.is((await ask({ port }, '/api/kill', bearer(), '{}')).status, 409)
  const { headers } = await ask({ port }, '/')
  assert.match(String(headers['content-security-policy']), /default-src 'none'; script-src 'self'; style-src 'self'/)
  assert.is(headers['x-frame-options'], 'DENY')
  assert.is(headers['cache-control'], 'no-store')
  const { text } = await ask({ port }, '/api/state?sort=nonsense', bearer())
  assert.match(JSON.parse(text).list.error, /sort: expected/)
})

test('readOnly shows everything and changes nothing', async () => {
  const { port, server } = await serve({ readOnly: true })
  assert.is((await ask({ port }, '/api/suspend', bearer(), '{"listener":"public"}')).status, 403)
  assert.is(server.listeners.get('public')?.state, 'listening')
  assert.is(JSON.parse((await ask({ port }, '/api/state', bearer())).text).isReadOnly, true)
})

test('it can stand on a Unix socket of mode 0600', async () => {
  const socketPath = join(folder, 'console.sock')
  const { server } = await serve({ listen: `unix:${socketPath}` })
  assert.is(statSync(socketPath).mode & 0o777, 0o600)
  assert.is((await ask({ socketPath }, '/', { host: 'localhost' })).status, 200)
  assert.is((await ask({ socketPath }, '/', { host: 'evil.example.org' })).status, 421)
  await server.stop()
  assert.is(existsSync(socketPath), false)
})

test('without a file the token is printed once, behind the # of the address, and in no list of processes', async () => {
  const config = join(folder, 'c.json')
  writeFileSync(
    config,
    JSON.stringify({
      listen: 'tcp://127.0.0.1:0',
      plugins: [['gaidaros/plugins/console', { listen: 'tcp://127.0.0.1:0' }]],
    }),
  )
  const command = gaidaros(['serve', '--config', config, '-v', '-v'])
  await command.ready()
  const [, port = '', secret = ''] = await command.shows(/console: http:\/\/127\.0\.0\.1:(\d+)\/#token=(\S{32})/)
  assert.is((await ask({ port }, '/api/state', { authorization: `Bearer ${secret}` })).status, 200)
  for (const file of ['cmdline', 'environ']) {
    assert.not.match(readFileSync(`/proc/${command.pid}/${file}`, 'utf8'), new RegExp(secret))
  }
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
  assert.is((command.stderr + command.stdout).split(secret).length, 2)
})

test('a token in the configuration or on the command line is refused', async () => {
  await assertRejects(serve({ token: 'x' }), /unknown option/)
})

test('in a browser: listeners, charts that move, a filter, and kill with a reason', async () => {
  if (!hasTool('chromium')) return skip('console in a browser', 'chromium is not installed')
  const { server, port, public: peerPort } = await serve()
  const peers = await Promise.all([Peer.open(peerPort), Peer.open(peerPort), Peer.open(peerPort)])
  const [one, other, third] = peers as [Peer, Peer, Peer]
  for (const peer of peers) await peer.echoes('hello')
  const closed = new Promise<{ code: string; error?: Error }>((resolve) =>
    server.on('connection.closed', ({ reason }) => resolve(reason)),
  )
  const talk = setInterval(() => other.send('x\n'), 20)
  const browser = await Browser.start()
  try {
    const page = await browser.open(`http://127.0.0.1:${port}/#token=${token()}`)
    await page.until(`document.body.dataset.state === 'live'`)
    assert.is(await page.get('location.href'), `http://127.0.0.1:${port}/`)
    assert.equal(
      await page.get(`[...document.querySelectorAll('#listeners tbody tr')].map((row) => row.cells[0].textContent)`),
      ['public', 'spare'],
    )
    await page.until(`document.querySelectorAll('#connections tbody tr').length === 3`)

    // A chart is another picture once a second has passed.
    await page.until(`document.querySelector('#legend-messages b').textContent !== '–'`)
    const picture = `document.getElementById('chart-messages').toDataURL()`
    const before = await page.get<string>(picture)
    await page.get(`void (window.before = ${JSON.stringify(before)})`)
    await page.until(`${picture} !== window.before`)
    await page.until(`Number(document.querySelector('#legend-messages b').textContent) > 10`)
    await page.until(`/µs|ms/.test(document.querySelector('#legend-latency b').textContent)`)

    await page.get(`document.getElementById('filter').focus()`)
    await page.type(`:${one.socket.localPort}`)
    await page.until(`document.querySelectorAll('#connections tbody tr').length === 1`)
    assert.match(
      await page.get(`document.querySelector('#connections tbody').textContent`),
      new RegExp(`:${one.socket.localPort}`),
    )
    assert.is(await page.get(`document.getElementById('connections-count').textContent`), '1 of 3')

    await page.get(`document.querySelector('#connections .kill').click()`)
    await page.until(`document.getElementById('kill').open`)
    await page.type('<b>too loud</b>')
    await page.get(`document.getElementById('kill-yes').click()`)
    await one.over
    const reason = await closed
    assert.equal([reason.code, reason.error?.message], ['KILLED', 'killed by the operator: <b>too loud</b>'])
    await third.echoes('still here')
    await page.until(`document.querySelector('#connections .none')`)

    await page.get(`document.querySelector('#listeners tbody tr:nth-child(2) button').click()`)
    await page.until(`document.querySelector('#listeners tbody tr:nth-child(2) .pill').textContent === 'suspended'`)
    assert.is(server.listeners.get('spare')?.state, 'suspended')
    await page.get(`document.querySelector('#listeners tbody tr:nth-child(2) button').click()`)
    await page.until(`document.querySelector('#listeners tbody tr:nth-child(2) .pill').textContent === 'listening'`)

    // No alarm, no bar for alarms.
    assert.is(await page.get(`document.getElementById('alarms').offsetHeight`), 0)

    // Nothing sticks out, on a desk or on a phone.
    for (const width of [1440, 1024, 390]) {
      await page.size(width, 900)
      await page.until(`document.documentElement.scrollWidth <= ${width}`)
    }
    assert.equal(page.problems, [])
    assert.ok(page.requests.length > 5 && page.requests.every((url) => url.startsWith(`http://127.0.0.1:${port}/`)))
    assert.ok(page.requests.every((url) => !url.includes(token())))
  } finally {
    clearInterval(talk)
    await browser.stop()
    for (const peer of peers) peer.leave()
  }
})

test('in a browser: what peers and operators named is text, never markup', async () => {
  if (!hasTool('chromium')) return skip('console and markup', 'chromium is not installed')
  const name = '<img src=x onerror=document.title="owned">'
  const further = { listeners: { [name]: { endpoint: 'tcp://127.0.0.1:0', handler: (line: string) => line } } }
  const { port } = await serve({}, further)
  const browser = await Browser.start()
  try {
    const page = await browser.open(`http://127.0.0.1:${port}/`)
    await page.until(`document.getElementById('login').open`)
    await page.get(`document.getElementById('token').focus()`)
    await page.type('wrong')
    await page.get(`document.querySelector('#login button').click()`)
    await page.until(
      `/not the server/.test(document.getElementById('login-text').textContent) && document.getElementById('login').open`,
    )
    await page.get(`document.getElementById('token').focus()`)
    await page.type(token())
    await page.get(`document.querySelector('#login button').click()`)
    await page.until(`document.body.dataset.state === 'live'`)
    assert.is(await page.get(`document.querySelector('#listeners .name').textContent`), name)
    assert.is(await page.get(`document.querySelectorAll('main img').length`), 0)
    assert.is(await page.get('document.title'), 'Gaidaros console')
  } finally {
    await browser.stop()
  }
})

test.after(async () => {
  killAll()
  for (const server of servers) await server.stop({ timeoutMs: 0 })
  rmSync(folder, { recursive: true, force: true })
})
test.run()
