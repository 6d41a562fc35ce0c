/**
 * A key-value store that any Redis client talks to: commands arrive at the methods of their names, what a method returns is
 * the reply. HELLO, PING and the like are the protocol's.
 *
 *   npx gaidaros serve --config examples/11-stores/redis.ts
 *   redis-cli SET name Ada                    → OK
 *   redis-cli GET name                        → "Ada"
 *   redis-benchmark -t set,get -n 100000 -P 16 -q
 */
import { defineConfig, Handler, OnMessage } from 'gaidaros'
import { type RespCommand, RespError, simple } from 'gaidaros/plugins/resp'

@Handler()
class Store {
  readonly #values = new Map<string, string>()

  @OnMessage('GET') get({ args: [key = ''] }: RespCommand) {
    return this.#values.get(key) ?? null
  }

  @OnMessage('SET') set({ args: [key, value] }: RespCommand) {
    if (key === undefined || value === undefined) throw new RespError("wrong number of arguments for 'set' command")
    this.#values.set(key, value)
    return simple('OK')
  }

  @OnMessage('DEL') del({ args }: RespCommand) {
    return args.filter((key) => this.#values.delete(key)).length
  }

  @OnMessage('INCR') incr({ args: [key = ''] }: RespCommand) {
    const next = Number(this.#values.get(key) ?? 0) + 1
    if (!Number.isSafeInteger(next)) throw new RespError('value is not an integer or out of range')
    this.#values.set(key, String(next))
    return next
  }
}

export default defineConfig({
  listen: 'tcp://localhost:6379',
  protocol: 'resp',
  handler: Store,
  limits: { connections: 1_000, frameBytes: 64 * 1024 },
})
