/**
 * Proves a transport: each "must" of core/transport and each declared capability is a case.
 *
 * Room: testing. Drives the transport through its contract alone, with a sink of its own on both sides.
 */
import {
  type ConformanceReport,
  type ConformanceRunner,
  type ConformanceSkip,
  registerConformance,
} from './conformance.js'
import { arriveCases } from './transport-cases-arrive.js'
import { bytesCases } from './transport-cases-bytes.js'
import { endCases } from './transport-cases-end.js'
import { listenCases } from './transport-cases-listen.js'
import { manyCases } from './transport-cases-many.js'
import { capabilitiesOf, type TransportSubject } from './transport-rig.js'

export type { TransportSubject } from './transport-rig.js'

const transportCases = [...listenCases, ...arriveCases, ...bytesCases, ...endCases, ...manyCases]

/** The cases and what each proves, for documentation. */
export const transportCaseTitles: readonly { readonly id: string; readonly proves: string }[] = transportCases.map(
  ({ id, proves }) => ({ id, proves }),
)

/**
 * Registers one test for each promise of a transport.
 *
 * A declared capability that fails is a failure; one that works undeclared is printed and reported. Cases that mean
 * nothing for the transport's kind are skipped with that reason.
 *
 * @returns the report, filled in as the tests run; also written as a line of JSON to the file that the environment
 * variable
 *   `GAIDAROS_CONFORMANCE_REPORT` names.
 * @example
 * transportConformance(
 *   { name: 'memory', transport: memory, endpoint: 'memory:', skip: [] },
 *   { test, before: test.before, after: test.after },
 * )
 */
export function transportConformance(
  subject: TransportSubject & { readonly skip?: readonly ConformanceSkip[] },
  runner: ConformanceRunner,
): ConformanceReport {
  const run = {
    kind: 'transport',
    name: subject.name,
    version: subject.version,
    capabilities: capabilitiesOf(subject),
    cases: transportCases,
    skip: subject.skip,
  } as const
  return registerConformance(run, subject, runner)
}
