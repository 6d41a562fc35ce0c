/**
 * Two listeners at one address: found before anything is bound, and named.
 *
 * Room: core, mechanism. The platform would say EADDRINUSE, as if another program had it. What differs between platforms (a
 * wildcard beside an address) is looked at on Linux alone (ip(7), ipv6(7)); what is not found here is found by the bind.
 */
import { resolve } from 'node:path'
import type { Endpoint } from './endpoint.js'
import { BindError } from './errors.js'
import type { Binding } from './plan.js'

/** A listener, bound or about to be. */
export interface Addressed {
  readonly name: string
  /** Those it has, where it is bound; else those of its bindings. */
  readonly endpoints?: readonly Endpoint[]
  readonly bindings: readonly Binding[]
}

interface Place {
  readonly listener: string
  readonly endpoint: Endpoint
  readonly binding: Binding
}

/** @throws {BindError} `ADDRESS_IN_USE`, with both listeners. */
export function checkAddresses(listeners: Iterable<Addressed>): void {
  const places: Place[] = []
  for (const { name, bindings, endpoints } of listeners) {
    for (const [index, binding] of bindings.entries()) {
      const place = { listener: name, endpoint: endpoints?.[index] ?? binding.endpoint, binding }
      for (const other of places) check(place, other)
      places.push(place)
    }
  }
}

function check(one: Place, other: Place): void {
  const clash = clashOf(one, other)
  if (clash === undefined) return
  const who = one.listener === other.listener ? 'the same listener' : `listener ${other.listener}`
  const message = `listeners.${one.listener}.endpoint: ${one.endpoint} and ${other.endpoint} of ${who} are one address: ${clash}`
  throw new BindError('ADDRESS_IN_USE', message, {
    endpoint: one.endpoint,
    listener: one.listener,
    other: other.listener,
  })
}

/** @returns why both cannot be bound, and what to do; undefined: they can. */
function clashOf(one: Place, other: Place): string | undefined {
  const { endpoint: a, binding } = one
  const { endpoint: b, binding: otherBinding } = other
  const kind = kindOf(binding)
  if (kind === undefined || kind !== kindOf(otherBinding)) return undefined
  if (a.host === undefined || b.host === undefined) {
    if (a.host !== b.host || resolve(a.path ?? '') !== resolve(b.path ?? '')) return undefined
    return 'give one of them another path'
  }
  if (a.port !== b.port || a.port === 0) return undefined
  const [optionsA, optionsB] = [binding.options as SocketKeys, otherBinding.options as SocketKeys]
  const areReusing = optionsA.reusePort === true && optionsB.reusePort === true
  const [hostA, hostB] = [a.host.toLowerCase(), b.host.toLowerCase()]
  if (hostA === hostB && binding.transport === otherBinding.transport && binding.transport.shares !== undefined) {
    const misfit = binding.transport.shares(a, binding.options, b, otherBinding.options)
    if (misfit !== undefined) return areReusing ? undefined : misfit
    const isLayered = binding.preambles > 0 || otherBinding.preambles > 0
    return isLayered ? 'layers before the upgrade are not shared; give one of them another port' : undefined
  }
  // The platform lets several have it.
  if (areReusing || optionsA.multicast !== undefined || optionsB.multicast !== undefined) return undefined
  const [allA, allB] = [takenBy(hostA, optionsA.ipv6Only), takenBy(hostB, optionsB.ipv6Only)]
  if (!allA.some((x) => allB.some((y) => x === y || (process.platform === 'linux' && isWithin(x, y))))) return undefined
  if ([hostA, hostB].includes('::') && ![hostA, hostB].every((host) => host.includes(':') || host === 'localhost'))
    return '[::] takes IPv4 as well; set socket.ipv6Only: true there, or leave the other out'
  return 'give one of them another port'
}

interface SocketKeys {
  readonly ipv6Only?: boolean
  readonly reusePort?: boolean
  readonly multicast?: unknown
}

/** Ports of TCP are one kind, those of UDP another; transports that bind by other means are left to themselves. */
function kindOf({ transport }: Binding): string | undefined {
  return transport.binds === 'descriptor' ? undefined : transport.binds
}

/** What stands for a host: itself, or both of localhost or of a wildcard for both families. */
function takenBy(host: string, ipv6Only = false): readonly string[] {
  if (host === 'localhost') return ['127.0.0.1', '::1']
  return host === '::' && !ipv6Only ? ['::', '0.0.0.0'] : [host]
}

/** Of one family, a wildcard and an address. */
function isWithin(one: string, other: string): boolean {
  const isSix = one.includes(':')
  if (isSix !== other.includes(':')) return false
  const all = isSix ? '::' : '0.0.0.0'
  return (one === all && isAddress(other)) || (other === all && isAddress(one))
}

/** A name may be of either family. */
const isAddress = (host: string): boolean => host.includes(':') || /^[\d.]+$/.test(host)
