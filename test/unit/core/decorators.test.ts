import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { definitionOf, Handler, OnClose, OnMessage, OnOpen, toDefinition } from '#src/core/decorators.js'
import { defineHandler } from '#src/core/handler.js'

const refusal = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    return (error as Error).message
  }
  throw new Error('nothing was thrown')
}

test('a decorated class is a definition with its methods, routes and hooks', () => {
  @Handler({ name: 'Shop', codec: 'line' })
  class Counter {
    @OnOpen() hello() {}
    @OnMessage() rest() {}
    @OnMessage('GET') @OnMessage('HEAD') get() {}
  }
  const definition = definitionOf(Counter)
  assert.is(definition?.name, 'Shop')
  assert.equal(
    new Map(definition?.messages.map(({ route, method }) => [route, method])),
    new Map([
      [undefined, 'rest'],
      ['HEAD', 'get'],
      ['GET', 'get'],
    ] as never),
  )
  assert.equal(definition?.hooks, { open: 'hello' })
})

test('a child adds to its parent’s methods, and overrides them', () => {
  class Base {
    @OnMessage() hear(): string {
      return 'base'
    }
    @OnMessage('X') x() {}
  }
  @Handler()
  class Child extends Base {
    override hear() {
      return 'child'
    }
    @OnClose() bye() {}
    @OnMessage('Y') override x() {}
  }
  const definition = definitionOf(Child)
  assert.equal(definition?.messages.map(({ route }) => route).sort(), ['Y', undefined])
  assert.is(definitionOf(Base), undefined, 'the parent is no handler by itself')
})

test('the language’s own decorators work the same', () => {
  class Plain {
    hear() {}
  }
  ;(OnMessage() as (value: unknown, context: object) => void)(Plain.prototype.hear, {
    kind: 'method',
    name: 'hear',
    static: false,
  })
  ;(Handler() as (value: unknown, context: object) => void)(Plain, { kind: 'class', name: 'Plain' })
  assert.is(definitionOf(Plain)?.messages[0]?.method, 'hear')
})

test('mistakes are told where they are made', () => {
  assert.match(
    refusal(() => (Handler as unknown as (target: unknown) => void)(class {})),
    /@Handler\(\) with parentheses/,
  )
  assert.match(
    refusal(() => (OnOpen as unknown as (...given: unknown[]) => void)({}, 'x')),
    /@OnOpen\(\) with parentheses/,
  )
  assert.match(
    refusal(() => (OnMessage as unknown as (...given: unknown[]) => void)({ x() {} }, 'x')),
    /@OnMessage\(\) with parentheses/,
  )
  assert.match(
    refusal(() =>
      Handler({ codc: 'line' } as never)(
        class A {
          hear() {}
        },
      ),
    ),
    /unknown option `codc`; nearest: `codec`/,
  )
  assert.match(
    refusal(() => defineHandler({ codc: 'line', message: () => 1 } as never)),
    /handler handler: unknown option `codc`; nearest: `codec`/,
  )
  assert.match(
    refusal(() => defineHandler({ mesage: () => 1, open: () => 1 } as never)),
    /unknown option `mesage`; nearest: `message`/,
  )
  assert.match(
    refusal(() => defineHandler({ needs: { order: true }, message: () => 1 } as never)),
    /needs: unknown option `order`; nearest: `ordered`/,
  )
  assert.match(
    refusal(() => Handler({ scope: 'request' } as never)(class A {})),
    /scope is one of server, connection/,
  )
  assert.match(
    refusal(() => Handler()(class Empty {})),
    /class Empty: @Handler\(\) without a method/,
  )
  assert.match(
    refusal(() => {
      class Twice {
        @OnMessage('GET') one() {}
        @OnMessage('GET') two() {}
      }
      Handler()(Twice)
    }),
    /class Twice: one and two both are @OnMessage\(GET\)/,
  )
  assert.match(
    refusal(() => {
      class Static {
        @OnMessage() static hear() {}
      }
      return Static
    }),
    /only methods of instances/,
  )
})

test('every option of the types is taken, in a decorator and by defineHandler; wrong values are named', () => {
  const options = {
    halfOpen: true,
    badFrame: 'skip',
    needs: { ordered: true, reliable: true, stream: false, message: true, maxMessage: 100 },
  } as const
  assert.equal(defineHandler({ ...options, message: () => {} }).options, options)
  @Handler(options)
  class Taken {
    @OnMessage() hear() {}
  }
  assert.equal(toDefinition(Taken).options, options)
  const wrong: readonly [object, RegExp][] = [
    [{ badFrame: 'drop' }, /badFrame is one of close, skip; got "drop"/],
    [{ halfOpen: 'yes' }, /halfOpen is true or false; got "yes"/],
    [{ needs: { message: 1 } }, /needs: message is true or false; got 1/],
    [{ needs: { messages: true } }, /unknown option `messages`; nearest: `message`/],
    [{ toString: 1 }, /unknown option `toString`/],
  ]
  for (const [given, message] of wrong) {
    assert.match(
      refusal(() => defineHandler({ ...given, message: () => {} } as never)),
      message,
    )
  }
})

test('anything that may be a handler becomes a definition; what may not is told', () => {
  assert.is(toDefinition(function greet() {} as never).name, 'greet')
  assert.is(toDefinition((() => {}) as never).name, 'handler')
  const defined = defineHandler({ message: () => {} })
  assert.is(toDefinition(defined), defined)
  class Bare {
    @OnMessage() hear() {}
  }
  assert.match(
    refusal(() => toDefinition(Bare)),
    /class Bare is no handler: write @Handler\(\)/,
  )
  assert.match(
    refusal(() => toDefinition(7 as never)),
    /expected a class with @Handler/,
  )
  assert.match(
    refusal(() => defineHandler({})),
    /expected at least one/,
  )
})

test.run()
