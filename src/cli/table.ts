/**
 * Columns, sizes and times as people read them.
 *
 * Room: the command line.
 */
import { printable } from '../core/printable.js'

/** Rows of equal columns; nothing in a cell can leave its line. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)))
  return rows
    .map((row) => `${printable(row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')).trimEnd()}\n`)
    .join('')
}

/** `740 B`, `1.4 KiB`, `12 MiB`. */
export function bytes(amount: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = amount
  let unit = 0
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_024
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** `740ms`, `4.2s`, `3m20s`, `5h12m`, `8d3h`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)}ms`
  const seconds = ms / 1_000
  if (seconds < 60) return `${seconds.toFixed(1)}s`
  const [m, h] = [Math.floor(seconds / 60), Math.floor(seconds / 3_600)]
  if (h < 1) return `${m}m${Math.floor(seconds % 60)}s`
  return h < 48 ? `${h}h${m % 60}m` : `${Math.floor(h / 24)}d${h % 24}h`
}

/** `0`, `4.2`, `740`, `12k`, `1.3M`. */
export function rate(perSecond: number): string {
  if (perSecond < 0.05) return '0'
  if (perSecond < 10) return perSecond.toFixed(1)
  if (perSecond < 10_000) return String(Math.round(perSecond))
  return perSecond < 1e6 ? `${(perSecond / 1e3).toFixed(perSecond < 1e5 ? 1 : 0)}k` : `${(perSecond / 1e6).toFixed(1)}M`
}

/** Milliseconds as `12µs`, `1.4ms`, `2.1s`. */
export function latency(ms: number | undefined): string {
  if (ms === undefined) return '-'
  if (ms < 1) return `${Math.round(ms * 1_000)}µs`
  return ms < 1_000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)}ms` : `${(ms / 1_000).toFixed(1)}s`
}
