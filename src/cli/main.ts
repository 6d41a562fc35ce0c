/**
 * Runs one command and says with which status to exit.
 *
 * Room: the command line.
 */
import { BindError, ConfigError, toError, WiringError } from '../core/errors.js'
import { type Arguments, readArguments } from './arguments.js'
import { describe } from './describe.js'
import { findWaiter } from './detach.js'
import { help } from './help.js'
import { flushOutput, tolerateOutput } from './output.js'

export async function main(args: readonly string[]): Promise<number> {
  tolerateOutput()
  findWaiter()
  let given: Arguments | undefined
  let status: number
  try {
    given = readArguments(args)
    status = await run(given)
  } catch (thrown) {
    const error = toError(thrown)
    const isLoud = ((given?.flags.verbose as readonly boolean[] | undefined)?.length ?? 0) > 1
    process.stderr.write(describe(error, isLoud))
    status = error instanceof ConfigError || error instanceof WiringError || error instanceof BindError ? 2 : 1
  }
  const failure = await flushOutput()
  // A server's work is serving, whatever became of its output; every other command's work is what it prints.
  if (failure === undefined || status !== 0 || given?.command === 'serve' || given?.command === 'handle') return status
  process.stderr.write(describe(failure, false))
  return 1
}

async function run(given: Arguments): Promise<number> {
  if (given.command === 'help' || given.flags.help) {
    process.stdout.write(help(given.command === 'help' ? given.operands[0] : given.command))
    return 0
  }
  switch (given.command) {
    case 'serve':
      return (await import('./serve.js')).serve(given)
    case 'handle':
      return (await import('./serve.js')).handle(given)
    case 'node':
      return (await import('./node.js')).node(given)
    case 'check':
      return (await import('./inspect.js')).check(given)
    case 'doctor':
      return (await import('./doctor/index.js')).doctor(given)
    case 'config':
      return (await import('./inspect.js')).printConfiguration(given)
    case 'explain':
      return (await import('./explain.js')).explain(given)
    case 'init':
      return (await import('./init.js')).init(given)
    case 'top':
      return (await import('./top/index.js')).top(given)
    case 'tap':
      return (await import('./tap.js')).tap(given)
    default:
      return (await import('./remote.js')).remote(given)
  }
}
