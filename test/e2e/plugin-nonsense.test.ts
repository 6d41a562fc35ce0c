// time limit: 240 s
/** Plugins that register what is none of the kind: told with who registers it and who asks for it, status 2, no stack. */
import { createServer } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros } from '../support/command.js'
import { Folder } from '../support/workers.js'

const folder = new Folder()
test.after(() => folder.remove())
const listen = 'memory:nonsense'
const kinds = ['codec', 'framer', 'payload', 'layer', 'protocol', 'middleware', 'executor'] as const
const isRefused = async (options: object) => {
  const error = await createServer({
    config: false,
    listen,
    handler: (line: string) => line,
    ...options,
  } as never).then(
    () => assert.unreachable('was accepted'),
    (thrown) => thrown,
  )
  assert.is(error.name, 'WiringError', error.stack)
  assert.is(error.code, 'BAD_PLUGIN')
  return error.message as string
}
const plugin = (register: (registry: never) => unknown) => ({
  name: 'odd',
  setup: (registry: never) => void register(registry),
})

const nonsense: readonly (readonly [what: string, args: readonly unknown[]])[] = [
  ['a name beside it', ['odd', { decode: () => {}, encode: () => '' }]],
  ['nothing', []],
  ['null', [null]],
  ['the thing itself', [{ decode: () => {}, encode: () => '', start: () => {}, wrap: () => {} }]],
  ['no name', [{ create: () => ({}) }]],
  ['an empty name', [{ name: '', create: () => ({}) }]],
  ['no function', [{ name: 'odd', create: {} }]],
  ['options that are no schema', [{ name: 'odd', options: { a: 1 }, create: () => ({}) }]],
  ['a list', [[{ name: 'odd', create: () => ({}) }]]],
]

for (const kind of [...kinds, 'transport', 'companion', 'observer'] as const) {
  test(`a plugin that registers nonsense as ${kind} is told by name`, async () => {
    for (const [what, args] of nonsense) {
      const message = await isRefused({
        plugins: [plugin((registry) => (registry as Record<string, (...all: unknown[]) => void>)[kind]?.(...args))],
      })
      assert.match(message, /^plugin `odd` \(plugins\[0\]\): /, what)
      assert.match(message, new RegExp(`registry\\.${kind}.* expected a`), what)
    }
  })
}

const asks: Readonly<Record<(typeof kinds)[number], readonly [options: object, place: string]>> = {
  codec: [{ codec: 'odd' }, 'codec'],
  framer: [{ codec: 'odd' }, 'codec'],
  payload: [{ codec: { name: 'line', payload: 'odd' } }, 'codec.payload'],
  layer: [{ layers: ['odd'] }, 'layers[0]'],
  protocol: [{ protocol: 'odd' }, 'protocol'],
  middleware: [{ middleware: ['odd'] }, 'middleware[0]'],
  executor: [{ executor: 'odd' }, 'executor'],
}
for (const kind of kinds) {
  test(`a ${kind} that is made as nonsense is told with who made it and who asked for it`, async () => {
    const [options, place] = asks[kind]
    for (const made of [undefined, null, 7, 'odd', {}, { name: 'odd' }, Promise.resolve({})]) {
      const registered = plugin((registry) =>
        (registry as Record<string, (one: unknown) => void>)[kind]?.({ name: 'odd', create: () => made }),
      )
      const message = await isRefused({ plugins: [registered], ...options })
      assert.match(message, `${place}: the ${kind} \`odd\` of plugin \`odd\` (plugins[0]) made no ${kind}: expected `)
    }
  })
}

test('the command ends with status 2, names plugin and key, and prints no stack', async () => {
  folder.write('odd.mjs', "export default { name: 'odd', setup: (registry) => registry.codec('odd', {}) }")
  folder.write('none.mjs', 'export default null')
  folder.write(
    'made.mjs',
    "export default { name: 'odd', setup: (registry) => void registry.codec({ name: 'odd', create: () => 1 }) }",
  )
  for (const [file, expected] of [
    ['odd.mjs', /plugin `odd` \(plugins\[0\], .*odd\.mjs\): registry\.codec\(…\) expected a factory: .*got "odd"/],
    ['none.mjs', /none\.mjs: expected its module to have a default export/],
    [
      'made.mjs',
      /listeners\.default\.codec: the codec `odd` of plugin `odd` \(plugins\[0\], .*made\.mjs\) made no codec/,
    ],
  ] as const) {
    folder.write('c.json', { listen: 'tcp://127.0.0.1:0', codec: 'odd', plugins: [`./${file}`] })
    const command = gaidaros(['serve', '--config', 'c.json'], { cwd: folder.path })
    assert.is(await command.ended, 2, command.stderr)
    assert.match(command.stderr, expected)
    assert.not.match(command.stderr, /\n\s+at /)
  }
})

test.run()
