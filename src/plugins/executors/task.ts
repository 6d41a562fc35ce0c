/**
 * `task`: handlers as asynchronous tasks of this process, so many at a time.
 *
 * Room: plugins/executors. The rest waits its turn in a bounded queue; a task whose time is over is aborted by its signal.
 */
import type { Clock } from '../../core/clock.js'
import { ExecutorError } from '../../core/errors.js'
import type { Executor, Load, Task } from '../../core/executor.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory } from '../../core/plugin.js'
import { runTask } from '../../core/turn.js'

export interface TaskOptions {
  concurrency: number
  per: 'server' | 'connection'
  queue: number
  timeoutMs: number
}

interface Job {
  readonly task: Task
  readonly resolve: (reply: unknown) => void
  readonly reject: (error: Error) => void
}

/** Bounded concurrency, for handlers that wait (databases, other servers). */
export const task: Factory<Executor, TaskOptions> = {
  name: 'task',
  options: optionSchema<TaskOptions>({
    concurrency: { unit: 'count', min: 1, default: 64, unlimited: true, why: 'Handlers at work at a time.' },
    per: {
      unit: 'choice',
      choices: ['server', 'connection'],
      default: 'server',
      why: 'Whether `concurrency` counts all of them, or those of each connection.',
    },
    queue: {
      unit: 'count',
      min: 0,
      default: 1_000,
      unlimited: true,
      why: 'Messages that wait; more are refused at once as OVERLOADED.',
    },
    timeoutMs: {
      unit: 'ms',
      min: 1,
      default: 30_000,
      unlimited: true,
      why: 'For one message, from the moment its handler is called; then it is given up as TIMEOUT.',
    },
  }),
  create: (options, { clock }) => new Tasks(options, clock),
}

class Tasks implements Executor {
  readonly name = 'task'
  readonly #options: TaskOptions
  readonly #clock: Clock
  readonly #queue: Job[] = []
  /** At work, by what `per` counts. */
  readonly #atWork = new Map<unknown, number>()
  #running = 0
  #whenIdle: (() => void) | undefined

  constructor(options: TaskOptions, clock: Clock) {
    this.#options = options
    this.#clock = clock
  }

  async start(): Promise<void> {}

  run(task: Task): Promise<unknown> {
    const { queue } = this.#options
    const isFree = this.#isFree(task)
    if (!isFree && this.#queue.length >= queue) {
      throw new ExecutorError('OVERLOADED', `${queue} messages wait for executor task; queue is ${queue}`, { queue })
    }
    return new Promise((resolve, reject) => {
      const job = { task, resolve, reject }
      if (isFree) this.#begin(job)
      else this.#queue.push(job)
    })
  }

  load(): Load {
    return { running: this.#running, queued: this.#queue.length }
  }

  async drain(deadline: number): Promise<void> {
    if (this.#running === 0) return
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(Math.max(0, deadline - this.#clock.now()), resolve)
      this.#whenIdle = () => {
        cancel()
        resolve()
      }
    })
  }

  #keyOf({ connection }: Task): unknown {
    return this.#options.per === 'connection' ? connection : this
  }

  #isFree(task: Task): boolean {
    return (this.#atWork.get(this.#keyOf(task)) ?? 0) < this.#options.concurrency
  }

  #begin({ task, resolve, reject }: Job): void {
    const key = this.#keyOf(task)
    this.#atWork.set(key, (this.#atWork.get(key) ?? 0) + 1)
    this.#running++
    const { timeoutMs } = this.#options
    let isOver = false
    const over = () => {
      if (isOver) return
      isOver = true
      cancel()
      this.#end(key)
    }
    const cancel =
      timeoutMs === Number.POSITIVE_INFINITY
        ? () => {}
        : this.#clock.after(timeoutMs, () => {
            reject(new ExecutorError('TIMEOUT', `no reply within ${timeoutMs} ms (executor.timeoutMs)`, { timeoutMs }))
            over()
          })
    // In a microtask: a handler never runs inside the call that brought its message.
    Promise.resolve()
      .then(() => {
        if (task.signal.aborted) throw task.signal.reason
        return runTask(task)
      })
      .then(resolve, reject)
      .finally(over)
  }

  #end(key: unknown): void {
    const left = (this.#atWork.get(key) ?? 1) - 1
    if (left > 0) this.#atWork.set(key, left)
    else this.#atWork.delete(key)
    this.#running--
    const next = this.#queue.findIndex(({ task }) => this.#isFree(task))
    if (next >= 0) this.#begin(this.#queue.splice(next, 1)[0] as Job)
    else if (this.#running === 0) this.#whenIdle?.()
  }
}
