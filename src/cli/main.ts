/**
 * Runs one command and says with which status to exit.
 *
 * Room: the command line.
 */
import { BindError, ConfigError, toError, WiringError } from '../core/errors.js'
import { readArguments } from './arguments.js'
import { describe } from './describe.js'
import { help } from './help.js'

export async function main(args: readonly string[]): Promise<number> {
  // Whoever reads us may go away (`gaidaros config | head -1`).
  process.stdout.on('error', ignoreBrokenPipe)
  process.stderr.on('error', ignoreBrokenPipe)
  let isLoud = false
  try {
    const given = readArguments(args)
    isLoud = ((given.flags.verbose as readonly boolean[] | undefined)?.length ?? 0) > 1
    if (given.command === 'help' || given.flags.help) {
      process.stdout.write(help(given.command === 'help' ? given.operands[0] : given.command))
      return 0
    }
    switch (given.command) {
      case 'serve':
        return await (await import('./serve.js')).serve(given)
      case 'handle':
        return await (await import('./serve.js')).handle(given)
      case 'check':
        return await (await import('./inspect.js')).check(given)
      case 'config':
        return await (await import('./inspect.js')).printConfiguration(given)
      case 'explain':
        return await (await import('./explain.js')).explain(given)
      case 'init':
        return (await import('./init.js')).init(given)
      default:
        return await (await import('./remote.js')).remote(given)
    }
  } catch (thrown) {
    const error = toError(thrown)
    process.stderr.write(describe(error, isLoud))
    return error instanceof ConfigError || error instanceof WiringError || error instanceof BindError ? 2 : 1
  }
}

function ignoreBrokenPipe(error: Error & { code?: string }): void {
  if (error.code !== 'EPIPE') throw error
}
