/**
 * Text format 0.0.4, read strictly: what Prometheus would merely tolerate is refused here.
 *
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 */
export interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface ReadFamily {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly series: Series[]
}

/** @throws with the line that is wrong. */
export function readExposition(text: string): Map<string, ReadFamily> {
  if (text !== '' && !text.endsWith('\n')) throw new Error('the last line has no line feed')
  const families = new Map<string, ReadFamily>()
  const seen = new Set<string>()
  let help: [string, string] | undefined
  let family: ReadFamily | undefined
  text.split('\n').forEach((line, i) => {
    const wrong = (why: string) => new Error(`line ${i + 1}: ${why}: ${line}`)
    if (line === '') {
      if (i < text.split('\n').length - 1) throw wrong('an empty line')
      return
    }
    const head = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) ([^\n]*)$/.exec(line)
    if (line.startsWith('#')) {
      if (head === null) throw wrong('neither HELP nor TYPE')
      const [, kind, name = '', rest = ''] = head
      if (kind === 'HELP') {
        if (help !== undefined) throw wrong('a second HELP')
        if (!/^(?:[^\\]|\\[\\n])*$/.test(rest)) throw wrong('an unknown escape')
        help = [name, rest]
        return
      }
      if (help?.[0] !== name) throw wrong('a TYPE without its HELP')
      if (families.has(name)) throw wrong('a family twice')
      if (!['counter', 'gauge', 'histogram'].includes(rest)) throw wrong('an unknown type')
      if ((rest === 'counter') !== name.endsWith('_total')) throw wrong('_total is for counters, and all of them')
      family = { name, type: rest, help: help[1], series: [] }
      families.set(name, family)
      help = undefined
      return
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^\n]*)\})? (\S+)$/.exec(line)
    if (sample === null || family === undefined || help !== undefined) throw wrong('no sample of a family')
    const [, name = '', labelText, valueText = ''] = sample
    const isPart = family.type === 'histogram' && /^_(bucket|sum|count)$/.test(name.slice(family.name.length))
    if (name !== family.name && !(isPart && name.startsWith(family.name)))
      throw wrong(`not of the family ${family.name}`)
    if (family.type === 'histogram' && name === family.name) throw wrong('a bare sample of a histogram')
    const labels = readLabels(labelText, wrong)
    const key = JSON.stringify([name, Object.entries(labels).sort()])
    if (seen.has(key)) throw wrong('a series twice')
    seen.add(key)
    if (!/^([+-]?Inf|NaN|-?(\d+(\.\d+)?)(e[+-]?\d+)?)$/.test(valueText)) throw wrong('no number')
    const value = Number(valueText.replace('Inf', 'Infinity'))
    if (family.type === 'counter' && !(value >= 0)) throw wrong('a counter below zero')
    family.series.push({ name, labels, value })
  })
  for (const one of families.values()) {
    if (one.series.length === 0) throw new Error(`${one.name} has no sample`)
    if (one.type === 'histogram') checkHistogram(one)
  }
  return families
}

function readLabels(text: string | undefined, wrong: (why: string) => Error): Record<string, string> {
  const labels: Record<string, string> = {}
  if (text === undefined) return labels
  if (text === '') throw wrong('braces without labels')
  let at = 0
  while (at < text.length) {
    const pair = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/.exec(text.slice(at))
    if (pair === null) throw wrong('labels')
    const [whole, name = '', value = '', comma] = pair
    if (name in labels || name.startsWith('__')) throw wrong(`label ${name}`)
    labels[name] = value.replace(/\\(["\\n])/g, (_, one) => (one === 'n' ? '\n' : one))
    at += whole.length
    if (comma === ',' && at === text.length) throw wrong('a comma at the end')
  }
  return labels
}

/** Buckets ascend to +Inf, which is the count; each has its sum. */
function checkHistogram({ name, series }: ReadFamily): void {
  const groups = new Map<string, { le: number; count: number }[]>()
  const ends = new Map<string, { sum?: number; count?: number }>()
  for (const one of series) {
    const { le, ...labels } = one.labels
    const key = JSON.stringify(Object.entries(labels).sort())
    if (one.name === `${name}_bucket`) {
      if (le === undefined) throw new Error(`${name}: a bucket without le`)
      const group = groups.get(key) ?? []
      group.push({ le: Number(le.replace('Inf', 'Infinity')), count: one.value })
      groups.set(key, group)
    } else ends.set(key, { ...ends.get(key), [one.name.endsWith('_sum') ? 'sum' : 'count']: one.value })
  }
  for (const [key, buckets] of groups) {
    const end = ends.get(key)
    const isSorted = buckets.every(({ le, count }, i) => {
      const before = buckets[i - 1]
      return before === undefined || (le > before.le && count >= before.count)
    })
    const last = buckets.at(-1)
    if (!isSorted || last?.le !== Number.POSITIVE_INFINITY || last.count !== end?.count || end?.sum === undefined)
      throw new Error(`${name}${key}: its buckets, sum and count do not fit`)
  }
  if (groups.size !== ends.size) throw new Error(`${name}: sums without buckets`)
}

/** The sum of a family's samples (of a histogram: its counts) whose labels fit. */
export function total(
  families: ReadonlyMap<string, ReadFamily>,
  name: string,
  labels: Record<string, string> = {},
): number {
  const family = families.get(name)
  if (family === undefined) return 0
  const part = family.type === 'histogram' ? `${name}_count` : name
  return family.series
    .filter((one) => one.name === part && Object.entries(labels).every(([key, value]) => one.labels[key] === value))
    .reduce((sum, { value }) => sum + value, 0)
}
