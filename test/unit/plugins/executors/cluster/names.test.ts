import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { chooseHandler, nameAbroad } from '#src/plugins/executors/cluster/names.js'

const fails = (wanted: unknown, handlers: Parameters<typeof chooseHandler<string>>[1]) => {
  try {
    chooseHandler(wanted as never, handlers)
  } catch (error) {
    return (error as Error).message
  }
  return undefined
}
const at = (base: string, reference: string, name: string) => ({
  handler: `${base} ${reference} ${name}`,
  name,
  abroad: nameAbroad({ reference: `${base}/${reference}` }, name, base),
})

test('a file is named relative to the configuration, a package as it is', () => {
  assert.equal(nameAbroad({ reference: '/srv/a/src/h.ts#Echo' }, 'Echo', '/srv/a'), {
    reference: 'src/h.ts#Echo',
    name: 'Echo',
  })
  assert.equal(nameAbroad({ reference: '/srv/h.ts', name: 'X' }, 'Y', '/srv/a'), { reference: '../h.ts', name: 'X' })
  assert.equal(nameAbroad({ reference: 'my-package#Echo' }, 'Echo', '/srv'), {
    reference: 'my-package#Echo',
    name: 'Echo',
  })
  assert.equal(nameAbroad({ eval: 'x => x' }, 'eval', '/srv'), { eval: 'x => x' })
  assert.equal(nameAbroad({ hooks: { module: '/srv/a/h.js', class: 'C' } }, 'hooks', '/srv/a'), {
    hooks: { class: 'C', module: 'h.js' },
  })
})

test('another folder, the same handler; of two with one name the one of that file', () => {
  const theirs = [at('/opt/b', 'one.ts', 'Echo'), at('/opt/b', 'two.ts', 'Echo'), at('/opt/b', 'three.ts', 'Other')]
  assert.is(chooseHandler(at('/srv/a', 'two.ts', 'Echo').abroad as never, theirs), '/opt/b two.ts Echo')
  // Built there, not here: the name is clear.
  assert.is(chooseHandler(at('/srv/a', 'dist/three.js', 'Other').abroad as never, theirs), '/opt/b three.ts Other')
  assert.match(
    fails(at('/srv/a', 'four.ts', 'Echo').abroad, theirs) as string,
    /no handler Echo \(four\.ts\); it has: Echo, Echo, Other/,
  )
})

test('what is not known is refused, whatever it is', () => {
  const theirs = [at('/opt/b', 'one.ts', 'Echo')]
  for (const wanted of [
    undefined,
    null,
    7,
    'x',
    {},
    { eval: 'process.exit()' },
    { hooks: {} },
    { reference: '/etc/passwd' },
    { name: {}, reference: [] },
  ])
    assert.match(fails(wanted, theirs) as string, /this node's configuration has no handler/)
})

test.run()
