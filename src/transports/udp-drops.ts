/**
 * What the kernel dropped because a socket's receive buffer was full.
 *
 * Room: transports. Linux tells it for each socket (proc(5), last column of /proc/net/udp); elsewhere nothing is known. Asked
 * now and then while there are peers, never for a datagram.
 */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { endianness } from 'node:os'

/** Between two looks. */
const LOOK_MS = 1_000

export class UdpDrops {
  readonly #file: string
  readonly #address: string
  readonly #told: (count: number) => void
  #known = 0
  #timer: NodeJS.Timeout | undefined

  /** @param told - With how many more, since it was last told. */
  constructor(host: string, port: number, told: (count: number) => void) {
    this.#file = host.includes(':') ? '/proc/net/udp6' : '/proc/net/udp'
    this.#address = `${hexOf(host)}:${port.toString(16).toUpperCase().padStart(4, '0')}`
    this.#told = told
  }

  start(): void {
    if (process.platform !== 'linux' || this.#timer !== undefined) return
    this.#timer = setInterval(() => {
      readFile(this.#file, 'latin1').then(
        (text) => this.#read(text),
        // Where no descriptor is free for a moment, the next look may find one.
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT' || error.code === 'EACCES') this.stop()
        },
      )
    }, LOOK_MS)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** A last look, while the socket is still there. */
  finish(): void {
    if (this.#timer === undefined) return
    this.stop()
    try {
      this.#read(readFileSync(this.#file, 'latin1'))
    } catch {
      // Not told here.
    }
  }

  #read(text: string): void {
    const drops = dropsOf(text, this.#address)
    if (drops <= this.#known) return
    const more = drops - this.#known
    this.#known = drops
    this.#told(more)
  }
}

/** The drops of all sockets of one address: with `reusePort` there may be several. */
export function dropsOf(table: string, address: string): number {
  let drops = 0
  for (const line of table.split('\n')) {
    const columns = line.trim().split(/\s+/)
    if (columns[1] === address) drops += Number(columns.at(-1))
  }
  return drops
}

/** As the kernel prints it: words of 32 bits in the byte order of the machine. */
export function hexOf(host: string): string {
  const bytes = host.includes(':') ? ipv6Bytes(host) : host.split('.').map(Number)
  const words: string[] = []
  for (let at = 0; at < bytes.length; at += 4) {
    const word = bytes.slice(at, at + 4)
    if (endianness() === 'LE') word.reverse()
    words.push(Buffer.from(word).toString('hex').toUpperCase())
  }
  return words.join('')
}

function ipv6Bytes(host: string): number[] {
  // The URL parser of the platform writes IPv4 in the tail as two groups, and drops no group but zeros.
  const plain = new URL(`http://[${host.replace(/%.*$/, '')}]`).hostname.slice(1, -1)
  const [head = '', tail] = plain.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)))
  const front = groups(head)
  const back = tail === undefined ? [] : groups(tail)
  const all = [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back]
  return all.flatMap((group) => [group >> 8, group & 0xff])
}
