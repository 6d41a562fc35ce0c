/**
 * Standard output and standard error, whoever reads them and whether or not they can be written.
 *
 * Room: the command line. A reader that leaves (`gaidaros config | head -1`) is no failure, and neither a full disk nor a
 * closed terminal may end a server.
 */
import { printable } from '../core/printable.js'

let outputError: Error | undefined
let lostLines = 0

/** Once a process. Without it Node throws what a stream reports. */
export function tolerateOutput(): void {
  process.stdout.on('error', (error: Error & { code?: string }) => {
    if (error.code !== 'EPIPE') outputError ??= error
  })
  process.stderr.on('error', () => {})
}

/**
 * Waits until everything printed has gone to the system.
 *
 * @returns why some of standard output could not be written; undefined when all was, or when the reader had left.
 */
export async function flushOutput(): Promise<Error | undefined> {
  await Promise.all([written(process.stdout), written(process.stderr)])
  return outputError
}

function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed) resolve()
    // A turn later, because a stream reports its error after the callback.
    else stream.write('', () => setImmediate(resolve))
  })
}

/** A line to standard error. Lines that could not be written are counted, and said once one can be. */
export function logLine(line: string): void {
  process.stderr.write(`${printable(line)}\n`, (error) => {
    if (error) lostLines++
    else if (lostLines > 0) {
      const lost = lostLines
      lostLines = 0
      logLine(`gaidaros: ${lost} lines before this one could not be written`)
    }
  })
}
