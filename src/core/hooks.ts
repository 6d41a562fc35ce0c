/**
 * Handlers as plain hooks: five functions in place of a class, as the Python original had them.
 *
 * Room: core, mechanism. A name is looked up on an instance of the class, else on the module; in code a function or a
 * compiled `vm.Script` stands for itself. What is left out is lines, text and echo. One reply, then the connection is
 * closed, unless `handleRequest` says otherwise with `[reply, true]`.
 */
import { createContext, Script } from 'node:vm'
import type { Codec, FrameLimits, FrameReader, Framer } from './codec.js'
import { atKey } from './config/trace.js'
import type { HookOptions, HookRef } from './configuration.js'
import type { Connection } from './connection.js'
import { ConfigError, FrameError, toError, WiringError } from './errors.js'
import { defineHandler, type HandlerDefinition, isHandlerDefinition } from './handler.js'
import { nearest } from './nearest.js'
import { cameFrom } from './places/handler-source.js'

type Hook = (...args: unknown[]) => unknown
const hookNames = ['endRequest', 'splitRequest', 'decodeRequest', 'handleRequest', 'encodeResponse'] as const
type Hooks = { readonly [K in (typeof hookNames)[number]]: Hook | undefined }

export interface HookedHandler {
  readonly definition: HandlerDefinition
  readonly codec: Codec
}

/**
 * Finds the hooks and makes a handler and its codec of them.
 *
 * @throws {ConfigError} `UNKNOWN_NAME` for a name that neither the class nor the module has.
 * @throws {WiringError} `CONSTRUCTION_FAILED` when the class's constructor throws.
 */
export async function hooksHandler(
  options: HookOptions,
  { load }: { readonly load: (module: string) => Promise<Readonly<Record<string, unknown>>> },
): Promise<HookedHandler> {
  const module = options.module === undefined ? {} : await load(options.module).catch(atModule)
  const instance = options.class === undefined ? undefined : construct(module, options)
  const find = (name: (typeof hookNames)[number]): Hook | undefined => {
    const ref = options[name]
    return ref === undefined ? undefined : toHook(ref, name, module, instance, options)
  }
  const hooks = Object.fromEntries(hookNames.map((name) => [name, find(name)])) as Hooks
  return { codec: new HooksCodec(hooks), definition: hookDefinition(hooks, options.class ?? 'hooks') }
}

/**
 * The handler of `--eval 'line => ...'`: a function, or `defineHandler` in an expression.
 *
 * @throws {ConfigError} `BAD_USAGE` with the compiler's words.
 */
export function evalHandler(source: string): HandlerDefinition {
  let value: unknown
  try {
    value = new Script(`(${source}\n)`, { filename: '--eval' }).runInThisContext()
  } catch (thrown) {
    const cause = toError(thrown)
    throw new ConfigError(
      'BAD_USAGE',
      `--eval: ${cause.name}: ${cause.message}; expected a function such as 'line => line.toUpperCase()'`,
      { cause },
    )
  }
  if (isHandlerDefinition(value)) return cameFrom(value, { eval: source })
  if (typeof value !== 'function') {
    throw new ConfigError(
      'BAD_USAGE',
      `--eval: expected a function such as 'line => line.toUpperCase()', got ${typeof value}`,
    )
  }
  const definition = defineHandler({ name: 'eval', message: value as (message: unknown) => unknown })
  return cameFrom(definition, { eval: source })
}

/**
 * A compiled script as a handler: what it yields is called for each message, or it is run for each with `message` (and
 * `input`, as for every script) as its global.
 */
export function scriptHandler(script: Script): HandlerDefinition {
  const hook = scriptHook(script, 'message')
  return defineHandler({ name: 'script', message: (message: unknown) => hook(message) })
}

const atModule = (thrown: unknown): never => {
  throw atKey(thrown, 'hooks.module')
}

