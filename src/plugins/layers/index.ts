/** Room: plugins/layers. What is registered at the door, from the wire inwards. */
import { brotli, deflate, gzip, zstd } from './compression.js'
import { pcap } from './pcap.js'
import { proxyProtocol } from './proxy-protocol.js'
import { throttle } from './throttle.js'
import { tls } from './tls.js'
import { wireLog } from './wire-log.js'

export const layers = [proxyProtocol, tls, gzip, deflate, brotli, zstd, throttle, wireLog, pcap] as const

export { brotli, deflate, gzip, pcap, proxyProtocol, throttle, tls, wireLog, zstd }
