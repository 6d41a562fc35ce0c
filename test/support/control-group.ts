/** A control group of one's own with a limit of memory, where this user may make one. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const places = [
  { root: '/sys/fs/cgroup/memory', limit: 'memory.limit_in_bytes', failures: 'memory.failcnt' },
  { root: '/sys/fs/cgroup', limit: 'memory.max', failures: 'memory.events' },
]

export class ControlGroup {
  readonly #folder: string
  readonly #failures: string

  private constructor(folder: string, failures: string) {
    this.#folder = folder
    this.#failures = failures
  }

  /** @returns why not, where there can be none. */
  static make(name: string, memoryBytes: number): ControlGroup | string {
    const why: string[] = []
    for (const { root, limit, failures } of places) {
      const folder = join(root, `${name}-${process.pid}`)
      try {
        if (!existsSync(root)) continue
        mkdirSync(folder)
        if (!existsSync(join(folder, limit))) throw new Error(`${root} limits no memory`)
        writeFileSync(join(folder, limit), String(memoryBytes))
        return new ControlGroup(folder, failures)
      } catch (error) {
        why.push((error as Error).message)
        if (existsSync(folder)) rmdirSync(folder)
      }
    }
    return why.join('; ') || 'there are no control groups'
  }

  /** For `gaidaros`: the process enters the group, then becomes the command. */
  get shell(): string {
    return `echo $$ > ${join(this.#folder, 'cgroup.procs')} && exec "$0" "$@"`
  }

  /** What the kernel says of the times when the limit was met. */
  get failures(): string {
    return readFileSync(join(this.#folder, this.#failures), 'utf8').trim()
  }

  /** Once nobody is in it. */
  remove(): void {
    rmdirSync(this.#folder)
  }
}
