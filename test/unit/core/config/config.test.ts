import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Ajv } from 'ajv'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type ConfigurationInput, loadConfiguration } from '#src/core/config/index.js'
import { isPlainlyRight } from '#src/core/config/quick-check.js'
import { jsonSchema, shape } from '#src/core/config/shape.js'
import { Tree } from '#src/core/config/tree.js'
import type { ConfigError } from '#src/core/errors.js'
import { limitRows, timeoutRows } from '#src/core/options.js'

const root = mkdtempSync(join(tmpdir(), 'gf-'))
let last = 0
/** A folder of its own with these files; a package.json marks it as a project. */
function folder(files: Readonly<Record<string, unknown>>): string {
  const path = join(root, String(++last))
  for (const [name, content] of Object.entries({ 'package.json': {}, ...files })) {
    mkdirSync(dirname(join(path, name)), { recursive: true })
    writeFileSync(join(path, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return path
}
const load = (input: Partial<ConfigurationInput> = {}) =>
  loadConfiguration({ cwd: root, config: false, env: {}, ...input })
const refusal = (input: Partial<ConfigurationInput>): Promise<ConfigError> =>
  load(input).then(
    () => assert.unreachable('nothing was refused') as never,
    (error) => error,
  )
const flag = (path: string, value: unknown, name = '--set') => ({
  path,
  value,
  origin: { kind: 'flag', name } as const,
})

const json = { limits: { inFlight: 3 } }
const places: Readonly<Record<string, unknown>> = {
  'package.json': { gaidaros: json },
  '.gaidarosrc': 'limits:\n  inFlight: 3\n',
  '.gaidarosrc.json': json,
  '.gaidarosrc.yaml': 'limits:\n  inFlight: 3\n',
  '.gaidarosrc.yml': 'limits: { inFlight: 3 }\n',
  '.gaidarosrc.js': 'module.exports = { limits: { inFlight: 3 } }\n',
  '.gaidarosrc.cjs': 'module.exports = { limits: { inFlight: 3 } }\n',
  '.gaidarosrc.mjs': 'export default { limits: { inFlight: 3 } }\n',
  '.gaidarosrc.ts': 'export default { limits: { inFlight: 3 as number } }\n',
  '.config/gaidarosrc': 'limits:\n  inFlight: 3\n',
  '.config/gaidarosrc.json': json,
  '.config/.gaidarosrc.yaml': 'limits: { inFlight: 3 }\n',
  '.config/gaidaros.config.mjs': 'export default { limits: { inFlight: 3 } }\n',
  'gaidaros.config.js': 'module.exports = { limits: { inFlight: 3 } }\n',
  'gaidaros.config.mjs': 'export default { limits: { inFlight: 3 } }\n',
  'gaidaros.config.cjs': 'module.exports = { limits: { inFlight: 3 } }\n',
  'gaidaros.config.ts': 'enum N { Three = 3 }\nexport default { limits: { inFlight: N.Three } }\n',
  'gaidaros.config.json': json,
}
for (const [name, content] of Object.entries(places)) {
  test(`${name} is found`, async () => {
    const cwd = folder({ [name]: content, 'sub/x': '' })
    const loaded = await load({ cwd: join(cwd, 'sub'), config: true })
    assert.is(loaded.values.limits?.inFlight, 3)
    assert.is(loaded.file, join(cwd, name))
    assert.is(loaded.origin('limits.inFlight')?.name, join(cwd, name))
  })
}

test('defaults < imports < file < environment < flags < code, each leaf with its origin', async () => {
  const cwd = folder({
    'base.json': { limits: { connections: 1, inFlight: 1, peers: 1, lineBytes: 1, frameBytes: 1 } },
    'gaidaros.config.json': { $import: './base.json', limits: { inFlight: 2, peers: 2, lineBytes: 2, frameBytes: 2 } },
  })
  const loaded = await load({
    cwd,
    config: true,
    env: { GAIDAROS_LIMITS__PEERS: '3', GAIDAROS_LIMITS__LINE_BYTES: '3', GAIDAROS_LIMITS__FRAMEBYTES: '3' },
    flags: [flag('limits.lineBytes', '4'), flag('limits.frameBytes', '4')],
    code: { limits: { frameBytes: 5 } },
  })
  assert.equal({ ...loaded.values.limits }, { connections: 1, inFlight: 2, peers: 3, lineBytes: 4, frameBytes: 5 })
  const kinds = ['connections', 'inFlight', 'peers', 'lineBytes', 'frameBytes'].map(
    (key) => loaded.origin(`limits.${key}`)?.kind,
  )
  assert.equal(kinds, ['import', 'file', 'environment', 'flag', 'code'])
  assert.is(loaded.origin('limits.peers')?.name, 'GAIDAROS_LIMITS__PEERS')
})

test('imports chain, and a circle is refused with its way', async () => {
  const cwd = folder({
    'gaidaros.config.json': { $import: ['./a.json'] },
    'a.json': { $import: './deep/b.json', limits: { peers: 1 } },
    'deep/b.json': { handlers: './handlers/*.ts', limits: { peers: 9, inFlight: 9 } },
  })
  const { values } = await load({ cwd, config: true })
  assert.equal({ ...values.limits }, { peers: 1, inFlight: 9 })
  assert.is(values.handlers, join(cwd, 'deep/handlers/*.ts'), 'paths are meant from their own file')
  const round = folder({
    'gaidaros.config.json': { $import: './a.json' },
    'a.json': { $import: './gaidaros.config.json' },
  })
  assert.match((await refusal({ cwd: round, config: true })).message, /circle: .*gaidaros\.config\.json → .*a\.json → /)
})

test('an unknown key names itself, where it came from and the nearest known one', async () => {
  const cwd = folder({ 'gaidaros.config.json': { limits: { frameByts: 1 } } })
  const inFile = await refusal({ cwd, config: true })
  assert.is(inFile.code, 'UNKNOWN_KEY')
  assert.match(
    inFile.message,
    /limits\.frameByts: unknown key `frameByts`; nearest: `frameBytes` \(.*gaidaros\.config\.json\)/,
  )
  assert.match(
    (await refusal({ env: { GAIDAROS_LIMITS__FRAME_BYTS: '1' } })).message,
    /^GAIDAROS_LIMITS__FRAME_BYTS: unknown key `frameByts` in limits; nearest: `frameBytes`/,
  )
  assert.match(
    (await refusal({ flags: [flag('listners.a.endpoint', 'tcp://x:1')] })).message,
    /unknown key `listners`; nearest: `listeners` \(--set\)/,
  )
  assert.match((await refusal({ code: { listners: {} } as never })).message, /nearest: `listeners` \(code\)/)
})

test('every fault is told, with what was expected, what came, and where from', async () => {
  const cwd = folder({
    'gaidaros.config.json': {
      limits: { frameBytes: '1MB', whenFull: 'wait' },
      listeners: { a: { endpoint: 7 } },
      drain: { timeoutMs: -1 },
    },
  })
  const { message, code, fields } = await refusal({ cwd, config: true })
  assert.is(code, 'BAD_VALUE')
  assert.is((fields.faults as string[]).length, 4)
  assert.match(
    message,
    /limits\.frameBytes: expected bytes or "unlimited", got "1MB"; write 1048576 \(.*config\.json\)/,
  )
  assert.match(message, /limits\.whenFull: expected one of "refuse", "pause", got "wait"/)
  assert.match(message, /listeners\.a\.endpoint: expected an endpoint/)
})

test('no secret stands in any error', async () => {
  const { message } = await refusal({ code: { tls: { passphrase: { hunter: 2 }, key: 42 } } as never })
  assert.not.match(message, /hunter|42/)
  // Nor where the branch that holds it is refused as a whole.
  const whole = await refusal({ code: { cluster: { name: 'eu', password: 'hunter2', tls: 5 } } as never })
  assert.match(whole.message, /cluster: expected NATS servers .* got .*eu/)
  assert.not.match(whole.message, /hunter/)
})

test('a variable for text stays text where a setting has several forms', async () => {
  const { values } = await load({ code: {}, env: { GAIDAROS_CLUSTER__PASSWORD: '0042', GAIDAROS_CLUSTER__NAME: '7' } })
  assert.equal({ ...(values.cluster as object) }, { password: '0042', name: '7' })
})

test('the word unlimited is read as what it means, and only where it may stand', async () => {
  const { values } = await load({
    code: {
      limits: { frameBytes: 'unlimited' },
      listeners: { a: { endpoint: 'tcp://x:1', timeouts: { idleMs: 'unlimited' } } },
    },
  })
  assert.is(values.limits?.frameBytes, Number.POSITIVE_INFINITY)
  assert.is(values.listeners.a?.timeouts?.idleMs, Number.POSITIVE_INFINITY)
  await refusal({ code: { limits: { inFlight: 'unlimited' } } as never })
})

test('variables find listeners without regard to case, and text that only looks like a number stays text', async () => {
  const { values } = await load({
    code: {},
    env: {
      GAIDAROS_LISTENERS__PUBLIC__ENDPOINT: 'tcp://localhost:1',
      GAIDAROS_TLS__PASSPHRASE: '1234',
      GAIDAROS_MIDDLEWARE: '["log"]',
      GAIDAROS_CONFORMANCE_REPORT: 'x',
      OTHER: 'x',
    },
  })
  assert.is(values.listeners.public?.endpoint, 'tcp://localhost:1')
  assert.is(values.tls?.passphrase, '1234')
  assert.equal(values.middleware, ['log'])
})

test('paths of flags: quotes and places in lists', async () => {
  const { values } = await load({
    code: {},
    flags: [
      flag('listeners."my.app".endpoint', 'tcp://localhost:1'),
      flag('listen', '["tcp://a:1","tcp://b:2"]'),
      flag('listen[1]', 'tcp://c:3'),
    ],
  })
  assert.is(values.listeners['my.app']?.endpoint, 'tcp://localhost:1')
  assert.equal(values.listeners.default?.endpoint, ['tcp://a:1', 'tcp://c:3'])
  assert.match((await refusal({ flags: [flag('a..b', '1')] })).message, /is no path/)
})

test('the short form is the listener `default`, and the later of both wins', async () => {
  const { values } = await load({ code: { listen: 'tcp://localhost:1' } })
  assert.is(values.listeners.default?.endpoint, 'tcp://localhost:1')
  const flagged = await load({
    code: {},
    flags: [flag('listeners.default.endpoint', 'tcp://a:1'), flag('listen', 'tcp://b:2', '--listen')],
  })
  assert.is(flagged.values.listeners.default?.endpoint, 'tcp://b:2')
})

test('things of code pass by identity', async () => {
  const codec = { decode: (frame: Uint8Array) => frame, encode: (message: Uint8Array) => message }
  const handler = () => undefined
  const { values } = await load({ code: { codec, handler, listen: 'memory:x' } as never })
  assert.is(values.codec, codec)
  assert.is(values.handler, handler)
})

test('whatever is merged, nothing reaches the prototype of all objects', () => {
  const before = Object.keys(Object.prototype).length
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
      const tree = new Tree()
      for (const source of [a, b]) {
        try {
          tree.merge(JSON.parse(JSON.stringify(source).replace(/""/g, '"__proto__"')), { kind: 'file', name: 'x' })
        } catch {
          // Refused is fine.
        }
      }
      assert.is(Object.keys(Object.prototype).length, before)
      assert.is(({} as Record<string, unknown>).polluted, undefined)
    }),
    { numRuns: 2_000 },
  )
  const tree = new Tree()
  assert.throws(
    () => tree.merge(JSON.parse('{"limits":{"__proto__":{"polluted":1}}}'), { kind: 'file', name: 'x' }),
    /could change every object/,
  )
})

