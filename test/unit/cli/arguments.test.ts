import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readArguments } from '#src/cli/arguments.js'
import { commands, flagsOf } from '#src/cli/flags.js'
import { help } from '#src/cli/help.js'
import { ConfigError } from '#src/core/errors.js'

const read = (line: string) => readArguments(line.split(' '))
/** The settings of a command line, without their origin. */
const settings = (line: string) => read(line).assignments.map(({ path, value }) => [path, value])

for (const [line, expected] of [
  ['serve', []],
  ['serve --listen tcp://localhost:1', [['listen', 'tcp://localhost:1']]],
  ['serve -l tcp://a:1 -l udp://a:1', [['listen', ['tcp://a:1', 'udp://a:1']]]],
  [
    'serve --handler ./a.ts --codec line',
    [
      ['handler', './a.ts'],
      ['codec', 'line'],
    ],
  ],
  ['serve --middleware log', [['middleware', ['log']]]],
  [
    'serve --workers auto --executor task',
    [
      ['workers.count', 'auto'],
      ['executor', 'task'],
    ],
  ],
  [
    'serve --tls-cert c.pem --tls-key k.pem',
    [
      ['tls.cert', 'c.pem'],
      ['tls.key', 'k.pem'],
    ],
  ],
  [
    'serve --max-connections 5 --frame-bytes 6',
    [
      ['limits.connections', '5'],
      ['limits.frameBytes', '6'],
    ],
  ],
  [
    'serve --idle-timeout-ms 7 --drain-timeout-ms 8',
    [
      ['timeouts.idleMs', '7'],
      ['drain.timeoutMs', '8'],
    ],
  ],
  [
    'serve --set a.b=c=d -s e=',
    [
      ['a.b', 'c=d'],
      ['e', ''],
    ],
  ],
  ['serve --control /tmp/x.sock', [['control.path', '/tmp/x.sock']]],
  ['serve --control=/tmp/x.sock', [['control.path', '/tmp/x.sock']]],
  ['serve --control', [[['control'], {}]]],
  [
    'serve --control -l tcp://a:1',
    [
      ['listen', 'tcp://a:1'],
      [['control'], {}],
    ],
  ],
  ['serve --pid-file p.pid', [['control.pidFile', 'p.pid']]],
  ['status --control /tmp/x.sock', []],
] as const) {
  test(`${line}: is these settings`, () => assert.equal(settings(line), expected))
}

test('a setting names the flag it came from', () => {
  const [listen, set] = read('serve --listen tcp://a:1 --set x=1').assignments
  assert.equal(listen?.origin, { kind: 'flag', name: '--listen' })
  assert.equal(set?.origin, { kind: 'flag', name: '--set' })
})

for (const [line, message] of [
  ['serv', /unknown command `serv`; nearest: `serve`; known: serve, handle/],
  ['constructor', /unknown command `constructor`/],
  ['__proto__', /unknown command `__proto__`/],
  ['serve --lisen x', /unknown option --lisen; nearest: `--listen`/],
  ['serve -x', /unknown option -x; gaidaros serve --help/],
  ['serve --listen', /--listen.* missing/],
  ['serve --quiet=1', /--quiet.*does not take an argument/],
  ['serve --set nothing', /--set nothing: expected PATH=VALUE/],
  ['serve --set =x', /expected PATH=VALUE/],
  ['serve tcp://localhost:1', /meant --listen tcp:\/\/localhost:1\?/],
  ['check ./a.mts', /meant --handler \.\/a\.mts\?/],
  ['serve --eval x --handler y', /--eval and --handler/],
  ['status default', /`default` is one word too many/],
  ['suspend a b', /`b` is one word too many/],
  ['check --pid-file x', /unknown option --pid-file/],
] as const) {
  test(`${line}: is refused, and says what was meant`, () => {
    assert.throws(
      () => read(line),
      (error: Error) => error instanceof ConfigError && error.code === 'BAD_USAGE' && message.test(error.message),
    )
  })
}

test('words that a command takes are its operands', () => {
  assert.equal(read('suspend public').operands, ['public'])
  assert.equal(read('init transport folder --name x').operands, ['transport', 'folder'])
  assert.equal(read('serve nonsense --help').flags.help, true)
})

test('help shows every flag of every command, and examples that are understood', () => {
  for (const [name, { examples }] of Object.entries(commands)) {
    const text = help(name)
    for (const flag of flagsOf(name)) assert.match(text, `--${flag.name}`)
    for (const example of examples) {
      const words = [...example.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => (quoted ?? plain) as string)
      assert.is(words[0], 'gaidaros')
      assert.is(readArguments(words.slice(1)).command, name)
    }
  }
  assert.is(help('constructor'), help())
})

test('any words are understood, or refused as bad usage', () => {
  const word = fc.oneof(
    fc.string(),
    fc.constantFrom(
      ...Object.keys(commands),
      ...flagsOf('serve').map(({ name }) => `--${name}`),
      '--',
      '-',
      '-v',
      '=',
      '--=',
    ),
  )
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), (words) => {
      try {
        readArguments(words)
      } catch (error) {
        if (!(error instanceof ConfigError && error.code === 'BAD_USAGE')) throw error
      }
    }),
    { numRuns: 2_000 },
  )
})

test.run()
