/** The command as a user runs it: a child process with its output, bounded in time. */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** The repository. */
export const root = fileURLToPath(new URL('../../', import.meta.url))

export interface Command {
  readonly child: ChildProcess
  readonly pid: number
  stdout: string
  stderr: string
  /** Exit status, or the signal's name. */
  readonly ended: Promise<number | string>
  /** Resolves when standard output (or error) shows this. */
  shows(text: string | RegExp): Promise<RegExpMatchArray>
  /** Resolves once it prints `ready`, with the port of each listener by name. */
  ready(): Promise<Record<string, number>>
}

const started = new Set<ChildProcess>()

export interface CommandOptions {
  readonly cwd?: string
  readonly env?: Record<string, string>
  /** Through a shell, for `ulimit` and the like; `$0` is node, `$@` the rest. */
  readonly shell?: string
  readonly limitMs?: number
}

/** Runs `gaidaros …`. */
export function gaidaros(args: readonly string[], options: CommandOptions = {}): Command {
  const cli = fileURLToPath(new URL('../../dist/cli.js', import.meta.url))
  const [command, given] =
    options.shell === undefined
      ? [process.execPath, [cli, ...args]]
      : ['bash', ['-c', options.shell, process.execPath, cli, ...args]]
  const child = spawn(command as string, given as string[], {
    cwd: options.cwd ?? root,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  started.add(child)
  const limit = setTimeout(() => child.kill('SIGKILL'), options.limitMs ?? 30_000)
  const changed = new Set<() => void>()
  const self: Command = {
    child,
    pid: child.pid as number,
    stdout: '',
    stderr: '',
    ended: new Promise((resolve) => {
      child.once('close', (code, signal) => {
        clearTimeout(limit)
        started.delete(child)
        resolve(code ?? signal ?? 'unknown')
        for (const check of changed) check()
      })
    }),
    shows: (text) =>
      new Promise((resolve, reject) => {
        const pattern = typeof text === 'string' ? new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')) : text
        const check = () => {
          const found = pattern.exec(self.stdout) ?? pattern.exec(self.stderr)
          const isOver = child.exitCode !== null || child.signalCode !== null
          if (found === null && !isOver) return
          changed.delete(check)
          if (found !== null) resolve(found)
          else
            reject(
              new Error(
                `expected ${pattern}; the command ended with ${child.exitCode ?? child.signalCode}\n${self.stdout}\n${self.stderr}`,
              ),
            )
        }
        changed.add(check)
        check()
      }),
    async ready() {
      await self.shows(/^ready$/m)
      const ports: Record<string, number> = {}
      for (const [, name, port] of self.stdout.matchAll(/^listening (\S+) \S+?(?::(\d+))?$/gm))
        ports[name as string] ??= Number(port)
      return ports
    },
  }
  child.stdout?.on('data', (chunk) => {
    self.stdout += chunk
    for (const check of [...changed]) check()
  })
  child.stderr?.on('data', (chunk) => {
    self.stderr += chunk
    for (const check of [...changed]) check()
  })
  return self
}

/** Ends what a failed test left running. */
export function killAll(): void {
  for (const child of started) child.kill('SIGKILL')
}
