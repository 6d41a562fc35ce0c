/**
 * What users import to test handlers and to prove a transport or codec: `gaidaros/testing`.
 *
 * Room: testing. Re-exports only.
 */
export * from './memory-network.js'
export * from './random.js'
export * from './virtual-clock.js'
export * from './codec-conformance.js'
export * from './transport-conformance.js'
export * from './capability-table.js'
export { conformanceReports } from './conformance.js'
export type { CaseResult, ConformanceReport, ConformanceRunner, ConformanceSkip } from './conformance.js'
