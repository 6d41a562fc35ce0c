/** Room: plugins/layers. What handlers can ask about a proxied connection; apart from the layer, so that asking loads none of it. */
import type { Endpoint } from '../../core/endpoint.js'
import { defineFeature, type FeatureToken } from '../../core/feature.js'
import type { ProxyHeader, ProxyTlsFacts } from './proxy-header.js'

/** What the proxy said of a connection. */
export interface ProxyFacts extends ProxyHeader {
  /** The address that connected to us: the proxy. */
  readonly proxy: Endpoint | undefined
  /** PP2_TYPE_ALPN, PP2_TYPE_AUTHORITY and PP2_TYPE_UNIQUE_ID, where they were sent. */
  readonly alpn: string | undefined
  readonly authority: string | undefined
  readonly uniqueId: Buffer | undefined
  /** PP2_TYPE_SSL: what the proxy knows of a TLS connection that ends with it. */
  readonly tls: ProxyTlsFacts | undefined
}

/** `connection.feature(PROXY)`; undefined where no header came. */
export const PROXY: FeatureToken<ProxyFacts> = defineFeature<ProxyFacts>('proxy')
