/**
 * The client's side of STOMP.
 *
 * Room: plugins/protocols.
 */
import type { Connection } from '../../../core/connection.js'
import type { StompFrame, StompFrameToSend } from './frame.js'
import { StompError } from './stomp.js'

type Client = Connection & {
  request<T>(message: unknown, options?: { readonly timeoutMs?: number }): Promise<T>
  messages<T>(): AsyncIterable<T>
}
type Headers = StompFrameToSend['headers']

/** A connection to a broker. */
export interface StompPeer {
  /** The broker's CONNECTED. */
  readonly connected: StompFrame
  /** @returns once the broker has it (a receipt). @throws {StompError} the broker's. */
  send(destination: string, body: string | Uint8Array, headers?: Headers): Promise<void>
  /** @param listener - Called with each message; where `ack` is asked for, it is acknowledged when its promise settles. */
  subscribe(
    destination: string,
    listener: (frame: StompFrame) => unknown,
    headers?: Headers,
  ): Promise<() => Promise<void>>
  /** Waits for the broker's receipt, then closes. */
  disconnect(): Promise<void>
}

/**
 * Says CONNECT and keeps the subscriptions.
 *
 * @throws {StompError} what the broker refuses with.
 * @example
 * const broker = await stompClient(await connect('tcp://localhost:61613', { protocol: 'stomp' }))
 * await broker.subscribe('/topic/news', ({ body }) => console.log(String(body)))
 * await broker.send('/topic/news', 'good morning')
 */
export async function stompClient(connection: Client, headers: Headers = {}): Promise<StompPeer> {
  const listeners = new Map<string, { listener: (frame: StompFrame) => unknown; isAcknowledged: boolean }>()
  let lastId = 0
  const ask = async (frame: StompFrameToSend): Promise<StompFrame> => {
    const answer = await connection.request<StompFrame>(frame)
    if (answer.command === 'ERROR') throw new StompError(answer.headers.message ?? 'error', String(answer.body))
    return answer
  }
  const withReceipt = (frame: StompFrameToSend) =>
    ask({ ...frame, headers: { ...frame.headers, receipt: `r${++lastId}` } })
  const own = { 'accept-version': '1.0,1.1,1.2', host: connection.endpoint.host, 'heart-beat': '0,0' }
  const connected = await ask({ command: 'CONNECT', headers: { ...own, ...headers } })

  const take = async (frame: StompFrame) => {
    const found = listeners.get(frame.headers.subscription ?? '')
    if (frame.command !== 'MESSAGE' || found === undefined) return
    const id = frame.headers.ack ?? frame.headers['message-id']
    const say = (command: string) =>
      void connection.send({ command, headers: { id, 'message-id': id, subscription: frame.headers.subscription } })
    try {
      await found.listener(frame)
      if (found.isAcknowledged) say('ACK')
    } catch {
      if (found.isAcknowledged) say('NACK')
    }
  }
  const listen = async () => {
    for await (const frame of connection.messages<StompFrame>()) await take(frame)
  }
  // How it ended is in connection.closed, for whoever asks.
  listen().catch(() => {})

  return {
    connected,
    async send(destination, body, more) {
      await withReceipt({ command: 'SEND', headers: { ...more, destination }, body })
    },
    async subscribe(destination, listener, more) {
      const id = `s${++lastId}`
      listeners.set(id, { listener, isAcknowledged: (more?.ack ?? 'auto') !== 'auto' })
      await withReceipt({ command: 'SUBSCRIBE', headers: { ...more, id, destination } })
      return async () => {
        await withReceipt({ command: 'UNSUBSCRIBE', headers: { id } })
        listeners.delete(id)
      }
    },
    async disconnect() {
      await withReceipt({ command: 'DISCONNECT' })
      await connection.close()
    },
  }
}
