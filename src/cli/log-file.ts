/**
 * A log file in place of standard error: written behind the caller's back, opened again when told to.
 *
 * Room: the command line. A full disk, a file that was deleted or moved away, must not end or slow a server: what cannot be
 * written is counted, and the count is written once something can be.
 */
import { closeSync, fstatSync, openSync, write, writeSync } from 'node:fs'
import { BindError, toError } from '../core/errors.js'
import type { Ids } from '../core/privileges.js'
import { openFor } from '../core/root-files.js'

/** What waits to be written, at most; further lines are lost, and counted. */
const MOST_BYTES = 1024 * 1024
const MODE = 0o640

export class LogFile {
  readonly path: string
  #descriptor: number
  #waiting: string[] = []
  #waitingBytes = 0
  #isWriting = false
  #isOver = false
  /** Lines that could not be written and were not told yet. */
  #lost = 0
  /** All lines that could not be written. */
  lost = 0
  readonly #owner: Ids | undefined

  /**
   * @param owner - Who this process, root's still, will be: the file is given to that user, so that it can be opened again then.
   * @throws {BindError} `PATH_INVALID` when it cannot be opened for appending; `PATH_OCCUPIED` when it is not to be given away.
   *   Reach: the start.
   */
  constructor(path: string, owner?: Ids) {
    this.path = path
    this.#owner = owner
    try {
      this.#descriptor = this.#open()
    } catch (cause) {
      if (cause instanceof BindError) throw cause
      const message = `daemon.logFile: ${path} cannot be written: ${toError(cause).message}`
      throw new BindError('PATH_INVALID', message, { path, cause })
    }
  }

  #open(): number {
    const isGiven = this.#owner !== undefined && process.geteuid?.() === 0
    return isGiven ? openFor(this.#owner as Ids, this.path, MODE, 'daemon.logFile') : openSync(this.path, 'a', MODE)
  }

  /** @param text - Whole lines. */
  write(text: string): void {
    const bytes = Buffer.byteLength(text)
    if (this.#isOver || this.#waitingBytes + bytes > MOST_BYTES) return this.#lose(text)
    this.#waiting.push(text)
    this.#waitingBytes += bytes
    if (!this.#isWriting) this.#next()
  }

  /** Opens its path again: a tool has moved the file away. The old file stays in use when that fails. */
  reopen(): void {
    let fresh: number
    try {
      fresh = this.#open()
    } catch (error) {
      return this.write(`gaidaros: log file ${this.path} cannot be opened again: ${toError(error).message}\n`)
    }
    const old = this.#descriptor
    this.#descriptor = fresh
    // A write under way has the old number.
    if (this.#isWriting) this.#closeLater.push(old)
    else closeQuietly(old)
  }
  #closeLater: number[] = []

  /** Writes what waits, now. */
  close(): void {
    if (this.#isOver) return
    this.#isOver = true
    const rest = this.#take()
    if (rest === undefined) return
    try {
      let bytes = rest
      while (bytes.length > 0) bytes = bytes.subarray(writeSync(this.#descriptor, bytes))
    } catch {
      // There is nobody left to tell.
    }
  }

  #next(): void {
    // A file without a name is a file nobody will read.
    if (isDeleted(this.#descriptor)) this.reopen()
    const batch = this.#take()
    if (batch === undefined) return
    this.#isWriting = true
    this.#write(batch, () => {
      this.#isWriting = false
      for (const old of this.#closeLater.splice(0)) closeQuietly(old)
      if (this.#waiting.length > 0 && !this.#isOver) this.#next()
    })
  }

  #write(bytes: Buffer, done: () => void): void {
    write(this.#descriptor, bytes, 0, bytes.length, null, (error, written) => {
      if (error !== null) this.#lose(bytes.toString())
      else if (written < bytes.length) return this.#write(bytes.subarray(written), done)
      done()
    })
  }

  /** All that waits as one piece, with what has to be said of earlier lines in front. */
  #take(): Buffer | undefined {
    if (this.#waiting.length === 0 && (this.#lost === 0 || this.#isWriting)) return undefined
    const told = this.#lost === 0 ? '' : `gaidaros: ${this.#lost} lines before this one could not be written\n`
    this.#toldLost = this.#lost
    this.#lost = 0
    const batch = Buffer.from(told + this.#waiting.join(''))
    this.#waiting = []
    this.#waitingBytes = 0
    return batch
  }
  #toldLost = 0

  #lose(text: string): void {
    let lines = 0
    for (const line of text.split('\n')) if (line !== '') lines++
    // The line that tells of lost ones is none of them.
    if (this.#toldLost > 0 && text.startsWith('gaidaros: ')) {
      this.#lost += this.#toldLost
      lines--
    }
    this.#toldLost = 0
    this.#lost += lines
    this.lost += lines
  }
}

function isDeleted(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).nlink === 0
  } catch {
    return false
  }
}

function closeQuietly(descriptor: number): void {
  try {
    closeSync(descriptor)
  } catch {
    // It is gone; that was the wish.
  }
}