test('what the quick check accepts the schema accepts', () => {
  const wild = fc.oneof(fc.integer(), fc.string(), fc.boolean(), fc.double(), fc.constant('unlimited'))
  const often = <T>(good: fc.Arbitrary<T>) => fc.oneof({ weight: 12, arbitrary: good as fc.Arbitrary<unknown> }, wild)
  const some = (shape: Record<string, fc.Arbitrary<unknown>>) => fc.record(shape, { requiredKeys: [] })
  const count = often(fc.oneof(fc.nat(), fc.constant('unlimited')))
  const limits = some({
    connections: often(fc.nat()),
    frameBytes: count,
    whenFull: often(fc.constantFrom('refuse', 'pause')),
  })
  const timeouts = some({ idleMs: count, frameMs: count })
  const endpoint = often(fc.oneof(fc.constant('tcp://a:1'), fc.constant(['tcp://a:1', 'udp://b:2'])))
  const named = often(fc.oneof(fc.constant('line'), fc.constant({ name: 'fixed', size: 4 })))
  const shared = {
    limits,
    timeouts,
    codec: named,
    middleware: often(fc.array(named)),
    handler: often(fc.constant('Greeter')),
  }
  const listeners = fc.dictionary(fc.string(), fc.record({ endpoint, ...shared }, { requiredKeys: ['endpoint'] }), {
    maxKeys: 3,
  })
  const settings = some({ ...shared, listen: endpoint, listeners, drain: some({ timeoutMs: often(fc.nat()) }) })
  let accepted = 0
  fc.assert(
    fc.property(settings, (given) => {
      if (!isPlainlyRight(given)) return
      accepted++
      const { success, error } = shape.safeParse(given)
      assert.ok(success, JSON.stringify({ given, error }))
    }),
    { numRuns: 20_000 },
  )
  assert.ok(accepted > 100, `${accepted} were accepted`)
})

