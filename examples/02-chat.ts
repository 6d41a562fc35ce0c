/**
 * A chat of lines: everybody hears everybody. One object serves all connections; a peer that does not read is ended as
 * `SLOW_PEER` and costs the others nothing.
 *
 *   npx gaidaros serve --config examples/02-chat.ts
 *   ncat localhost 8080                       (in two terminals; the first line is your name)
 */
import { type Connection, defineConfig, Handler, OnClose, OnMessage, OnOpen } from 'gaidaros'

@Handler({ codec: 'line' })
class Chat {
  readonly #names = new Map<Connection, string>()

  @OnOpen() welcome() {
    return 'who are you?'
  }

  @OnMessage() hear(line: string, connection: Connection) {
    const name = this.#names.get(connection)
    if (name !== undefined) return this.#tell(`${name}: ${line}`, connection)
    this.#names.set(connection, line)
    this.#tell(`${line} is here`, connection)
    return `hello ${line}, ${this.#names.size - 1} others are here`
  }

  @OnClose() leave(connection: Connection) {
    const name = this.#names.get(connection)
    this.#names.delete(connection)
    if (name !== undefined) this.#tell(`${name} has left`)
  }

  #tell(text: string, except?: Connection) {
    for (const connection of this.#names.keys()) if (connection !== except) connection.send(text)
  }
}

export default defineConfig({
  listen: 'tcp://localhost:8080',
  handler: Chat,
  limits: { connections: 1_000, connectionsPerSource: 100, lineBytes: 1024 },
})
