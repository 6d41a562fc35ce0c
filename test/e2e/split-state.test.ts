// time limit: 120 s
/** State that would silently be several is refused at the start by name, or named (F117). */
import 'reflect-metadata'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, ExecutorError, type ServerOptions, WiringError } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'

const folder = mkdtempSync(join(tmpdir(), 'gst-'))
const handlers = join(root, 'test/fixtures/placed-handlers.ts')
writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
writeFileSync(join(folder, 'handler.mjs'), 'export default () => undefined\n')
writeFileSync(
  join(folder, 'scopes.ts'),
  `import { Handler, OnMessage } from 'gaidaros'
@Handler() export class Shared { @OnMessage() say(line: string) { return line } }
@Handler({ scope: 'connection' }) export class Own { @OnMessage() say(line: string) { return line } }\n`,
)

async function said(command: string, settings: object) {
  writeFileSync(join(folder, 'c.json'), JSON.stringify({ listen: 'tcp://127.0.0.1:0', ...settings }))
  const ran = gaidaros([command, '--config', join(folder, 'c.json')], { cwd: folder, limitMs: 60_000 })
  const status = await ran.ended
  return { status, text: ran.stdout + ran.stderr }
}

for (const protocol of ['mqtt', 'stomp']) {
  for (const [what, more] of [
    ['two server processes', { workers: 2 }],
    ['a pool of threads', { executor: { type: 'thread-pool', size: 2 } }],
    ['a process for each connection', { executor: { type: 'process', per: 'connection' } }],
    ['a pool of processes', { executor: { type: 'process-pool', size: 3 } }],
  ] as const) {
    test(`F117 ${protocol} with ${what} is refused by check and serve, with the reason and the remedy`, async () => {
      for (const command of ['check', 'serve']) {
        const { status, text } = await said(command, { protocol, handler: './handler.mjs', ...more })
        assert.is(status, 2, `${command}: ${text}`)
        assert.match(
          text,
          new RegExp(
            `protocol ${protocol} keeps state of all its connections.*; (set workers to 1|run its handler inline)`,
          ),
        )
      }
    })
  }
  test(`F117 ${protocol} in one process, inline, as a task or in one thread starts`, async () => {
    for (const executor of ['inline', 'task', { type: 'thread-pool', size: 1 }]) {
      const { status, text } = await said('check', { protocol, handler: './handler.mjs', executor })
      assert.is(status, 0, text)
    }
  })
}

test('F117 a third party’s protocol that says so is refused as well', async () => {
  const broker = {
    codec: { decode: (frame: Uint8Array) => frame, encode: (message: unknown) => String(message) },
    keepsState: true,
  }
  const options = { config: false, listen: 'tcp://127.0.0.1:0', handler: `${handlers}#Numbers`, protocol: broker }
  const refused = await createServer({ ...options, executor: { type: 'thread-pool', size: 2 } } as ServerOptions).catch(
    (error: Error) => error,
  )
  assert.instance(refused, WiringError)
  assert.match((refused as Error).message, /keeps state of all its connections/)
  await createServer({ ...options, executor: { type: 'thread-pool', size: 1 } } as ServerOptions)
})

test('F117 a handler that needs a provider given by value cannot run elsewhere; here it can, and others may', async () => {
  const { Names } = (await import('../fixtures/placed-handlers.js')) as unknown as { Names: never }
  const options = (executor: unknown, token: unknown = Names) =>
    ({
      config: false,
      listen: 'tcp://127.0.0.1:0',
      handler: `${handlers}#Talker`,
      providers: [{ token, useValue: { nick: (name: string) => name } }],
      executor,
    }) as ServerOptions
  for (const executor of ['thread', 'process', { type: 'thread-pool', size: 1 }]) {
    // The class as the handler's own module has it.
    const server = await createServer(options('inline'))
    const target = [...server.listeners][0]?.plan.handler.definition.target as never
    const [token] = Reflect.getOwnMetadata('design:paramtypes', target) as [never]
    const refused = await createServer(options(executor, token)).catch((error: Error) => error)
    assert.instance(refused, ExecutorError)
    assert.is((refused as ExecutorError).code, 'NOT_PORTABLE')
    assert.match(
      (refused as Error).message,
      /handler Talker needs Names, given to createServer in `providers`.*or run the handler inline/,
    )
    await createServer(options('inline', token))
    await createServer(options(executor, 'OTHER'))
  }
})

test('F117 doctor and explain name a handler that is one for all where there are several of it', async () => {
  const several = { handler: './scopes.ts#Shared', workers: 2 }
  const { text } = await said('doctor', several)
  assert.match(
    text,
    /^note +shared-state +listeners\.default: handler Shared has scope `server`: each of 2 server processes/m,
  )
  assert.match((await said('explain', several)).text, /Shared, one in each of 2 server processes/)
  const pool = await said('doctor', { ...several, workers: 1, executor: { type: 'thread-pool', size: 2 } })
  assert.match(pool.text, /each of 2 runners of executor thread-pool has an instance of its own/)
  assert.not.match((await said('doctor', { ...several, workers: 1 })).text, /shared-state/)
  assert.not.match((await said('doctor', { ...several, handler: './scopes.ts#Own' })).text, /shared-state/)
})

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})

test.run()