test('schema.json is JSON Schema of draft 7, and says of a configuration what the checker says', () => {
  const schema = jsonSchema()
  const ajv = new Ajv({ strict: false })
  assert.ok(ajv.validateSchema(schema), JSON.stringify(ajv.errors))
  assert.is((schema as { $schema?: string }).$schema, 'http://json-schema.org/draft-07/schema#')
  const validate = ajv.compile(schema)
  const listener = {
    endpoint: 'tcp://[::]:8080',
    handler: 'Greeter',
    codec: { name: 'line', payload: 'json' },
    middleware: ['log', { name: 'rate-limit', messages: 5 }],
    executor: { type: 'thread-pool', size: 4 },
    limits: { connections: 5, frameBytes: 'unlimited' },
    tls: { cert: './cert.pem', key: ['./key.pem'], sni: { 'a.test': { cert: 'x', key: 'y' } } },
    layers: ['gzip', { name: 'throttle', bytes: 1000 }],
    protocol: ['http', { name: 'resp', handler: 'Store' }],
  }
  const wholes: unknown[] = [
    {},
    { $schema: 'x', listen: 'tcp://localhost:0', handler: './greeter.ts' },
    { listen: ['tcp://localhost:0', 'unix:./a.sock'], $import: ['./a.json'], plugins: ['x', ['./y.ts', { a: 1 }]] },
    { listeners: { public: listener }, drain: { timeoutMs: 0 }, control: true, verbose: 2, workers: 1 },
    { hooks: { module: './h.js', class: 'Shout', args: ['!'], handleRequest: 'handle' } },
    { limitz: {} },
    { limits: { conections: 1 } },
    { limits: { connections: 'many' } },
    { limits: { frameBytes: -1 } },
    { listeners: { public: { handler: 'Greeter' } } },
    { listeners: { public: { ...listener, codec: 5 } } },
    { listeners: { public: { ...listener, executor: { name: 'thread' } } } },
    { tls: { minVersion: 'TLSv1.1' } },
    { hooks: { endRequst: 'x' } },
    { verbose: 9 },
  ]
  for (const whole of wholes) {
    assert.is(validate(whole), shape.safeParse(whole).success, JSON.stringify({ whole, errors: validate.errors }))
  }
})

