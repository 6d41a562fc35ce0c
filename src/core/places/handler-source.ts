/**
 * How a handler is found again in another thread, process or machine.
 *
 * Room: core, contract and its small mechanism. Code does not travel; names do. What was given as a value in code has no
 * source, and an executor that runs handlers elsewhere refuses it at the start.
 */
import type { HandlerDefinition } from '../handler.js'

export type HandlerSource =
  | {
      /** A file or package, with `#Export` or alone, as the configuration names it. */
      readonly reference: string
      /** The handler's own name, where several stand in that module. */
      readonly name?: string
    }
  /** `--eval`. */
  | { readonly eval: string }
  /** The configuration's `hooks`, where they are names alone. */
  | { readonly hooks: object }

const sources = new WeakMap<HandlerDefinition, HandlerSource>()

/** Remembers where a definition came from. */
export function cameFrom(definition: HandlerDefinition, source: HandlerSource): HandlerDefinition {
  sources.set(definition, source)
  return definition
}

export function sourceOf(definition: HandlerDefinition): HandlerSource | undefined {
  return sources.get(definition)
}
