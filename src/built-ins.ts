/**
 * What comes with Gaidaros, by name: the catalogue of the door.
 *
 * Codecs, and the transports of plain streams, are there at once. Everything else is loaded when a configuration first names
 * it: a server of lines over TCP neither reads nor keeps the code of an MQTT broker.
 */
import type { Configuration } from './core/configuration.js'
import type { ServerRegistry } from './core/registry.js'
import { codecs, framers, payloads } from './plugins/codecs/index.js'
import { tcp } from './transports/tcp.js'
import { unix } from './transports/unix.js'

/** @param shared - What the configuration says of the cluster. */
export function registerBuiltIns(registry: ServerRegistry, shared?: Configuration['cluster']): ServerRegistry {
  for (const framer of framers) registry.framer(framer as never)
  for (const payload of payloads) registry.payload(payload as never)
  for (const codec of codecs) registry.codec(codec as never)
  registry
    .transport(tcp)
    .transportOnDemand('tls', ['tls'], async () => (await import('./transports/tls.js')).tls)
    .transportOnDemand('udp', ['udp'], async () => (await import('./transports/udp.js')).udp)
    .transport(unix)
    .transportOnDemand('memory', ['memory'], async () => (await import('./transports/memory.js')).memory)
    .transportOnDemand('websocket', ['ws', 'wss'], async () => (await import('./transports/websocket.js')).websocket)
    .transportOnDemand('fd', ['fd'], async () => (await import('./transports/fd.js')).fd)
    .transportOnDemand('systemd', ['systemd'], async () => (await import('./transports/systemd.js')).systemd)
    .transportOnDemand('stdio', ['stdio'], async () => (await import('./transports/stdio.js')).stdio)
    .transportOnDemand('attached', ['attached'], async () => (await import('./transports/attached.js')).attached)
    .onDemand('middleware', 'log', async () => (await import('./plugins/middleware/log.js')).log)
    .onDemand('middleware', 'rate-limit', async () => (await import('./plugins/middleware/rate-limit.js')).rateLimit)
    .onDemand('middleware', 'ip-filter', async () => (await import('./plugins/middleware/ip-filter.js')).ipFilter)
    .onDemand(
      'middleware',
      'idle-timeout',
      async () => (await import('./plugins/middleware/idle-timeout.js')).idleTimeout,
    )
    .onDemand('middleware', 'error-reply', async () => (await import('./plugins/middleware/error-reply.js')).errorReply)
    .onDemand(
      'middleware',
      'max-per-source',
      async () => (await import('./plugins/middleware/max-per-source.js')).maxPerSource,
    )
    .onDemand(
      'middleware',
      'client-identity',
      async () => (await import('./plugins/middleware/client-identity.js')).clientIdentity,
    )
    .onDemand('layer', 'proxy-protocol', async () => (await import('./plugins/layers/proxy-protocol.js')).proxyProtocol)
    .onDemand('layer', 'tls', async () => (await import('./plugins/layers/tls.js')).tls)
    .onDemand('layer', 'gzip', async () => (await import('./plugins/layers/compression.js')).gzip)
    .onDemand('layer', 'deflate', async () => (await import('./plugins/layers/compression.js')).deflate)
    .onDemand('layer', 'brotli', async () => (await import('./plugins/layers/compression.js')).brotli)
    .onDemand('layer', 'zstd', async () => (await import('./plugins/layers/compression.js')).zstd)
    .onDemand('layer', 'throttle', async () => (await import('./plugins/layers/throttle.js')).throttle)
    .onDemand('layer', 'wire-log', async () => (await import('./plugins/layers/wire-log.js')).wireLog)
    .onDemand('layer', 'pcap', async () => (await import('./plugins/layers/pcap.js')).pcap)
    .onDemand('protocol', 'http', async () => (await import('./plugins/protocols/http.js')).http)
    .onDemand('protocol', 'json-rpc', async () => (await import('./plugins/protocols/json-rpc.js')).jsonRpc)
    .onDemand('protocol', 'resp', async () => (await import('./plugins/protocols/resp/index.js')).resp)
    .onDemand('protocol', 'mqtt', async () => (await import('./plugins/protocols/mqtt/index.js')).mqtt)
    .onDemand('protocol', 'dns', async () => (await import('./plugins/protocols/dns.js')).dns)
    .onDemand('protocol', 'smtp', async () => (await import('./plugins/protocols/smtp.js')).smtp)
    .onDemand('protocol', 'socks5', async () => (await import('./plugins/protocols/socks5.js')).socks5)
    .onDemand('protocol', 'syslog', async () => (await import('./plugins/protocols/syslog.js')).syslog)
    .onDemand('protocol', 'stomp', async () => (await import('./plugins/protocols/stomp/index.js')).stomp)
    .onDemand('protocol', 'memcached', async () => (await import('./plugins/protocols/memcached/index.js')).memcached)
    .onDemand('protocol', 'coap', async () => (await import('./plugins/protocols/coap/index.js')).coap)
    .onDemand('executor', 'task', async () => (await import('./plugins/executors/task.js')).task)
    .onDemand('executor', 'thread', async () => (await import('./plugins/executors/thread.js')).thread)
    .onDemand('executor', 'thread-pool', async () => (await import('./plugins/executors/thread.js')).threadPool)
    .onDemand('executor', 'process', async () => (await import('./plugins/executors/process.js')).childProcess)
    .onDemand('executor', 'process-pool', async () => (await import('./plugins/executors/process.js')).processPool)
    .onDemand('executor', 'cluster', async () => (await import('./plugins/executors/cluster/front.js')).cluster(shared))
  return registry
}
