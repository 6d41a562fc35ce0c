// time limit: 180 s
/** A real browser reaches the handlers that ncat reaches: text, binary, bounds, refusals, and TLS. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { type Connection, createServer, defineHandler, TLS, WEBSOCKET } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Browser, type Page } from '../support/browser.js'
import { gaidaros, killAll, root } from '../support/command.js'
import { Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

let browser: Browser | undefined
const children: ReturnType<typeof spawn>[] = []
test.before(async () => {
  if (hasTool('chromium')) browser = await Browser.start()
})
test.after(async () => {
  for (const child of children) child.kill()
  await browser?.stop()
  killAll()
  await stopAll()
})

/** Until the page shows something. */
const shows = (page: Page, text: string) =>
  page.get(`new Promise((resolve, reject) => {
    const until = Date.now() + 20000
    const look = () => document.body.innerText.includes(${JSON.stringify(text)}) ? resolve(true)
      : Date.now() > until ? reject(new Error('the page shows: ' + document.body.innerText)) : setTimeout(look, 10)
    look()
  })`)
const types = (page: Page, text: string) =>
  page.get(`document.querySelector('input').value = ${JSON.stringify(text)}, document.forms[0].requestSubmit()`)

test('example 20: a browser and ncat users in one chat, through one handler', async () => {
  if (browser === undefined) return skip('20 browser chat', 'chromium is not installed')
  const at = (name: string, endpoint: string) => ['--set', `listeners.${name}.endpoint=${endpoint}`]
  const command = gaidaros([
    'serve',
    '--config',
    join(root, 'examples/20-browser-chat.ts'),
    ...at('terminal', 'tcp://127.0.0.1:0'),
    ...at('browser', 'ws://127.0.0.1:0'),
    ...at('page', 'tcp://127.0.0.1:0'),
  ])
  const ports = await command.ready()
  const [one, two] = [
    await browser.open(`http://127.0.0.1:${ports.page}/?ws=${ports.browser}`),
    await browser.open(`http://127.0.0.1:${ports.page}/?ws=${ports.browser}`),
  ]
  for (const page of [one, two])
    await page.get(`new Promise((resolve) => socket.readyState === 1 ? resolve() : socket.onopen = resolve)`)
  const peer = await Peer.open(ports.terminal as number)
  // Heard by all, so it has been let in.
  peer.send('good morning\n')
  await shows(one, 'tcp: good morning')
  await shows(two, 'tcp: good morning')
  if (hasTool('ncat')) {
    const ncat = spawn('ncat', ['127.0.0.1', String(ports.terminal)])
    children.push(ncat)
    let heard = ''
    ncat.stdout.on('data', (chunk) => (heard += chunk))
    ncat.stdin.write('ncat is here\n')
    await shows(one, 'tcp: ncat is here')
    await types(one, 'grüße, 世界 🐴')
    while (!heard.includes('websocket: grüße, 世界 🐴\n')) await new Promise((resolve) => setTimeout(resolve, 10))
    ncat.kill()
  } else {
    skip('20 by ncat', 'ncat is not installed')
    await types(one, 'grüße, 世界 🐴')
  }
  await peer.hears(Buffer.from('websocket: grüße, 世界 🐴\n').toString('latin1'))
  await shows(two, 'websocket: grüße, 世界 🐴')
  await shows(one, 'me: grüße, 世界 🐴')
  peer.leave()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0, command.stderr)
})

const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })

