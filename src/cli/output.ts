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

/** Takes text in place of a stream. @param original - Writes it where it would have gone. */
export type Redirect = (text: string, original: (text: string) => void) => void

const originals = new Map<NodeJS.WriteStream, (text: string) => void>()

/**
 * Sends what anybody prints somewhere else, `console.log` of handlers included. Again: somewhere else from then on.
 *
 * Descriptors cannot be changed in Node, and so this is where a log file takes the place of standard error. Child processes
 * whose output should follow see the stream's own `write` and are given pipes (plugins/executors/process).
 */
export function redirectOutput({ out, err }: { readonly out?: Redirect; readonly err?: Redirect }): void {
  if (out !== undefined) redirect(process.stdout, out)
  if (err !== undefined) redirect(process.stderr, err)
}

function redirect(stream: NodeJS.WriteStream, to: Redirect): void {
  const original = originals.get(stream) ?? stream.write.bind(stream)
  originals.set(stream, original)
  stream.write = (chunk: string | Uint8Array, encoding?: unknown, done?: unknown): boolean => {
    to(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString(), original)
    const told = typeof encoding === 'function' ? encoding : done
    if (typeof told === 'function') process.nextTick(told as () => void)
    return true
  }
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
