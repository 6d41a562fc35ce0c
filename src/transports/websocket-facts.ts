/**
 * What is known of a WebSocket from the HTTP request that opened it.
 *
 * Room: transports. Loads nothing, so that a handler may import the token without the library.
 */
import { defineFeature, type FeatureToken } from '../core/feature.js'

/** The opening handshake (RFC 6455, section 4). */
export interface WebSocketFacts {
  /** The request's target as it was sent, with its query: `/chat?room=1`. */
  readonly path: string
  /** The request's headers, names in lower case; on a link that we opened, those of the response. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  /** The subprotocol agreed on; undefined when none was. */
  readonly protocol: string | undefined
  /** The page's origin, as browsers send it; undefined from other clients, and on a link that we opened. */
  readonly origin: string | undefined
  /**
   * What the close frame said that came from the peer: its code (1005: none) and its words, `{ code: 4001, reason: 'bye' }`. Left
   * out until the connection is closed, and where none came. When we ended first it repeats our code.
   */
  readonly close?: { readonly code: number; readonly reason: string } | undefined
}

/** `connection.feature(WEBSOCKET)`: present on every link of `ws` and `wss`. */
export const WEBSOCKET: FeatureToken<WebSocketFacts> = defineFeature<WebSocketFacts>('websocket')