test('schema.json describes every limit and deadline', () => {
  const { properties } = jsonSchema() as {
    properties: Record<string, { properties: Record<string, { description: string }> }>
  }
  for (const key of Object.keys(limitRows)) assert.ok(properties.limits?.properties[key]?.description, key)
  for (const key of Object.keys(timeoutRows)) assert.ok(properties.timeouts?.properties[key]?.description, key)
})

test.after(() => rmSync(root, { recursive: true, force: true }))
test('numbers with a unit are refused with the number to write', async () => {
  for (const [key, value, expected] of [
    ['timeouts.idleMs', '5m', /got "5m"; write 300000/],
    ['timeouts.frameMs', '1.5s', /; write 1500/],
    ['limits.frameBytes', '64KiB', /; write 65536/],
    ['limits.frameBytes', '1 MB', /; write 1048576/],
    ['timeouts.idleMs', 'soon', /got "soon" \(--set\)/],
  ] as const)
    assert.match((await refusal({ flags: [flag(key, value)] })).message, expected)
})

test('a limit that cannot be lifted says so; a key of another group and a variable with one underscore are found', async () => {
  const limit = await refusal({ flags: [flag('limits.connections', 'unlimited')] })
  assert.match(limit.message, /cannot be lifted: Connections at a time/)
  const cwd = folder({ 'c.json': { listeners: { a: { endpoint: 'tcp://localhost:0', idleTimeout: 5 } } } })
  assert.match(
    (await refusal({ cwd, config: 'c.json' })).message,
    /unknown key `idleTimeout`; nearest: `timeouts\.idleMs`/,
  )
  const variable = await refusal({ env: { GAIDAROS_LIMITS_CONNECTIONS: '5' } })
  assert.match(variable.message, /two underscores: GAIDAROS_LIMITS__CONNECTIONS/)
  assert.match((await refusal({ env: { GAIDAROS_LIMITZ: '5' } })).message, /unknown key `limitz`; nearest: `limits`/)
})

test('`listen` and what is said of `listeners.default` are one listener', async () => {
  const { values } = await load({
    flags: [flag('listen', 'tcp://localhost:0', '--listen'), flag('listeners.default.codec', 'raw')],
  })
  assert.equal({ ...values.listeners.default }, { endpoint: 'tcp://localhost:0', codec: 'raw' })
})

test.run()
