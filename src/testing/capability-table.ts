/**
 * The documentation's table of what each transport can do, made from what its conformance run proved.
 *
 * Room: testing.
 */
import type { ConformanceReport } from './conformance.js'

/** Reads the lines that the kits wrote to `GAIDAROS_CONFORMANCE_REPORT`; of several of one subject the last counts. */
export function readConformanceReports(text: string): ConformanceReport[] {
  const reports = new Map<string, ConformanceReport>()
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue
    const report = JSON.parse(line) as ConformanceReport
    reports.set(`${report.kind} ${report.name}`, report)
  }
  return [...reports.values()]
}

const columns = [
  'transport',
  'kind',
  'ordered',
  'reliable',
  'half-close',
  'reset',
  'back-pressure',
  'largest message',
  'upgrade',
  'cases',
]

/**
 * Renders a Markdown table: a row for each transport, sorted by name; the same reports in any order give the same text.
 */
export function capabilityTable(reports: readonly ConformanceReport[]): string {
  const rows = reports.filter(({ kind }) => kind === 'transport').sort((a, b) => (a.name < b.name ? -1 : 1))
  const lines = [columns, columns.map(() => '---'), ...rows.map(rowOf)]
  return `${lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`
}

function rowOf({ name, cases, capabilities, undeclared }: ConformanceReport): string[] {
  const count = (result: string) => cases.filter((entry) => entry.result === result).length
  const mark = (isDeclared: boolean | undefined, capability: string) =>
    isDeclared ? 'yes' : undeclared.includes(capability) ? 'undeclared' : 'no'
  const bytes = capabilities?.maxMessageBytes
  const failed = count('failed')
  return [
    name,
    capabilities?.kind ?? '?',
    mark(capabilities?.ordered, 'ordered'),
    mark(capabilities?.reliable, 'reliable'),
    mark(capabilities?.halfClose, 'halfClose'),
    mark(capabilities?.reset, 'reset'),
    capabilities?.backpressure ?? '?',
    bytes === undefined ? '–' : bytes.toLocaleString('en-US'),
    capabilities?.upgrade.join(', ') || '–',
    `${count('passed')} passed, ${count('skipped')} skipped${failed > 0 ? `, ${failed} FAILED` : ''}`,
  ]
}
