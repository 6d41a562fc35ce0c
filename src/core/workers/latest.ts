/**
 * Work that reads what there is when it begins: however often it is asked for while it runs, it is done once more.
 *
 * Room: core, mechanism. A reload is such work: one that begins while another is under way may have come too late for it.
 */
export class Latest {
  readonly #run: () => Promise<void>
  readonly #superseded: () => void
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  /** @param superseded - Asked for once more while it runs: what it has read may be out of date. */
  constructor(run: () => Promise<void>, superseded: () => void) {
    this.#run = run
    this.#superseded = superseded
  }

  /** @returns the end of a run that began after the call. @throws what that run throws. */
  ask(): Promise<void> {
    const running = this.#running
    if (running === undefined) return this.#begin()
    this.#next ??= running
      .catch(() => {})
      .then(() => {
        this.#next = undefined
        return this.#begin()
      })
    this.#superseded()
    return this.#next
  }

  #begin(): Promise<void> {
    const running = this.#run()
    this.#running = running
    const clear = () => {
      if (this.#running === running) this.#running = undefined
    }
    running.then(clear, clear)
    return running
  }
}
