/**
 * `tap`: the messages of one connection as JSON lines, until it ends or the command does.
 *
 * Room: the command line.
 */
import type { TapLine } from '../core/control.js'
import { ConfigError } from '../core/errors.js'
import { printable } from '../core/printable.js'
import type { Arguments } from './arguments.js'
import { ask, openControl, Refusal, wholeFlag } from './control-client.js'

/** @returns 0 when the connection has ended, or the command was interrupted; 1 when it is not there. */
export async function tap(given: Arguments): Promise<number> {
  const [id] = given.operands
  if (id === undefined) {
    throw new ConfigError('BAD_USAGE', 'tap: expected a connection; `gaidaros connections` lists them')
  }
  const request = {
    command: 'tap',
    connection: id,
    rate: wholeFlag(given, 'rate'),
    characters: wholeFlag(given, 'characters'),
  }
  const connection = await openControl(given)
  const leave = () => connection.abort('ENDED')
  process.once('SIGINT', leave)
  process.once('SIGTERM', leave)
  try {
    await ask(connection, request)
    process.stderr.write(`gaidaros: tapping ${printable(id)}; interrupt to end\n`)
    for await (const line of connection.messages<TapLine>()) {
      const hasRoom = process.stdout.write(`${JSON.stringify(line)}\n`)
      if ('closed' in line) return 0
      // A reader that is slow makes the server leave lines out, and say so.
      if (!hasRoom) await drained()
      if (!process.stdout.writable) return 0
    }
    return 0
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    process.stderr.write(`gaidaros: ${printable(error.message)}\n`)
    return 1
  } finally {
    process.removeListener('SIGINT', leave)
    process.removeListener('SIGTERM', leave)
    connection.abort()
  }
}

/** Room again, or nobody who reads. */
function drained(): Promise<unknown> {
  return new Promise((resolve) => {
    process.stdout.once('drain', resolve)
    process.stdout.once('close', resolve)
  })
}
