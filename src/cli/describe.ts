/**
 * Errors as people read them.
 *
 * Room: the command line.
 */
import { GaidarosError } from '../core/errors.js'

/** What went wrong, with its causes; where it happened only for what is no error of ours. */
export function describe(error: Error, isLoud: boolean): string {
  const lines = error.message.split('\n').map((line) => `gaidaros: ${line}\n`)
  let text = lines.join('')
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    if (!error.message.includes(cause.message)) text += `  because: ${cause.message}\n`
  }
  if (isLoud || !(error instanceof GaidarosError)) text += `${error.stack}\n`
  return text
}