function construct(
  module: Readonly<Record<string, unknown>>,
  { module: file, class: name = '', args = [] }: HookOptions,
): object {
  const target = lookUp(module, name)
  if (typeof target !== 'function') {
    const names = Object.keys(module)
    const near = nearest(name, names)
    const hint = near === undefined ? '' : `; nearest: \`${near}\``
    throw new ConfigError(
      'UNKNOWN_NAME',
      `hooks.class: ${file} exports no class \`${name}\`${hint}; it has: ${names.join(', ') || 'nothing'}`,
      { place: 'hooks.class' },
    )
  }
  try {
    return new (target as new (...args: unknown[]) => object)(...args)
  } catch (cause) {
    throw new WiringError(
      'CONSTRUCTION_FAILED',
      `hooks.class: the constructor of ${name} threw: ${toError(cause).message}`,
      { cause },
    )
  }
}

function toHook(
  ref: HookRef,
  name: string,
  module: Readonly<Record<string, unknown>>,
  instance: object | undefined,
  options: HookOptions,
): Hook {
  if (typeof ref === 'function') return ref as Hook
  if (ref instanceof Script) return scriptHook(ref, inputNames[name as keyof typeof inputNames])
  const method = (instance as Record<string, unknown> | undefined)?.[ref as string]
  if (typeof method === 'function') return method.bind(instance) as Hook
  const exported = lookUp(module, ref as string)
  if (typeof exported === 'function') return exported as Hook
  const names = [...namesOf(instance), ...Object.keys(module)]
  const near = nearest(ref as string, names)
  const hint = near === undefined ? '' : `; nearest: \`${near}\``
  const places = [options.class && `class ${options.class}`, options.module && `module ${options.module}`]
    .filter(Boolean)
    .join(' or ')
  throw new ConfigError(
    'UNKNOWN_NAME',
    `hooks.${name}: no function \`${ref}\` in ${places || 'any module: hooks.module is not set'}${hint}`,
    { place: `hooks.${name}` },
  )
}

/** What a script without a function calls its input, besides `input`. */
const inputNames = {
  endRequest: 'buffer',
  splitRequest: 'buffer',
  decodeRequest: 'bytes',
  handleRequest: 'request',
  encodeResponse: 'reply',
} as const

/** A script that yields a function stands for it; another is run for each call, with its input as a global. */
function scriptHook(script: Script, name: string): Hook {
  const context = createContext({ input: undefined, [name]: undefined })
  const first = yieldOf(script, context)
  if (typeof first === 'function') return first as Hook
  return (...args) => {
    context.input = context[name] = args[0]
    return script.runInContext(context)
  }
}

/** One that is meant for each call may fail without its input; that says nothing. */
function yieldOf(script: Script, context: object): unknown {
  try {
    return script.runInContext(context as never)
  } catch {
    return undefined
  }
}

function lookUp(module: Readonly<Record<string, unknown>>, name: string): unknown {
  const { default: standard } = module
  // Their own alone: `toString` is nobody's hook.
  return Object.hasOwn(module, name) || standard === undefined || standard === null || !Object.hasOwn(standard, name)
    ? module[name]
    : (standard as Record<string, unknown>)[name]
}

function namesOf(instance: object | undefined): string[] {
  const names = new Set<string>()
  for (
    let at: object | null = instance ?? null;
    at !== null && at !== Object.prototype;
    at = Object.getPrototypeOf(at)
  ) {
    for (const name of Object.getOwnPropertyNames(at)) if (name !== 'constructor') names.add(name)
  }
  return [...names]
}

function hookDefinition(hooks: Hooks, name: string): HandlerDefinition {
  const answer = (result: unknown, connection: Connection): unknown => {
    const [reply, keepsAlive] =
      Array.isArray(result) && result.length === 2 && typeof result[1] === 'boolean' ? result : [result, false]
    if (!keepsAlive) void connection.close()
    return reply
  }
  return defineHandler({
    name,
    message(request: unknown, connection: Connection) {
      const result = hooks.handleRequest === undefined ? request : hooks.handleRequest(request)
      return result instanceof Promise
        ? result.then((settled) => answer(settled, connection))
        : answer(result, connection)
    },
  })
}

/** Framing and payload by hooks. What a framing or decoding hook throws is MALFORMED: it read the peer's bytes. */
class HooksCodec implements Codec {
  readonly framer: Framer
  readonly #hooks: Hooks

  constructor(hooks: Hooks) {
    this.#hooks = hooks
    this.framer = { open: (limits) => new HooksReader(hooks, limits) }
  }

