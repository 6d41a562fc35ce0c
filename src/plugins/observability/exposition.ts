/**
 * A snapshot as Prometheus reads it: text format 0.0.4.
 *
 * Room: plugins/observability. https://prometheus.io/docs/instrumenting/exposition_formats/: one family after another, HELP and
 * TYPE first; backslash and line feed escaped in help, the quote too in label values.
 */
import type { Labels, Snapshot } from './series.js'

export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export function exposition({ worker, families }: Snapshot): string {
  const own: Labels = worker === undefined ? {} : { worker }
  let text = ''
  for (const family of families) {
    if (family.samples.length === 0) continue
    const { name, help, type } = family
    text += `# HELP ${name} ${help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')}\n# TYPE ${name} ${type}\n`
    if (family.type !== 'histogram') {
      for (const { labels, value } of family.samples)
        text += `${name}${shown({ ...labels, ...own })} ${number(value)}\n`
      continue
    }
    for (const { labels, counts, sum } of family.samples) {
      let count = 0
      counts.forEach((one, i) => {
        count += one
        const le = i < family.bounds.length ? number(family.bounds[i] as number) : '+Inf'
        text += `${name}_bucket${shown({ ...labels, ...own, le })} ${count}\n`
      })
      text += `${name}_sum${shown({ ...labels, ...own })} ${number(sum)}\n${name}_count${shown({ ...labels, ...own })} ${count}\n`
    }
  }
  return text
}

function shown(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escaped(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')
}

function number(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value)
}
