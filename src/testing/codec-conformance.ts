/**
 * Proves a codec: each "must" of core/codec is a case, tried with samples, seeded cuts and hostile bytes.
 *
 * Room: testing.
 */
import { messageCases } from './codec-cases-message.js'
import { streamCases } from './codec-cases-stream.js'
import type { CodecSubject } from './codec-subject.js'
import {
  type ConformanceReport,
  type ConformanceRunner,
  type ConformanceSkip,
  registerConformance,
} from './conformance.js'

export type { CodecSubject } from './codec-subject.js'

const codecCases = [...streamCases, ...messageCases]

/** The cases and what each proves, for documentation. */
export const codecCaseTitles: readonly { readonly id: string; readonly proves: string }[] = codecCases.map(
  ({ id, proves }) => ({ id, proves }),
)

/**
 * Registers one test for each promise of a codec.
 *
 * Cases are made from a seed, so a failure comes back; its message shows the bytes and the cuts.
 *
 * @returns the report, filled in as the tests run; also written as `transportConformance` does.
 * @example
 * codecConformance({ name: 'line', codec, messages: (random) => 'x'.repeat(random.below(80)), cases: 10_000 }, { test
 * })
 */
export function codecConformance(
  subject: CodecSubject & { readonly skip?: readonly ConformanceSkip[] },
  runner: ConformanceRunner,
): ConformanceReport {
  const run = {
    kind: 'codec',
    name: subject.name,
    version: subject.version,
    capabilities: undefined,
    cases: codecCases,
    skip: subject.skip,
  } as const
  return registerConformance(run, subject, runner)
}
