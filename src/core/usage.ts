/**
 * What this process uses, against what it may.
 *
 * Room: core, mechanism.
 */
import { totalmem } from 'node:os'
import { getHeapStatistics } from 'node:v8'
import { toError } from './errors.js'

/** Bytes and counts, measured at one moment. */
export interface Usage {
  readonly residentBytes: number
  /** `limits.residentBytes`; else what the control group or the machine has. */
  readonly residentLimit: number
  readonly heapBytes: number
  /** V8's own (`--max-old-space-size`). */
  readonly heapLimit: number
  /** Undefined where the platform does not tell. */
  readonly descriptors: number | undefined
  /** The soft limit of the process (RLIMIT_NOFILE). */
  readonly descriptorLimit: number | undefined
  /** Held for connections; undefined without `limits.memoryBytes`, which is what counts it. */
  readonly heldBytes: number | undefined
  readonly heldLimit: number | undefined
}

/** What only transports know: descriptors open now, and how many may be. */
export type DescriptorCount = () => { readonly open: number; readonly limit: number } | undefined

/** Memory that this process may have, in bytes. */
export function grantedMemory(): number {
  // 0 where there is no control group; a number beyond the machine's where it sets no limit.
  const constrained = (process as { constrainedMemory?: () => number }).constrainedMemory?.() ?? 0
  const machine = totalmem()
  return constrained > 0 && constrained < machine ? constrained : machine
}

/** As last measured. */
let last: NodeJS.MemoryUsage = { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }

/**
 * `process.memoryUsage()` that never throws: Node reads resident memory from a file (/proc/self/stat), which fails where no descriptor
 * is free.
 *
 * @param failed - Told of that; what was measured last is given then.
 */
export function processMemory(failed?: (error: Error) => void): NodeJS.MemoryUsage {
  try {
    last = process.memoryUsage()
  } catch (thrown) {
    failed?.(toError(thrown))
  }
  return last
}

/** The same for a thread or place, of which only resident memory is asked: a tenth of the cost. */
export function residentMemory(failed?: (error: Error) => void): number {
  try {
    last = { ...last, rss: process.memoryUsage.rss() }
  } catch (thrown) {
    failed?.(toError(thrown))
  }
  return last.rss
}

export function memoryUsage(failed?: (error: Error) => void): Pick<Usage, 'residentBytes' | 'heapBytes' | 'heapLimit'> {
  const { used_heap_size: heapBytes, heap_size_limit: heapLimit } = getHeapStatistics()
  return { residentBytes: residentMemory(failed), heapBytes, heapLimit }
}
