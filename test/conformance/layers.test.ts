// time limit: 240 s
/** A stack of layers over a transport is a transport: it keeps every promise of the published suite. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as zlib from 'node:zlib'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import { systemClock } from '#src/core/clock.js'
import { EventHub } from '#src/core/events.js'
import { stack } from '#src/core/layer-stack.js'
import { defaultLimits, defaultTimeouts } from '#src/core/options.js'
import { ServerRegistry } from '#src/core/registry.js'
import type { Link, LinkSink, Transport, TransportOptions } from '#src/core/transport.js'
import { layers } from '#src/plugins/layers/index.js'
import { transportConformance } from '#src/testing/index.js'
import { tcp } from '#src/transports/tcp.js'

const folder = mkdtempSync(join(tmpdir(), 'gl-'))
const { cert, private: key } = await generate([{ name: 'commonName', value: '127.0.0.1' }])
const registry = new ServerRegistry({ events: new EventHub(), clock: systemClock })
for (const layer of layers) registry.layer(layer as never)

type Ref = string | { readonly name: string; readonly [option: string]: unknown }

/** TCP with layers on both sides. */
function over(accepting: readonly Ref[], connecting: readonly Ref[] = accepting): Transport {
  const placed = (refs: readonly Ref[]) => refs.map((ref) => registry.resolveLayer(ref as never, 'test'))
  const scope = (side: 'accepted' | 'connected', endpoint: never, options: TransportOptions) => ({
    side,
    endpoint,
    listener: 'test',
    kind: 'stream' as const,
    limits: options.limits ?? defaultLimits,
    timeouts: options.timeouts ?? defaultTimeouts,
    tls: options.tls,
  })
  return {
    ...(tcp as Transport),
    capabilities: () => ({ ...tcp.capabilities({} as never, {}), upgrade: [] }),
    listen: (endpoint, options, sink) =>
      tcp.listen(
        endpoint,
        options as never,
        stack(placed(accepting), sink, scope('accepted', endpoint as never, options)),
      ),
    async connect(endpoint, options, sink, signal) {
      let opened: (link: Link) => void = () => {}
      let failed: (error: Error) => void = () => {}
      const top = new Promise<Link>((resolve, reject) => {
        opened = resolve
        failed = reject
      })
      const telling: LinkSink = {
        open(link) {
          sink.open(link)
          opened(link)
        },
        data: (link, buffer, start, end) => sink.data(link, buffer, start, end),
        end: (link) => sink.end(link),
        drain: (link) => sink.drain(link),
        close: (link, error) => sink.close(link, error),
        fault: (error) => failed(error),
      }
      const sides = stack(placed(connecting), telling, scope('connected', endpoint as never, options))
      await tcp.connect?.(endpoint, options as never, sides, signal)
      return top
    },
  }
}

const one = (name: string, transport: Transport, more: object = {}) =>
  transportConformance({ name, transport: { ...transport, name }, endpoint: 'tcp://127.0.0.1:0', ...more }, { test })
const tls = {
  options: { tls: { cert, key } },
  connectOptions: { tls: { ca: cert, rejectUnauthorized: false } },
}

one('wire-log', over([{ name: 'wire-log', file: join(folder, 'wire.log'), maxBytes: 16 }]))
one('pcap', over([{ name: 'pcap', file: join(folder, 'wire.pcap') }]))
one('throttle', over([{ name: 'throttle', read: 200_000_000, write: 200_000_000, burst: 20_000 }]))
one('proxy-protocol', over([{ name: 'proxy-protocol', trusted: ['127.0.0.1'] }], ['proxy-protocol']))
one('tls', over(['tls']), tls)
const squeezes = {
  skip: [
    { reason: 'what the case writes compresses to next to nothing', cases: ['paused-reader-stops-writer'] },
    { reason: 'a compressed link takes nothing back', cases: ['unread-within-data'] },
  ],
}
const squeezers = ['gzip', 'deflate', 'brotli', ...('createZstdCompress' in zlib ? ['zstd'] : [])]
for (const name of squeezers) one(name, over([{ name, ratio: 'unlimited' }]), squeezes)
one(
  'all-of-them',
  over(
    [{ name: 'proxy-protocol', trusted: ['127.0.0.1'] }, 'tls', { name: 'gzip', ratio: 'unlimited' }],
    ['proxy-protocol', 'tls', { name: 'gzip', ratio: 'unlimited' }],
  ),
  { ...tls, ...squeezes },
)

test.after(() => rmSync(folder, { recursive: true, force: true }))
test.run()
