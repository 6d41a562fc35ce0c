/**
 * A news desk over STOMP: what is sent to a destination goes to whoever subscribed to it, after this handler has seen it.
 *
 *   npx gaidaros serve --config examples/13-stomp.ts
 *   stomp -H localhost -P 61613 -L /topic/news           (a subscriber; Debian: python3-stomp)
 *   echo 'send /topic/news good morning' > commands && stomp -H localhost -P 61613 -F commands
 */
import { defineConfig, Handler, OnMessage } from 'gaidaros'
import { StompError, type StompFrame } from 'gaidaros/plugins/stomp'

@Handler()
class NewsDesk {
  #count = 0

  @OnMessage('SEND') send({ headers, body }: StompFrame) {
    if (!headers.destination?.startsWith('/topic/')) throw new StompError('there are topics only')
    // What is returned goes out in place of the body; null would keep it in.
    return `${++this.#count}: ${body}`
  }

  @OnMessage('SUBSCRIBE') subscribe({ headers }: StompFrame) {
    if (headers.destination === '/topic/secret') throw new StompError('not for you')
  }
}

export default defineConfig({
  listen: 'tcp://localhost:61613',
  protocol: 'stomp',
  handler: NewsDesk,
  limits: { frameBytes: 64 * 1024 },
})
