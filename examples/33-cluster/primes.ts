/**
 * 33: A handler on other machines. One configuration for all: the server keeps the connections, nodes do the work, each on
 * a pool of threads. A connection keeps its node; when that is lost, it goes on with another one.
 *
 *   nats-server -a 127.0.0.1                                            (Debian: apt install nats-server)
 *   npx gaidaros node --config examples/33-cluster/gaidaros.config.json       twice, here or on other machines
 *   npx gaidaros serve --config examples/33-cluster/gaidaros.config.json
 *   printf '1000\n100000\n' | nc -N localhost 8080
 *   → 168 primes below 1000, counted by process 4711
 *     9592 primes below 100000, counted by process 4711
 */
import { type Connection, Handler, OnMessage } from 'gaidaros'

@Handler({ codec: 'line', scope: 'connection' })
export default class Primes {
  #asked = 0

  @OnMessage() count(line: string, connection: Connection): string {
    const limit = Number(line)
    if (!Number.isInteger(limit) || limit < 0 || limit > 10_000_000) return 'a whole number up to ten million, please'
    if (++this.#asked > 1_000) void connection.close('ENOUGH')
    return `${primesBelow(limit)} primes below ${limit}, counted by process ${process.pid}`
  }
}

/** The sieve of Eratosthenes. */
function primesBelow(limit: number): number {
  const isComposite = new Uint8Array(limit)
  let count = 0
  for (let i = 2; i < limit; i++) {
    if (isComposite[i] === 1) continue
    count++
    for (let j = i * i; j < limit; j += i) isComposite[j] = 1
  }
  return count
}
