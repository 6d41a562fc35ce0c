import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import { LayerLink, LayerSink } from '#src/core/layer-link.js'
import { checkStack, type PlacedLayer, stack } from '#src/core/layer-stack.js'
import { defaultLimits, defaultTimeouts } from '#src/core/options.js'
import type { Layer, LayerStage } from '#src/core/plugin.js'
import type { Capabilities, Link, LinkSink } from '#src/core/transport.js'

const stream: Capabilities = {
  kind: 'stream',
  ordered: true,
  reliable: true,
  halfClose: true,
  reset: true,
  backpressure: 'end-to-end',
  upgrade: ['tls'],
}

const layer = (name: string, given: Partial<Layer> & { stage?: LayerStage } = {}): PlacedLayer => ({
  name,
  layer: { wrap: (above) => new LayerSink(above), ...given },
})
const check = (layers: readonly PlacedLayer[], below = stream) => checkStack(layers, below, 'tcp', 'listeners.a.layers')

test('stages come in order from the wire inwards; the rest may stand anywhere', () => {
  const [proxy, tls, gzip, log] = [
    layer('proxy-protocol', { stage: 'preamble' }),
    layer('tls', { stage: 'security' }),
    layer('gzip', { stage: 'content' }),
    layer('wire-log'),
  ]
  assert.is(check([log, proxy, log, tls, gzip, log]), stream)
  assert.throws(() => check([tls, proxy]), /listeners\.a\.layers: proxy-protocol \(preamble\) has to stand before tls/)
  assert.throws(() => check([gzip, log, tls]), /tls \(security\) has to stand before gzip/)
  assert.throws(() => check([tls, tls]), /layer tls stands there twice/)
})

test('a layer that needs a stream is refused over messages', () => {
  const messages = { ...stream, kind: 'message' as const }
  assert.throws(
    () => check([layer('gzip')], messages),
    /layer gzip needs a stream of bytes; transport tcp carries messages/,
  )
  assert.is(check([layer('wire-log', { carriesMessages: true })], messages), messages)
})

test('what can be switched to in mid-life is what the innermost layer says', () => {
  const shut = layer('gzip', { upgrade: () => [] })
  assert.equal(check([shut]).upgrade, [])
  assert.throws(
    () => check([shut, layer('tls', { requires: 'tls' })]),
    /tls needs links that switch to tls; what is below it \(tcp, gzip\) can switch to nothing/,
  )
  assert.throws(
    () => check([layer('tls', { requires: 'tls' })], { ...stream, upgrade: [] }),
    /transport tcp can switch to nothing/,
  )
})

test('bytes go through the first layer named first, and replies the other way round', () => {
  const passed: string[] = []
  const marking = (name: string): PlacedLayer =>
    layer(name, {
      wrap: (above) =>
        new (class extends LayerSink {
          override data(below: Link, buffer: Uint8Array, start: number, end: number): void {
            passed.push(`in ${name}`)
            super.data(below, buffer, start, end)
          }
          override make(below: Link): LayerLink {
            return new (class extends LayerLink {
              override write(bytes: Uint8Array): boolean {
                passed.push(`out ${name}`)
                return super.write(bytes)
              }
            })(below)
          }
        })(above),
    })
  let top: Link | undefined
  const core: LinkSink = {
    open: (link) => void (top = link),
    data: (link, buffer, start, end) => void link.write(buffer.subarray(start, end)),
    end: () => passed.push('end'),
    drain: () => passed.push('drain'),
    close: (_link, error) => passed.push(`close ${error?.message}`),
  }
  const endpoint = parseEndpoint('memory:a')
  const { limits, timeouts } = { limits: defaultLimits, timeouts: defaultTimeouts }
  const sink = stack([marking('outer'), marking('inner')], core, {
    side: 'accepted',
    endpoint,
    listener: 'a',
    kind: 'stream',
    limits,
    timeouts,
    tls: undefined,
  })
  const written: Uint8Array[] = []
  const wire = {
    state: undefined,
    remote: endpoint,
    buffered: 7,
    write: (bytes: Uint8Array) => written.push(bytes) > 0,
    pause: () => passed.push('pause'),
  } as unknown as Link
  sink.open(wire)
  sink.data(wire, Buffer.from('hi'), 0, 2)
  assert.equal(passed.splice(0), ['in outer', 'in inner', 'out inner', 'out outer'])
  assert.is(Buffer.concat(written).toString(), 'hi')
  assert.is(top?.buffered, 7)
  assert.is(top?.remote, endpoint)
  top?.pause()
  sink.end(wire)
  sink.drain(wire)
  sink.close(wire, new Error('cut'))
  assert.equal(passed, ['pause', 'end', 'drain', 'close cut'])
})

test.run()
