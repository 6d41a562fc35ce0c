/**
 * A notice board over JSON-RPC 2.0: calls, batches, notifications, and calls of the server to its clients on one connection.
 *
 *   npx gaidaros serve --config examples/28-json-rpc.ts
 *   ncat localhost 4000
 *   {"jsonrpc":"2.0","id":1,"method":"add","params":[2,3]}                               → result 5
 *   [{"jsonrpc":"2.0","method":"post","params":["tea is ready"]},{"jsonrpc":"2.0","id":2,"method":"list"}]
 *   {"jsonrpc":"2.0","id":3,"method":"sign"}             → the server calls "name"; answer {"jsonrpc":"2.0","id":1,"result":"Ada"}
 */
import { type Connection, defineConfig, Handler, OnMessage } from 'gaidaros'
import { RpcError, rpc } from 'gaidaros/plugins/json-rpc'

const notices: string[] = []

@Handler()
class NoticeBoard {
  @OnMessage('add') add(numbers: number[]) {
    if (!Array.isArray(numbers)) throw new RpcError(-32_602, 'expected numbers')
    return numbers.reduce((sum, one) => sum + one, 0)
  }

  // Sent as a notification it is answered by nobody.
  @OnMessage('post') post([text]: [string]) {
    notices.push(String(text).slice(0, 100))
    if (notices.length > 100) notices.shift()
  }

  @OnMessage('list') list() {
    return notices
  }

  @OnMessage('sign') async sign(_: unknown, connection: Connection) {
    const name = await rpc(connection).call('name')
    this.post([`signed: ${name}`])
    return `thank you, ${name}`
  }
}

export default defineConfig({
  listen: 'tcp://localhost:4000',
  protocol: 'json-rpc',
  handler: NoticeBoard,
  limits: { frameBytes: 16 * 1024 },
})
