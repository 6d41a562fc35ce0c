/** Clients that nobody here wrote: run to their end, bounded in time; named where they are missing. */
import { type ChildProcess, spawn } from 'node:child_process'
import { test } from 'uvu'
import { skip } from './skip.js'
import { hasTool } from './tools.js'

export interface Ended {
  readonly status: number | null
  /** Both streams, as they came. */
  readonly output: string
}

const started = new Set<ChildProcess>()

/** A program that runs on: what it says so far, and its end. */
export interface Program {
  readonly child: ChildProcess
  output: string
  readonly over: Promise<Ended>
}

export function begin(program: string, args: readonly string[], limitMs = 20_000): Program {
  const child = spawn(program, args)
  started.add(child)
  const limit = setTimeout(() => child.kill('SIGKILL'), limitMs)
  const self: Program = {
    child,
    output: '',
    over: new Promise((resolve) => {
      child.on('close', (status) => {
        clearTimeout(limit)
        started.delete(child)
        resolve({ status, output: self.output })
      })
    }),
  }
  child.stdout?.on('data', (chunk) => (self.output += chunk))
  child.stderr?.on('data', (chunk) => (self.output += chunk))
  child.stdin?.on('error', () => {})
  return self
}

/** Runs a program to its end. */
export function run(program: string, args: readonly string[], input: string | Uint8Array = ''): Promise<Ended> {
  const { child, over } = begin(program, args)
  child.stdin?.end(input)
  return over
}

/** Ends what a failed test left running. */
export function endPrograms(): void {
  for (const child of started) child.kill('SIGKILL')
}

/** A test that needs a program; where that is missing it says so. */
export function withTool(tool: string, name: string, body: () => Promise<void>): void {
  test(name, () => (hasTool(tool) ? body() : skip(name, `${tool} is not installed`)))
}
