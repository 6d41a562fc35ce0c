import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Endpoint, parseEndpoint } from '#src/core/endpoint.js'
import { ConfigError } from '#src/core/errors.js'

test('an endpoint is a string that knows its parts', () => {
  const endpoint = parseEndpoint('tcp://[::1]:8080')
  assert.is(endpoint.host, '::1')
  assert.is(endpoint.port, 8080)
  assert.is(`${endpoint}`, 'tcp://[::1]:8080')
  assert.is(`${endpoint.with({ port: 9 })}`, 'tcp://[::1]:9')
  assert.is(JSON.stringify({ endpoint }), '{"endpoint":"tcp://[::1]:8080"}')
  assert.instance(endpoint, Endpoint)
})

test('the short form keeps everything after the colon as its path', () => {
  assert.is(parseEndpoint('unix:./greeter.sock').path, './greeter.sock')
  assert.is(parseEndpoint('memory:greeter').path, 'greeter')
})

for (const [text, expected] of [
  ['8080', /expected scheme.*did you mean `tcp:\/\/localhost:8080`/],
  [':8080', /did you mean `tcp:\/\/localhost:8080`/],
  ['localhost:8080', /did you mean `tcp:\/\/localhost:8080`/],
  ['127.0.0.1:8080', /did you mean `tcp:\/\/127\.0\.0\.1:8080`/],
  ['[::1]:8080', /did you mean `tcp:\/\/\[::1\]:8080`/],
  ['./greeter.sock', /did you mean `unix:\.\/greeter\.sock`/],
  ['tcp://localhost', /port is missing/],
  ['tcp://:80', /host is missing/],
  ['tcp://localhost:65536', /not in 0 to 65535/],
  ['tcp://::1:80', /brackets/],
  ['tcp://[fe80::g]:80', /no IPv6/],
  ['tpc://localhost:1', /nearest: `tcp`/],
] as const) {
  test(`refuses ${text}`, () => {
    assert.throws(
      () => parseEndpoint(text, ['tcp', 'udp']),
      (error: unknown) => error instanceof ConfigError && error.code === 'BAD_ENDPOINT' && expected.test(error.message),
    )
  })
}

test.run()
