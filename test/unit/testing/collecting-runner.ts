import type { ConformanceReport, ConformanceRunner } from '#src/testing/index.js'

/** Runs what a kit registers, at once and in order, and keeps the results: for runs that are meant to fail. */
export async function collect(
  register: (runner: ConformanceRunner) => ConformanceReport,
): Promise<{ report: ConformanceReport; failed: string[]; printed: string[]; reasons: Record<string, string> }> {
  // A broken subject's report has no place among the real ones.
  delete process.env.GAIDAROS_CONFORMANCE_REPORT
  const bodies: (() => Promise<void>)[] = []
  const printed: string[] = []
  const report = register({ test: (_name, body) => void bodies.push(body), print: (line) => void printed.push(line) })
  for (const body of bodies) await body().catch(() => {})
  const failures = report.cases.filter(({ result }) => result === 'failed')
  return {
    report,
    failed: failures.map(({ id }) => id),
    printed,
    reasons: Object.fromEntries(failures.map(({ id, reason }) => [id, reason ?? ''])),
  }
}
