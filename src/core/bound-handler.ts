/**
 * A definition and its instance as what the session calls.
 *
 * Room: core, mechanism. Every bound handler has the same shape, so that the session's calls stay monomorphic.
 */
import { WiringError } from './errors.js'
import type { BoundHandler, HandlerDefinition, HookName } from './handler.js'

type Callable = (...args: never[]) => unknown

/** @param instance - Of the definition's class; undefined where its functions stand alone. */
export function bindHandler(definition: HandlerDefinition, instance: object | undefined): BoundHandler {
  const method = (given: PropertyKey | Callable): Callable => {
    if (typeof given === 'function') return given
    const found = (instance as Record<PropertyKey, unknown> | undefined)?.[given]
    if (typeof found === 'function') return found.bind(instance) as Callable
    throw new WiringError('BAD_HANDLER', `handler ${definition.name}: ${String(given)} is no method of its instance`)
  }
  let message: Callable | undefined
  const routes = new Map<string, Callable>()
  for (const one of definition.messages) {
    if (one.route === undefined) message = method(one.method)
    else routes.set(one.route, method(one.method))
  }
  const hook = (name: HookName) => {
    const given = definition.hooks[name]
    return given === undefined ? undefined : method(given)
  }
  return {
    message: message as BoundHandler['message'],
    routes: (routes.size === 0 ? undefined : routes) as BoundHandler['routes'],
    open: hook('open') as BoundHandler['open'],
    idle: hook('idle') as BoundHandler['idle'],
    peerEnd: hook('peerEnd') as BoundHandler['peerEnd'],
    drain: hook('drain') as BoundHandler['drain'],
    error: hook('error') as BoundHandler['error'],
    close: hook('close') as BoundHandler['close'],
  }
}
