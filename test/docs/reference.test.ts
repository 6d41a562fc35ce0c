/** The pages made from the source are what the source would make today. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventNames } from '#src/core/events.js'
import { pages, root } from './reference.js'

const made = pages()

for (const [path, text] of Object.entries(made)) {
  test(`${path} is up to date (node build/docs/write-reference.js writes it)`, () => {
    assert.is(readFileSync(join(root, path), 'utf8'), text)
  })
}

test('every event has its row, and what it says', () => {
  const page = made['docs/reference/events.md'] as string
  for (const name of eventNames) assert.match(page, new RegExp(`\\| \`${name.replace('.', '\\.')}\` \\|`))
})

test('every error code of the source stands in the page', () => {
  const source = readFileSync(join(root, 'src/core/errors.ts'), 'utf8')
  const codes = new Set([...source.matchAll(/'([A-Z][A-Z_]+)'/g)].map(([, code]) => code as string))
  assert.ok(codes.size > 30)
  const page = made['docs/reference/errors.md'] as string
  for (const code of codes) assert.match(page, new RegExp(`\`${code}\``), code)
})

test.run()
