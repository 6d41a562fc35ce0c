/**
 * One question to all workers, and what those that are gone have said last.
 *
 * Room: core, mechanism. Nobody is waited for longer than one worker has to answer; who has not answered is named.
 */
import type { Clock } from '../clock.js'
import type { ControlRequest } from '../control/ask.js'
import { figuresOf } from '../control/figures.js'
import type { ObserverReport, Reports } from '../control/report.js'
import type { Status } from '../control/status.js'
import { WorkerError } from '../errors.js'
import type { AskOptions, Worker, WorkerState } from './worker.js'

/** What workers have answered, and who has not in time. */
export interface Answers {
  readonly answers: readonly { readonly worker: Worker; readonly answer: unknown }[]
  readonly silent: readonly Worker[]
}

/** Asks every worker that has begun to serve, those that drain too. @throws what one of them refuses: all of them do. */
export async function askAll(
  workers: readonly Worker[],
  request: ControlRequest,
  options: AskOptions = {},
): Promise<Answers> {
  const answers: { worker: Worker; answer: unknown }[] = []
  const silent: Worker[] = []
  await Promise.all(
    workers.filter(isAsked).map(async (worker) => {
      try {
        const answer = await worker.ask(request, options)
        if (request.command === 'status') worker.note(figuresOf((answer as Status).listeners))
        answers.push({ worker, answer })
      } catch (error) {
        // It went meanwhile.
        if ((worker.state as WorkerState) === 'ended') return
        if (!(error instanceof WorkerError)) throw error
        silent.push(worker)
      }
    }),
  )
  const order = (a: Worker, b: Worker) => a.generation - b.generation || a.slot - b.slot
  return { answers: answers.sort((a, b) => order(a.worker, b.worker)), silent: silent.sort(order) }
}

/** What the observer of that name knows in each worker that lives. */
export async function askObservers(workers: readonly Worker[], observer: string): Promise<readonly ObserverReport[]> {
  const all = await Promise.all(
    workers.map(async (worker) => {
      const request = { command: 'report', observer }
      const answer = isAsked(worker) ? await worker.ask(request).catch(() => undefined) : undefined
      return { worker, report: (answer as Reports | undefined)?.reports[0]?.report }
    }),
  )
  return (
    all
      // Those that ended meanwhile are among the departed.
      .filter(({ worker }) => (worker.state as WorkerState) !== 'ended')
      .map(({ worker, report }) => ({
        process: processOf(worker),
        worker: `${worker.slot}`,
        state: worker.state,
        report,
      }))
  )
}

function isAsked({ state }: Worker): boolean {
  return state === 'ready' || state === 'draining'
}

/** A name that no other process of this supervisor has. */
export function processOf({ slot, generation, pid }: Worker): string {
  return `${slot}.${generation}.${pid}`
}

/** Whoever asks for reports has asked again by then. */
const DEPARTED_MS = 60_000
const MOST_DEPARTED = 64

/** Processes that have served and serve no more, with their last words; for a minute. */
export class Departed {
  readonly #clock: Clock
  #all: {
    readonly process: string
    readonly worker: string
    readonly reports: Readonly<Record<string, unknown>>
    readonly at: number
  }[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(process: string, worker: string, reports: Readonly<Record<string, unknown>>): void {
    this.#all.push({ process, worker, reports, at: this.#clock.now() })
    if (this.#all.length > MOST_DEPARTED) this.#all.shift()
  }

  reports(observer: string): readonly ObserverReport[] {
    const now = this.#clock.now()
    this.#all = this.#all.filter(({ at }) => now - at < DEPARTED_MS)
    return this.#all.map(({ process, worker, reports }) => ({
      process,
      worker,
      state: 'ended',
      report: reports[observer],
    }))
  }
}
