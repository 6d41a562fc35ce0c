/**
 * What users import to test handlers and to prove a transport or codec: `gaidaros/testing`.
 *
 * Room: testing. Re-exports only.
 */

export * from './capability-table.js'
export * from './codec-conformance.js'
export type { CaseResult, ConformanceReport, ConformanceRunner, ConformanceSkip } from './conformance.js'
export { conformanceReports } from './conformance.js'
export * from './memory-network.js'
export * from './random.js'
export * from './transport-conformance.js'
export * from './virtual-clock.js'
