/**
 * Errors as people read them.
 *
 * Room: the command line. Messages may quote what a peer sent, so each line is made printable: nothing in them can move a
 * cursor or pass for a line of ours.
 */
import { GaidarosError } from '../core/errors.js'
import { printable } from '../core/printable.js'

/** Causes deeper than this say nothing new, and an error may be its own cause. */
const MOST_CAUSES = 8

/** What went wrong and its code, then its causes; where it happened only for what is no error of ours, or when loud. */
export function describe(error: Error, isLoud: boolean): string {
  const code = error instanceof GaidarosError ? ` [${error.code}]` : ''
  const lines = `${error.message || error.name}${code}`.split('\n').map((line) => `gaidaros: ${printable(line)}`)
  let said = error.message
  let cause = error.cause
  for (let depth = 0; cause instanceof Error && depth < MOST_CAUSES; depth++, cause = cause.cause) {
    if (said.includes(cause.message)) continue
    said += cause.message
    lines.push(`  because: ${printable(cause.message)}`)
  }
  if (isLoud || !(error instanceof GaidarosError)) {
    // The frames only: the message has been said.
    const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))
    for (const frame of frames) lines.push(`  ${printable(frame.trim())}`)
  }
  return `${lines.join('\n')}\n`
}
