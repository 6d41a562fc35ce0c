/**
 * A cache that any client of memcached talks to. `get` returns what there is, in the order it was asked for; `true` and `false`
 * are the protocol's words for done and not done.
 *
 *   npx gaidaros serve --config examples/11-stores/memcached.ts
 *   echo hello > note && memccp --servers=localhost note && memccat --servers=localhost note     → hello
 *   printf 'set a 0 0 2\r\nhi\r\nget a\r\nquit\r\n' | ncat localhost 11211
 */
import { defineConfig, Handler, OnMessage } from 'gaidaros'
import type { MemcachedCommand, MemcachedItem } from 'gaidaros/plugins/memcached'

@Handler()
class Cache {
  readonly #items = new Map<string, MemcachedItem>()

  @OnMessage('get') get({ keys }: MemcachedCommand) {
    return keys.map((key) => this.#items.get(key))
  }

  @OnMessage('set') set({ key, value, flags }: MemcachedCommand) {
    // As old as it is: the oldest makes room.
    this.#items.delete(key)
    this.#items.set(key, { value, flags })
    if (this.#items.size > 10_000) this.#items.delete(this.#items.keys().next().value as string)
  }

  @OnMessage('add') add(command: MemcachedCommand) {
    if (this.#items.has(command.key)) return false
    return this.set(command)
  }

  @OnMessage('delete') delete({ key }: MemcachedCommand) {
    return this.#items.delete(key)
  }

  @OnMessage('stats') stats() {
    return { curr_items: this.#items.size }
  }
}

export default defineConfig({
  listen: 'tcp://localhost:11211',
  protocol: 'memcached',
  handler: Cache,
  limits: { connections: 1_000, frameBytes: 64 * 1024 },
})
