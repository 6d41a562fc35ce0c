/**
 * Work for one message that may be long, in pieces with others between.
 *
 * Room: plugins/protocols.
 */

/** @param piece - Goes on with it; a promise: when it may go on after that. */
export function giveWay(piece: () => Promise<void> | undefined): Promise<void> | undefined {
  const first = piece()
  return first === undefined ? undefined : goOn(first, piece)
}

async function goOn(first: Promise<void>, piece: () => Promise<void> | undefined): Promise<void> {
  let wait: Promise<void> | undefined = first
  while (wait !== undefined) {
    await wait
    wait = piece()
  }
}

/** One piece of work after the other, each of which may take several turns: for what has to stay in its order. */
export class InOrder {
  #last: Promise<void> | undefined

  /** Work that is done at once needs no more than this: it may begin. */
  get isFree(): boolean {
    return this.#last === undefined
  }

  /** @returns a promise where it is not done at once. It rejects with what the work throws. */
  run(work: () => Promise<void> | undefined): Promise<void> | undefined {
    const done = this.#last === undefined ? work() : this.#last.then(work)
    return done === undefined ? undefined : this.follow(done)
  }

  /** What comes next waits for this. */
  follow(done: Promise<void>): Promise<void> {
    const last: Promise<void> = done
      .catch(() => undefined)
      .then(() => {
        if (this.#last === last) this.#last = undefined
      })
    this.#last = last
    return done
  }
}
