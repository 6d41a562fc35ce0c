/**
 * A pipe that this process was started with.
 *
 * Room: transports, because it names `node:net`.
 */
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** @param descriptor - Of a socket pair's end, as `stdio: ['...', 'pipe']` makes them. */
export function inheritedPipe(descriptor: number): Duplex {
  return new Socket({ fd: descriptor, readable: true, writable: true })
}