for (const scheme of ['ws', 'wss'] as const) {
  test(`${scheme}: text stays text, bytes stay bytes, bounds stay, subprotocol and close code arrive`, async () => {
    if (browser === undefined) return skip(scheme, 'chromium is not installed')
    const kinds: string[] = []
    const handler = defineHandler({
      name: 'Echo',
      codec: 'raw',
      message(bytes: Buffer, connection: Connection) {
        kinds.push(
          `${bytes.length} ${connection.feature(TLS)?.protocol ?? 'plain'} ${connection.feature(WEBSOCKET)?.path}`,
        )
        return bytes
      },
    })
    const echo = await serve({
      listen: `${scheme}://127.0.0.1:0/echo`,
      ...(scheme === 'wss' ? { tls: { cert, key } } : {}),
      socket: { protocols: ['one', 'two'] },
      limits: { frameBytes: 100_000 },
      handler,
    })
    const lines = await serve({
      listen: `${scheme}://127.0.0.1:0`,
      ...(scheme === 'wss' ? { tls: { cert, key } } : {}),
      handler: (line: string) => line.toUpperCase(),
    })
    const pages = await createServer({
      config: false,
      listen: 'tcp://127.0.0.1:0',
      protocol: { name: 'http', fetch: () => new Response('a page') },
    })
    await pages.start()
    const page = await browser.open(`http://127.0.0.1:${pages.listeners.get('default')?.endpoint.port}/`)
    const sizes = await page.get<(number | string)[]>(`new Promise((resolve, reject) => {
      const socket = new WebSocket('${scheme}://127.0.0.1:${echo.port}/echo?room=1', ['two'])
      socket.binaryType = 'arraybuffer'
      const heard = [], sent = [0, 1, 125, 126, 65535, 65536, 100000]
      socket.onopen = () => sent.forEach((size) => socket.send(new Uint8Array(size).fill(7)))
      socket.onerror = () => reject(new Error('no connection'))
      socket.onmessage = ({ data }) => {
        heard.push(data.byteLength)
        if (heard.length < sent.length) return
        socket.onclose = ({ code, wasClean }) => resolve([...heard, socket.protocol, code, String(wasClean)])
        socket.send(new Uint8Array(100001))
      }
    })`)
    assert.equal(sizes, [0, 1, 125, 126, 65_535, 65_536, 100_000, 'two', 1009, 'true'])
    assert.match(kinds[0] as string, scheme === 'wss' ? /^0 TLSv1\.3 \/echo\?room=1$/ : /^0 plain \/echo\?room=1$/)
    assert.is(kinds.length, 7)
    const texts = await page.get<string[]>(`new Promise((resolve, reject) => {
      const socket = new WebSocket('${scheme}://127.0.0.1:${lines.port}')
      const heard = []
      socket.onopen = () => ['a', '', 'zwei zeilen\\nin one', 'é🐴'].forEach((text) => socket.send(text))
      socket.onerror = () => reject(new Error('no connection'))
      socket.onmessage = ({ data }) => heard.push(typeof data + ' ' + data) === 4 && resolve(heard)
    })`)
    assert.equal(texts, ['string A', 'string ', 'string ZWEI ZEILEN\nIN ONE', 'string É🐴'])
    await pages.stop({ timeoutMs: 0 })
  })
}

test('a page of another origin is refused where origins are named, and served where it is one of them', async () => {
  if (browser === undefined) return skip('origins', 'chromium is not installed')
  const pages = await createServer({
    config: false,
    listen: 'tcp://127.0.0.1:0',
    protocol: { name: 'http', fetch: () => new Response('a page') },
  })
  await pages.start()
  const origin = `http://127.0.0.1:${pages.listeners.get('default')?.endpoint.port}`
  const handler = (line: string) => line
  const strict = await serve({ listen: 'ws://127.0.0.1:0', socket: { origins: ['https://example.org'] }, handler })
  const open = await serve({ listen: 'ws://127.0.0.1:0', socket: { origins: [origin] }, handler })
  const page = await browser.open(`${origin}/`)
  const outcome = (port: number) =>
    page.get<string>(`new Promise((resolve) => {
      const socket = new WebSocket('ws://127.0.0.1:${port}')
      socket.onopen = () => resolve('open')
      socket.onerror = () => resolve('refused')
    })`)
  assert.is(await outcome(strict.port), 'refused')
  const { error } = await strict.until('listener.fault')
  assert.match(error.message, /refused with 403.*is not in socket\.origins/)
  assert.is(await outcome(open.port), 'open')
  await pages.stop({ timeoutMs: 0 })
})

test.run()
