/**
 * The form of a transport case, and the words its conditions are written in.
 *
 * Room: testing.
 */
import assert from 'node:assert/strict'
import { BindError, ConnectionError } from '../core/errors.js'
import type { Capabilities } from '../core/transport.js'
import type { ConformanceCase } from './conformance.js'
import { capabilitiesOf, TransportRig, type TransportSubject } from './transport-rig.js'

export type TransportCase = ConformanceCase<TransportSubject>

interface Conditions {
  readonly capability?: TransportCase['capability']
  readonly without?: TransportCase['without']
}

/** Makes a case whose rig is cleaned up whatever happens. */
export function transportCase(
  id: string,
  proves: string,
  conditions: Conditions,
  body: (rig: TransportRig) => Promise<string | void>,
): TransportCase {
  return {
    id,
    proves,
    ...conditions,
    async run(subject, isDeclared) {
      const rig = new TransportRig(subject, id, isDeclared)
      try {
        return await body(rig)
      } finally {
        await rig.cleanUp()
      }
    },
  }
}

const when = (reason: string, isMet: (capabilities: Capabilities) => boolean): Conditions => ({
  without: (subject) => (isMet(capabilitiesOf(subject)) ? undefined : reason),
})
const declared = (name: string, isDeclared: (capabilities: Capabilities) => boolean): Conditions => ({
  capability: { name, isDeclared: (subject) => isDeclared(capabilitiesOf(subject)) },
})

export const always: Conditions = {}
export const onStreams = when('a message transport has no byte stream', ({ kind }) => kind === 'stream')
export const onMessages = when('a stream keeps no boundaries', ({ kind }) => kind === 'message')
/** What never hears of its peer's end cannot be held to it: a datagram that says so may be lost. */
export const whereReliable = when(
  'an unreliable transport does not hear that its peer ends',
  ({ reliable }) => reliable,
)
export const whereWritesAreHeld = when('back-pressure is none', ({ backpressure }) => backpressure !== 'none')
export const halfClose = declared('halfClose', (capabilities) => capabilities.halfClose)
export const reset = declared('reset', (capabilities) => capabilities.reset)
/** Tried on `local` too; with `none` a try would only flood. */
export const endToEnd: Conditions = {
  ...whereWritesAreHeld,
  ...declared('end-to-end', ({ backpressure }) => backpressure === 'end-to-end'),
}

/** Asserts a rejection with a class of core's errors and a code. */
export async function assertFailure(
  rig: TransportRig,
  promise: Promise<unknown>,
  kind: typeof BindError | typeof ConnectionError,
  code: string,
  what: string,
): Promise<void> {
  const error = await rig.within(
    promise.then(
      () => undefined,
      (thrown: unknown) => thrown,
    ),
    what,
  )
  assert.ok(error !== undefined, `${what}: expected ${kind.name} ${code}, but it succeeded`)
  assert.ok(error instanceof kind, `${what}: expected ${kind.name} ${code}, got ${String(error)}`)
  assert.equal((error as ConnectionError).code, code, `${what}: expected ${kind.name} ${code}, got ${String(error)}`)
}
