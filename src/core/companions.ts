/**
 * The companions of one server while they run.
 *
 * Room: core, mechanism. They stand once, at the head of the process tree, and outlive whoever serves: a server in this process
 * that hands over to workers hands them over with its names.
 */
import type { Endpoint } from './endpoint.js'
import type { Companion, CompanionHost } from './plugin.js'

/** What they are given to work with. */
export interface CompanionParts {
  readonly ask: CompanionHost['ask']
  bound(plugin: string, address: string): void
  serve(configuration: Readonly<Record<string, unknown>>): Promise<CompanionServer>
}

export interface CompanionServer {
  readonly endpoints: readonly Endpoint[]
  stop(): Promise<void>
}

export class Companions {
  readonly #parts: CompanionParts
  readonly #ends: (() => void | Promise<void>)[] = []
  #isOver = false

  constructor(parts: CompanionParts) {
    this.#parts = parts
  }

  /** @throws what one of them met; those before it are ended. */
  async start(companions: readonly Companion[]): Promise<void> {
    this.#isOver = false
    try {
      for (const companion of companions) {
        const end = await companion.start(this.#hostOf(companion))
        if (end !== undefined) await this.#endWith(end)
      }
    } catch (error) {
      await this.end()
      throw error
    }
  }

  /** The latest first, each once. */
  async end(): Promise<void> {
    this.#isOver = true
    for (let end = this.#ends.pop(); end !== undefined; end = this.#ends.pop()) await end()
  }

  #hostOf({ name }: Companion): CompanionHost {
    return {
      ask: (request) => this.#parts.ask(request),
      bound: (address) => this.#parts.bound(name, address),
      serve: async (configuration) => {
        const server = await this.#parts.serve(configuration)
        await this.#endWith(() => server.stop())
        return server.endpoints
      },
    }
  }

  async #endWith(end: () => void | Promise<void>): Promise<void> {
    // Ended while it was starting.
    if (this.#isOver) await end()
    else this.#ends.push(end)
  }
}
