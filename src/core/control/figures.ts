/**
 * What each listener of a process has carried, added up over processes that come and go.
 *
 * Room: core, mechanism of the control socket. Pure. Rates are taken from sums, so sums must not fall when a process ends, nor
 * leap when one that was silent answers again.
 */
import { addBuckets, type Buckets } from './latency.js'

export interface TrafficFacts {
  readonly bytesIn: number
  readonly bytesOut: number
  readonly messagesIn: number
  readonly messagesOut: number
}

export interface ListenerFigures {
  readonly name: string
  readonly traffic: TrafficFacts
  readonly latency?: Buckets
}

/** Of a process, as its `status` says them. */
export function figuresOf(listeners: readonly ListenerFigures[]): readonly ListenerFigures[] {
  return listeners.map(({ name, traffic, latency }) => ({ name, traffic, ...(latency && { latency }) }))
}

/** One entry a listener. */
export function addFigures(all: readonly (readonly ListenerFigures[])[]): readonly ListenerFigures[] {
  const sums = new Map<string, ListenerFigures>()
  for (const one of all.flat()) {
    const before = sums.get(one.name)
    sums.set(one.name, before === undefined ? one : addFigure(before, one))
  }
  return [...sums.values()]
}

/** The same listeners, with these figures in place of their own. */
export function withFigures<L extends ListenerFigures>(
  listeners: readonly L[],
  figures: readonly ListenerFigures[],
): readonly L[] {
  const known = new Map(figures.map((one) => [one.name, one]))
  return listeners.map((listener) => ({ ...listener, ...known.get(listener.name) }))
}

function addTraffic(a: TrafficFacts, b: TrafficFacts): TrafficFacts {
  return {
    bytesIn: a.bytesIn + b.bytesIn,
    bytesOut: a.bytesOut + b.bytesOut,
    messagesIn: a.messagesIn + b.messagesIn,
    messagesOut: a.messagesOut + b.messagesOut,
  }
}

/** Of one listener in two processes. */
export function addFigure(a: ListenerFigures, b: ListenerFigures): ListenerFigures {
  const latencies = [a.latency, b.latency].flatMap((one) => (one === undefined ? [] : [one]))
  return {
    name: a.name,
    traffic: addTraffic(a.traffic, b.traffic),
    ...(latencies.length > 0 && { latency: addBuckets(latencies) }),
  }
}
