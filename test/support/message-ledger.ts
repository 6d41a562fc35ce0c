/**
 * The ledger behind "nothing lost": clients log what they sent and what was acknowledged, the handler what it handled.
 *
 * acked ⊆ handled ⊆ sent; what is neither is unknown, on connections that saw a close alone and at most a window of each;
 * nothing twice; replies in order.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { crc32 } from './crc32.js'

export interface LedgerSums {
  sent: number
  acked: number
  handled: number
  /** Sent, and neither acknowledged nor on a connection that is still open. */
  unknown: number
  /** Connections that ended before their client wanted it. */
  broken: number
}

/** Clients that keep a window of messages under way, and come back when they are cut. */
export class Ledger {
  readonly #port: number
  readonly #window: number
  readonly #faults: string[] = []
  readonly #open = new Set<Socket>()
  #sent = 0
  #acked = 0
  #unknown = 0
  #broken = 0
  #lastConnection = 0
  #isEnding = false
  /** Acknowledged, as the handler would have logged it. */
  readonly #ackedWords = new Set<string>()
  readonly #sentWords = new Set<string>()

  constructor(port: number, window = 4) {
    this.#port = port
    this.#window = window
  }

  /** Runs one client until the end, over as many connections as it takes. */
  async client(): Promise<void> {
    while (!this.#isEnding) {
      await this.#converse()
      // A cut comes in a storm of them: a little patience, as a real client has.
      if (!this.#isEnding) await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  end(): void {
    this.#isEnding = true
  }

  #converse(): Promise<void> {
    const id = ++this.#lastConnection
    const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true })
    this.#open.add(socket)
    const underWay: string[] = []
    let seq = 0
    let rest = ''
    const fill = () => {
      while (!this.#isEnding && underWay.length < this.#window) {
        const payload = randomBytes(1 + (seq % 40)).toString('hex')
        const words = `${id} ${++seq} ${crc32(payload)}`
        this.#sentWords.add(words)
        this.#sent++
        underWay.push(words)
        socket.write(`${words} ${payload}\n`)
      }
      if (this.#isEnding && underWay.length === 0) socket.end()
    }
    socket.on('connect', fill)
    socket.on('data', (chunk) => {
      const lines = (rest + chunk.toString('latin1')).split('\n')
      rest = lines.pop() as string
      for (const line of lines) {
        const expected = underWay.shift()
        if (line !== expected) this.#faults.push(`connection ${id}: expected ${expected}, heard ${line}`)
        this.#acked++
        this.#ackedWords.add(line)
      }
      fill()
    })
    socket.on('error', () => {})
    return new Promise((resolve) => {
      socket.on('close', () => {
        this.#open.delete(socket)
        if (underWay.length > 0 || !this.#isEnding) this.#broken++
        if (underWay.length > this.#window) this.#faults.push(`connection ${id}: ${underWay.length} under way`)
        this.#unknown += underWay.length
        resolve()
      })
    })
  }

  /** Holds the columns against each other. @param log - What the handler wrote, a line a message. */
  check(log: string): LedgerSums {
    const lines = log.split('\n').filter((line) => line !== '')
    const handled = new Set(lines)
    const faults = [...this.#faults]
    if (handled.size !== lines.length) faults.push(`${lines.length - handled.size} messages were handled twice`)
    for (const words of this.#ackedWords) if (!handled.has(words)) faults.push(`acknowledged and not handled: ${words}`)
    for (const words of handled) if (!this.#sentWords.has(words)) faults.push(`handled and never sent: ${words}`)
    if (this.#sent !== this.#acked + this.#unknown)
      faults.push(`${this.#sent} sent, ${this.#acked} acknowledged, ${this.#unknown} unknown: these do not add up`)
    if (this.#unknown > this.#broken * this.#window)
      faults.push(`${this.#unknown} unknown on ${this.#broken} broken connections of ${this.#window} each`)
    const last = new Map<string, number>()
    for (const line of lines) {
      const [connection = '', seq] = line.split(' ')
      if (Number(seq) <= (last.get(connection) ?? 0)) faults.push(`out of order: ${line}`)
      last.set(connection, Number(seq))
    }
    if (faults.length > 0) throw new Error(`${faults.length} faults of the ledger:\n${faults.slice(0, 10).join('\n')}`)
    return {
      sent: this.#sent,
      acked: this.#acked,
      handled: handled.size,
      unknown: this.#unknown,
      broken: this.#broken,
    }
  }
}
