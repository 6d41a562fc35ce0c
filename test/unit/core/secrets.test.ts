/** What is hidden is what schemas say; names are a net beneath. */
import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { optionSchema } from '#src/core/option-schema.js'
import { Secrets, tlsSecrets } from '#src/core/secrets.js'

const word = fc.stringMatching(/^[a-z]{4,9}$/)
const leaf = fc.oneof(word, fc.integer(), fc.record({ inner: word }), fc.array(word, { minLength: 1 }))

test('F99 nothing of a secret option is in what is shown, whatever its name and its value', () => {
  fc.assert(
    fc.property(word, leaf, fc.boolean(), (key, value, isInList) => {
      const secrets = new Secrets().add(['a', '0'], optionSchema({ [key]: { unit: 'any', why: '', secret: true } }))
      const options = { [key]: { marked: value, 'mark-1': 'zzzz-mark' } }
      const shown = JSON.stringify(secrets.hide({ a: isInList ? [options] : { 0: options } }))
      assert.not.match(shown, 'zzzz-mark')
      assert.match(shown, '(hidden)')
      assert.is(secrets.has(['b', '0', key]), false, 'elsewhere the key means something else')
    }),
  )
})

test('F99 an option that is refused is not quoted', () => {
  const schema = optionSchema({
    code: { unit: 'text', why: '', secret: true },
    tls: { unit: 'list', why: '', secret: tlsSecrets },
  })
  const result = schema['~standard'].validate({
    code: ['hunter2'],
    tls: { sni: { a: { key: 'hunter2', cert: 'seen' } } },
  })
  const said = JSON.stringify((result as { issues: unknown }).issues)
  assert.not.match(said, 'hunter2')
  assert.match(said, 'expected text, got a secret that is not shown')
  assert.match(said, 'seen')
})

test('F99 a schema of any library says it as JSON Schema does, through references, lists and forms', () => {
  const json = {
    definitions: { login: { properties: { word: { writeOnly: true } } }, round: { $ref: '#/definitions/round' } },
    properties: {
      a: { $ref: '#/definitions/login' },
      b: { items: { anyOf: [{ type: 'string' }, { $ref: '#/definitions/login' }] } },
      c: { additionalProperties: { format: 'password' } },
      d: { $ref: '#/definitions/round' },
    },
  }
  const schema = { '~standard': { version: 1, vendor: 'x', validate: () => {}, jsonSchema: { input: () => json } } }
  const secrets = new Secrets().add([], schema)
  for (const path of ['a.word', 'b.3.word', 'c.ada', 'c.ada.more']) assert.ok(secrets.has(path.split('.')), path)
  for (const path of ['a', 'a.name', 'b.3', 'c', 'd', 'd.word']) assert.not.ok(secrets.has(path.split('.')), path)
})

test('what schemas forget is hidden by its name; addresses lose their logins', () => {
  const shown = new Secrets().hide({ apiToken: 'x1', tls: { key: 'x2' }, key: 'seen', url: 'nats://ada:x3@host:1' })
  assert.equal(shown, { apiToken: '(hidden)', tls: { key: '(hidden)' }, key: 'seen', url: 'nats://(hidden)@host:1' })
})

test.run()
