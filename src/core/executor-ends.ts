/**
 * The ends of executors: each is drained once at a time, and no plan is made any more with one that has ended.
 *
 * Room: core, mechanism. Listeners come and go while the server runs, and several may share an executor.
 */
import type { Executor } from './executor.js'

export class ExecutorEnds {
  readonly #forget: (executor: Executor) => void
  readonly #underWay = new Map<Executor, Promise<void>>()
  readonly #ended = new WeakSet<Executor>()

  /** @param forget - Called before an executor ends: whoever names it next gets another. */
  constructor(forget: (executor: Executor) => void = () => {}) {
    this.#forget = forget
  }

  /** Whether it has ended, or is about to. */
  has(executor: Executor): boolean {
    return this.#ended.has(executor)
  }

  /**
   * Drains them. Resolves when all have ended, those among them that somebody else drains too.
   *
   * @param isAgain - They may have been started after they ended.
   */
  async end(executors: Iterable<Executor>, deadline: number, isAgain = false): Promise<void> {
    await Promise.all(
      [...new Set(executors)].map(async (executor) => {
        await this.#underWay.get(executor)
        if (this.#ended.has(executor) && !isAgain) return
        await (this.#underWay.get(executor) ?? this.#drain(executor, deadline))
      }),
    )
  }

  /** Resolves when none is being drained. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay.values())
  }

  #drain(executor: Executor, deadline: number): Promise<void> {
    this.#ended.add(executor)
    this.#forget(executor)
    const draining = executor.drain(deadline).finally(() => this.#underWay.delete(executor))
    this.#underWay.set(executor, draining)
    return draining
  }
}
