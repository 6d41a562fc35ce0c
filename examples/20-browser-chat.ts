/**
 * One chat for browsers and terminals: the same handler hears WebSocket messages and lines over TCP, and the page comes
 * from a third listener. `ws` has to be installed beside gaidaros.
 *
 *   npx gaidaros serve --config examples/20-browser-chat.ts
 *   chromium http://localhost:8000            (and in a terminal: ncat localhost 8080)
 */
import { type Connection, defineConfig, Handler, OnClose, OnMessage, OnOpen } from 'gaidaros'

@Handler({ codec: 'line' })
class Chat {
  readonly #all = new Set<Connection>()

  @OnOpen() join(connection: Connection) {
    this.#all.add(connection)
  }
  @OnMessage() hear(line: string, from: Connection) {
    for (const connection of this.#all) if (connection !== from) connection.send(`${from.transport}: ${line}`)
  }
  @OnClose() leave(connection: Connection) {
    this.#all.delete(connection)
  }
}

// The page's own address but for the port; ?ws=PORT names another one.
const page = `<!doctype html><meta charset="utf-8"><title>chat</title><form><input autofocus></form><pre></pre><script>
  const socket = new WebSocket('ws://' + location.hostname + ':' + (new URLSearchParams(location.search).get('ws') ?? 8001))
  const show = (text) => document.querySelector('pre').append(text + '\\n')
  socket.onmessage = ({ data }) => show(data)
  document.forms[0].onsubmit = (event) => {
    event.preventDefault()
    const input = document.querySelector('input')
    socket.send(input.value)
    show('me: ' + input.value)
    input.value = ''
  }
</script>`
const headers = { 'content-type': 'text/html' }

export default defineConfig({
  limits: { connections: 1_000, connectionsPerSource: 100, lineBytes: 1_024, frameBytes: 4_096 },
  listeners: {
    terminal: { endpoint: 'tcp://localhost:8080', handler: Chat },
    browser: { endpoint: 'ws://localhost:8001', handler: Chat },
    page: {
      endpoint: 'tcp://localhost:8000',
      protocol: { name: 'http', fetch: () => new Response(page, { headers }) },
    },
  },
})
