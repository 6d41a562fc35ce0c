/**
 * How a transport or layer has its place for a peer that is no link yet, whether or not anybody counts.
 *
 * Room: core, contract with a little mechanism.
 */
import type { Arrival, Arrived, LinkSink } from './transport.js'

/** On the connecting side, and above layers that know nothing of arrivals. */
const NOWHERE: Arrived = { next: () => true, left() {} }

/**
 * Takes a place for a peer, or goes on to its next stage in the place it has.
 *
 * @param arrived - The place it has already, from what is below.
 * @returns undefined: it is refused, and the caller ends it.
 */
export function arrive(sink: LinkSink, arrival: Arrival, arrived: Arrived | undefined): Arrived | undefined {
  if (arrived !== undefined) return arrived.next(arrival) ? arrived : undefined
  return sink.arrive === undefined ? NOWHERE : sink.arrive(arrival)
}
