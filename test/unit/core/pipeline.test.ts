/** Middleware that drops, repeats, forgets or never calls next: one error of one message, and never of the process (F126). */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { compose, type Forgetting, type Middleware } from '#src/core/pipeline.js'

interface Context {
  readonly id: number
}

/** What was told of promises that nobody waited for, and what the process was warned of. */
function watchful() {
  const told: string[] = []
  const forgetting: Forgetting<Context> = {
    names: Array.from({ length: 100 }, (_, i) => `step ${i}`),
    failed: (_, name, error) => void told.push(`${name}: ${(error as Error).message}`),
  }
  return { told, forgetting }
}

const emitWarning = process.emitWarning
const warnings: string[] = []
process.emitWarning = ((text: string) => void warnings.push(text)) as typeof process.emitWarning
const unhandled: unknown[] = []
process.on('unhandledRejection', (reason) => unhandled.push(reason))
test.after(() => {
  process.emitWarning = emitWarning
})

const later = <T>(value?: T) => new Promise<T>((resolve) => setImmediate(() => resolve(value as T)))
const rejects = async () => {
  await later()
  throw new Error('of the handler')
}
const outcome = async (result: unknown) => {
  try {
    return `resolved ${await result}`
  } catch (error) {
    return `rejected ${(error as Error).message}`
  }
}

const steps: Readonly<
  Record<string, { readonly step: Middleware<Context>; readonly said: string; readonly isTold: boolean }>
> = {
  'returns it': { step: (_, next) => next(), said: 'rejected of the handler', isTold: false },
  'awaits it': { step: async (_, next) => await next(), said: 'rejected of the handler', isTold: false },
  'awaits it later': {
    step: async (_, next) => {
      const reply = next()
      await later()
      await later()
      return reply
    },
    said: 'rejected of the handler',
    isTold: false,
  },
  'answers in its place, having waited': {
    step: (_, next) => (next() as Promise<unknown>).then(undefined, () => 'mended'),
    said: 'resolved mended',
    isTold: false,
  },
  'catches it by catch()': {
    step: (_, next) => (next() as Promise<unknown>).catch(() => 'mended'),
    said: 'resolved mended',
    isTold: false,
  },
  'tries and catches': {
    step: async (_, next) => {
      try {
        return await next()
      } catch {
        return 'mended'
      }
    },
    said: 'resolved mended',
    isTold: false,
  },
  'forgets it': { step: (_, next) => void next(), said: 'resolved undefined', isTold: true },
  'forgets it in an async function': {
    step: async (_, next) => {
      next()
      await later()
      await later()
      return 'own'
    },
    said: 'resolved own',
    isTold: true,
  },
  'forgets it and throws': {
    step: (_, next) => {
      next()
      throw new Error('of the step')
    },
    said: 'rejected of the step',
    isTold: true,
  },
  'calls it after it has answered': {
    step: (_, next) => void setImmediate(next),
    said: 'resolved undefined',
    isTold: true,
  },
  'calls it after its promise was kept': {
    step: async (_, next) => void setTimeout(next, 1),
    said: 'resolved undefined',
    isTold: true,
  },
  'never calls it': { step: () => 'own', said: 'resolved own', isTold: false },
}

for (const [name, { step, said, isTold }] of Object.entries(steps)) {
  test(`F126 a step that ${name}: a rejecting handler ends one message, not the process`, async () => {
    const { told, forgetting } = watchful()
    const pipeline = compose([step], forgetting)
    let result: unknown
    try {
      result = pipeline?.({ id: 1 }, rejects)
    } catch (error) {
      result = Promise.reject(error)
    }
    assert.is(await outcome(result), said)
    for (let i = 0; i < 5; i++) await later()
    // The latest next() is called by a timer of 1 ms.
    for (let i = 0; i < 500 && isTold && told.length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 2))
    assert.equal(told, isTold ? ['step 0: of the handler'] : [])
    assert.equal(unhandled, [])
  })
}

test('F126 a handler that throws behind a late next() is told of, and nothing is thrown into a timer', async () => {
  const { told, forgetting } = watchful()
  const pipeline = compose([(_, next) => void setImmediate(next)], forgetting)
  pipeline?.({ id: 1 }, () => {
    throw new Error('at once')
  })
  await later()
  await later()
  assert.equal(told, ['step 0: at once'])
  assert.equal(unhandled, [])
})

test('F126 the warning is said once a step, and says what to do', async () => {
  warnings.length = 0
  const forgetting = { names: ['counts once'], failed: () => {} }
  const pipeline = compose<Context>([(_, next) => void next()], forgetting)
  for (let i = 0; i < 10; i++) pipeline?.({ id: i }, async () => 'reply')
  await later()
  assert.is(warnings.length, 1)
  assert.match(warnings[0] as string, /^middleware counts once did not return next\(\)/)
})

test('a synchronous step before a synchronous handler makes no promise, and a returned promise is the handler’s own', () => {
  const { forgetting } = watchful()
  const pass: Middleware<Context> = (_, next) => next()
  const pipeline = compose([pass, pass, pass], forgetting)
  assert.is(
    pipeline?.({ id: 1 }, () => 'reply'),
    'reply',
  )
  const promise = Promise.resolve('reply')
  assert.is(
    pipeline?.({ id: 1 }, () => promise),
    promise,
  )
})

test('F126 whatever steps are put together, a rejection is told once, or answered, or mended; never unhandled', async () => {
  const known = Object.values(steps)
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat({ max: known.length - 1 }), { minLength: 1, maxLength: 5 }), async (chosen) => {
      const { told, forgetting } = watchful()
      const pipeline = compose(
        chosen.map((at) => known[at]?.step as Middleware<Context>),
        forgetting,
      )
      let handled = 0
      const result = (() => {
        try {
          return pipeline?.({ id: 1 }, () => {
            handled++
            return rejects()
          })
        } catch (error) {
          return Promise.reject(error)
        }
      })()
      const said = await outcome(result)
      for (let i = 0; i < 4; i++) await later()
      await new Promise((resolve) => setTimeout(resolve, 4))
      const ofHandler = told.filter((text) => text.endsWith('of the handler')).length
      const isAnswered = said === 'rejected of the handler'
      assert.ok(handled <= 1)
      assert.ok(ofHandler + Number(isAnswered) <= 1, `${told.join(', ')}; ${said}`)
      assert.equal(unhandled, [])
    }),
    { numRuns: 300 },
  )
})

test.run()
