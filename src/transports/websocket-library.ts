/**
 * The library beneath, in the few words this room uses of it: `ws` 8.
 *
 * Room: transports. An optional peer: it is loaded when a WebSocket is first listened for or dialled, and its types are
 * written out here, so that nobody needs them who has no use for it.
 */
import type { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { defaultLimits, defaultTimeouts } from '../core/options.js'
import { peerPackage } from '../core/peer-package.js'
import type { TransportOptions } from '../core/transport.js'
import type { WebSocketOptions } from './websocket-options.js'

export const OPEN = 1

/** `ws.WebSocket`. */
export interface Ws extends EventEmitter {
  readonly readyState: number
  readonly protocol: string
  readonly bufferedAmount: number
  send(data: Uint8Array | string, sent?: (error?: Error) => void): void
  ping(): void
  pause(): void
  resume(): void
  close(code?: number, reason?: string): void
}

/** `ws.WebSocketServer` with `noServer`. */
export interface WsServer extends EventEmitter {
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, done: (ws: Ws) => void): void
}

export interface WsLibrary {
  readonly WebSocket: new (url: string, protocols: readonly string[], options: object) => Ws
  readonly WebSocketServer: new (options: object) => WsServer
}

/** @throws {WiringError} `BAD_PLUGIN`: it is not installed. */
export function loadWs(): WsLibrary {
  return peerPackage<WsLibrary>('ws', 'transport websocket')
}

/** Its own sizes are 32-bit whole numbers, and 0 is none. */
const MOST_BYTES = 2 ** 31 - 1
/** Longest delay of a Node timer. */
const MOST_MS = 2 ** 31 - 1
const LEAST_CHUNKS = 16 * 1024
const CHUNK_BYTES = 256

/** Of the window we compress with, in powers of two: 1 KiB. */
export const WINDOW_BITS = 10

/**
 * Compression that costs a link less than 100 KiB. Without context takeover each message is compressed by itself; a
 * window of 1 KiB our way (RFC 7692, section 7.1.2). What it inflates to counts toward `limits.frameBytes`.
 */
const deflate = {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  serverMaxWindowBits: WINDOW_BITS,
  threshold: 1024,
  concurrencyLimit: 4,
  zlibDeflateOptions: { memLevel: 4 },
}

/** Options that both sides share. */
export function wsOptions({ limits, timeouts, compress = false }: TransportOptions<WebSocketOptions>): object {
  const { frameBytes } = limits ?? defaultLimits
  const { halfClosedMs } = timeouts ?? defaultTimeouts
  return {
    maxPayload: frameBytes === Number.POSITIVE_INFINITY ? 0 : Math.min(frameBytes, MOST_BYTES),
    // A message that trickles in a byte at a time must not cost a hundred times its size.
    maxBufferedChunks: Math.min(Math.max(LEAST_CHUNKS, Math.ceil(frameBytes / CHUNK_BYTES)), MOST_BYTES),
    closeTimeout: Math.min(halfClosedMs, MOST_MS),
    perMessageDeflate: compress && deflate,
  }
}
