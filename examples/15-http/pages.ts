/**
 * HTTP by a decorated handler: the method is the route. Returned objects go out as JSON, a `Response` as it is.
 *
 *   npx gaidaros serve --config examples/15-http/pages.ts
 *   curl localhost:8080/guests                           → []
 *   curl -d '{"name":"Ada"}' localhost:8080/guests       → {"guests":1}
 */
import { defineConfig, Handler, OnMessage } from 'gaidaros'
import type { HttpRequest } from 'gaidaros/plugins/http'

@Handler()
class GuestBook {
  readonly #guests: string[] = []

  @OnMessage('GET') list({ path }: HttpRequest) {
    return path === '/guests' ? this.#guests : new Response('no such page\n', { status: 404 })
  }

  @OnMessage('POST') sign(request: HttpRequest) {
    const { name } = request.json() as { name?: unknown }
    if (typeof name !== 'string' || name.length > 100) return new Response('who?\n', { status: 400 })
    this.#guests.push(name)
    return { guests: this.#guests.length }
  }
}

export default defineConfig({
  listen: 'tcp://localhost:8080',
  protocol: 'http',
  handler: GuestBook,
  limits: { connections: 1_000, frameBytes: 64 * 1024 },
})