  decode(frame: Uint8Array): unknown {
    const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
    const { decodeRequest } = this.#hooks
    return decodeRequest === undefined ? bytes.toString() : atOnce('decodeRequest', () => decodeRequest(bytes))
  }

  encode(reply: unknown): Uint8Array | string {
    const { encodeResponse, splitRequest, endRequest } = this.#hooks
    if (encodeResponse !== undefined) {
      const encoded = encodeResponse(reply)
      if (typeof encoded === 'string' || encoded instanceof Uint8Array) return encoded
      throw new WiringError('BAD_HANDLER', `hooks.encodeResponse: expected text or bytes, got ${typeof encoded}`)
    }
    if (reply instanceof Uint8Array) return reply
    const isLines = splitRequest === undefined && endRequest === undefined
    return isLines ? `${String(reply)}\n` : String(reply)
  }

  /** `[reply, keepAlive]` was taken apart before; an array that is left is one reply. */
  isMessage(value: unknown): boolean {
    return Array.isArray(value)
  }
}

/**
 * Asks the hooks about everything that is held. They are the user's and take as long as they take: they are asked once a
 * chunk, not once a byte, and never about more than the frame limit.
 */
class HooksReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly #hooks: Hooks
  readonly #limits: FrameLimits
  #asked = 0

  constructor(hooks: Hooks, limits: FrameLimits) {
    this.#hooks = hooks
    this.#limits = limits
  }

  next(buffer: Buffer, start: number, end: number): number {
    const { endRequest, splitRequest } = this.#hooks
    const size = end - start
    if (size === this.#asked) return -1
    if (endRequest === undefined && splitRequest === undefined) return this.#line(buffer, start, end)
    const held = buffer.subarray(start, end)
    if (endRequest !== undefined && !atOnce('endRequest', () => endRequest(held))) return this.#more(size)
    if (splitRequest === undefined) return this.#found(start, end, end)
    const split = atOnce('splitRequest', () => splitRequest(held))
    if (split === undefined || split === null) return this.#more(size)
    if (!Array.isArray(split) || split.length !== 2) {
      throw new FrameError('MALFORMED', 'hooks.splitRequest: expected [request, rest]')
    }
    const [request, rest] = split.map((part) => (typeof part === 'string' ? Buffer.from(part) : (part as Buffer)))
    if (request === undefined || rest === undefined || rest.length >= size) {
      throw new FrameError('MALFORMED', 'hooks.splitRequest: the rest must be shorter than what was given')
    }
    const at = held.indexOf(request)
    if (at < 0) throw new FrameError('MALFORMED', 'hooks.splitRequest: the request must be a part of what was given')
    return this.#found(start + at, start + at + request.length, end - rest.length)
  }

  #line(buffer: Buffer, start: number, end: number): number {
    const at = buffer.subarray(start, end).indexOf(10, this.#asked)
    if (at < 0) return this.#more(end - start)
    const isCrLf = at > 0 && buffer[start + at - 1] === 13
    return this.#found(start, start + at - (isCrLf ? 1 : 0), start + at + 1)
  }

  #found(start: number, end: number, after: number): number {
    this.#asked = 0
    if (end - start > this.#limits.frameBytes) throw tooLarge(end - start, this.#limits)
    this.start = start
    this.end = end
    return after
  }

  #more(size: number): number {
    if (size > this.#limits.frameBytes) throw tooLarge(size, this.#limits)
    this.#asked = size
    return -1
  }
}

function tooLarge(size: number, { frameBytes }: FrameLimits): FrameError {
  return new FrameError('TOO_LARGE', `a request of ${size} bytes or more is over frameBytes (${frameBytes})`, { size })
}

function atOnce(name: string, run: () => unknown): unknown {
  let result: unknown
  try {
    result = run()
  } catch (thrown) {
    if (thrown instanceof FrameError) throw thrown
    const cause = toError(thrown)
    throw new FrameError('MALFORMED', `hooks.${name} threw: ${cause.message}`, { cause })
  }
  if (!(result instanceof Promise)) return result
  result.catch(() => {})
  throw new FrameError('MALFORMED', `hooks.${name} returned a promise; only handleRequest may take its time`)
}
