/**
 * One frame of `top`: the two last answers of a server as lines of a terminal.
 *
 * Room: the command line. Pure. Lines never exceed the width; what peers chose (names, addresses) is made printable.
 */

import { addBuckets, type Buckets, quantile, sinceBuckets } from '../../core/control/latency.js'
import type { ConnectionFacts, ListenerStatus, Status } from '../../core/control.js'
import { printable } from '../../core/printable.js'
import { bytes, duration, latency, rate } from '../table.js'
import { chosen, type Sample, type View } from './state.js'

export interface Size {
  readonly columns: number
  readonly rows: number
}

export interface Frame {
  readonly lines: readonly string[]
  /** How many connections it has room for. */
  readonly height: number
}

/** Bold, reverse and the like; nothing where colours are not wanted. */
export interface Style {
  bold(text: string): string
  dim(text: string): string
  reverse(text: string): string
  warn(text: string): string
}

const sgr = (code: number) => (text: string) => `\u001b[${code}m${text}\u001b[0m`
export const ansi: Style = { bold: sgr(1), dim: sgr(2), reverse: sgr(7), warn: sgr(33) }
const asIs = (text: string) => text
export const plain: Style = { bold: asIs, dim: asIs, reverse: asIs, warn: asIs }

const MOST_LISTENERS = 5
const MOST_PLACES = 4

export function frame(now: Sample, before: Sample | undefined, view: View, size: Size, style: Style): Frame {
  const seconds = before === undefined ? 0 : (now.at - before.at) / 1_000
  const { columns } = size
  const lines: string[] = []
  const put = (text: string, dress: (text: string) => string = asIs) => lines.push(dress(fit(text, columns)))

  put(titleOf(now.status, view), style.bold)
  put(totalsOf(now.status, before?.status, seconds))
  put(alarmsOf(now.status), style.warn)
  for (const [i, row] of listenerRows(now.status, before?.status, seconds, columns).entries()) {
    const isOdd = i > 0 && now.status.listeners[i - 1]?.state !== 'listening'
    put(row, i === 0 ? style.dim : isOdd ? style.warn : asIs)
  }
  const places = placeRows(now.status, columns)
  if (places.length > 0) {
    put('')
    places.forEach((row, i) => put(row, i === 0 ? style.dim : asIs))
  }
  put('')
  const height = Math.max(1, size.rows - lines.length - 2)
  const rows = now.page.connections
  const old = new Map(before?.page.connections.map((one) => [one.id, one]))
  const picked = chosen(view, rows)
  const shown = rows.slice(view.offset, view.offset + height)
  const list = connectionRows(shown, old, seconds, view, columns)
  put(list[0] as string, style.reverse)
  shown.forEach((one, i) => {
    const mark = one.id === picked?.id ? '>' : ' '
    const text = `${mark}${list[i + 1]}`
    lines.push(one.id === picked?.id ? style.bold(fit(text, columns)) : fit(text, columns))
  })
  while (lines.length < size.rows - 1 && Number.isFinite(size.rows)) lines.push('')
  put(footerOf(view, now, picked), style.dim)
  return { lines, height }
}

function titleOf(status: Status, view: View): string {
  const { version, pid, state, uptimeMs, workers = [] } = status
  const paused = view.isPaused ? '  PAUSED' : ''
  const many = workers.length > 0 ? `, ${workers.length} workers` : ''
  return `gaidaros ${version}  process ${pid}${many}  ${state}  up ${duration(uptimeMs)}${paused}`
}

function totalsOf(status: Status, before: Status | undefined, seconds: number): string {
  const sum = (of: Status | undefined, key: keyof ListenerStatus['traffic']) =>
    of?.listeners.reduce((total, { traffic }) => total + traffic[key], 0) ?? 0
  const per = (key: keyof ListenerStatus['traffic']) =>
    seconds === 0 ? 0 : Math.max(0, sum(status, key) - sum(before, key)) / seconds
  const { connections, memory, loop } = status
  const latest = addBuckets(status.listeners.map((one) => recent(one, before)))
  const [p50, p99] = [quantile(latest, 0.5), quantile(latest, 0.99)]
  return (
    `${connections} conn  in ${rate(per('messagesIn'))}/s ${bytes(per('bytesIn'))}/s  ` +
    `out ${rate(per('messagesOut'))}/s ${bytes(per('bytesOut'))}/s  ` +
    `p50 ${latency(p50)} p99 ${latency(p99)}  ` +
    `${loop === undefined ? '' : `loop ${latency(loop.p99Ms)}  `}${bytes(memory.residentBytes)}`
  )
}

function alarmsOf({ alarms }: Status): string {
  if (alarms.length === 0) return ''
  const said = alarms.map(
    ({ alarm, listener = '', worker, value, limit }) =>
      `${worker === undefined ? '' : `${worker}/`}${alarm} ${listener} ${value}/${limit}`,
  )
  return printable(`alarms: ${said.join(', ').replace(/ +/g, ' ')}`)
}

/** Since the answer before. */
function recent(listener: ListenerStatus, before: Status | undefined): Buckets {
  const old = before?.listeners.find(({ name }) => name === listener.name)
  return sinceBuckets(listener.latency ?? [], old?.latency ?? [])
}

function listenerRows(status: Status, before: Status | undefined, seconds: number, columns: number): string[] {
  const cells = status.listeners.slice(0, MOST_LISTENERS).map((listener) => {
    const old = before?.listeners.find(({ name }) => name === listener.name)
    const per = (key: keyof ListenerStatus['traffic']) =>
      seconds === 0 ? 0 : Math.max(0, listener.traffic[key] - (old?.traffic[key] ?? 0)) / seconds
    const latest = recent(listener, before)
    const { name, state, connections, handshaking, limit, endpoints } = listener
    return [
      name,
      state,
      `${connections}${handshaking > 0 ? `+${handshaking}` : ''}/${limit === 'unlimited' ? '-' : limit}`,
      rate(per('messagesIn')),
      bytes(per('bytesIn')),
      bytes(per('bytesOut')),
      latency(quantile(latest, 0.5)),
      latency(quantile(latest, 0.99)),
      endpoints.join(' '),
    ]
  })
  const rows = aligned([['LISTENER', 'STATE', 'CONN', 'MSG/S', 'IN/S', 'OUT/S', 'P50', 'P99', 'ENDPOINT'], ...cells], {
    right: [2, 3, 4, 5, 6, 7],
    most: [Math.max(8, columns - 70), 9],
  })
  const more = status.listeners.length - MOST_LISTENERS
  return more > 0 ? [...rows, `and ${more} more`] : rows
}

function placeRows(status: Status, _columns: number): string[] {
  const cells = status.executors.flatMap(({ name, running, queued, places }) =>
    places.length === 0
      ? [[name, '', String(running), String(queued), '', '', '']]
      : places.map((place) => [
          name,
          place.name,
          String(place.running),
          String(queued),
          String(place.connections),
          String(place.handled),
          place.memoryBytes > 0 ? bytes(place.memoryBytes) : '-',
        ]),
  )
  if (cells.length === 0) return []
  const head = ['EXECUTOR', 'PLACE', 'RUNNING', 'QUEUED', 'CONN', 'HANDLED', 'MEMORY']
  const rows = aligned([head, ...cells.slice(0, MOST_PLACES)], { right: [2, 3, 4, 5, 6], most: [16, 20] })
  const more = cells.length - MOST_PLACES
  return more > 0 ? [...rows, `and ${more} more`] : rows
}

const heads: readonly (readonly [title: string, sort: string])[] = [
  ['ID', 'id'],
  ['LISTENER', 'listener'],
  ['PEER', 'remote'],
  ['STATE', 'state'],
  ['AGE', 'ageMs'],
  ['IDLE', 'idleMs'],
  ['MSG', 'messagesIn'],
  ['IN/S', ''],
  ['OUT/S', ''],
  ['IN', 'bytesIn'],
  ['OUT', 'bytesOut'],
  ['UNSENT', 'unsentBytes'],
  ['BUSY', 'inFlight'],
]

function connectionRows(
  rows: readonly ConnectionFacts[],
  old: ReadonlyMap<string, ConnectionFacts>,
  seconds: number,
  view: View,
  columns: number,
): string[] {
  const mark = view.isReversed ? '▲' : '▼'
  const head = heads.map(([title, sort]) => (sort === view.sort ? `${title}${mark}` : title))
  const cells = rows.map((one) => {
    const before = old.get(one.id)
    const per = (key: 'bytesIn' | 'bytesOut') =>
      before === undefined || seconds === 0 ? '-' : bytes(Math.max(0, one[key] - before[key]) / seconds)
    return [
      one.id,
      one.listener,
      one.remote.replace(/^\w+:\/\//, ''),
      one.isPaused ? 'paused' : one.state,
      duration(one.ageMs),
      duration(one.idleMs),
      one.messagesIn < 10 ? String(one.messagesIn) : rate(one.messagesIn),
      per('bytesIn'),
      per('bytesOut'),
      bytes(one.bytesIn),
      bytes(one.bytesOut),
      one.unsentBytes > 0 ? bytes(one.unsentBytes) : '0',
      String(one.inFlight),
    ]
  })
  // A narrow terminal loses what matters least.
  const least = [12, 10, 9, 5, 8]
  const sorted = heads.findIndex(([, sort]) => sort === view.sort)
  const many = columns >= 120 ? 0 : columns >= 100 ? 1 : 4
  const dropped = least.filter((i) => i !== sorted).slice(0, many)
  const keep = (row: readonly string[]) => row.filter((_, i) => !dropped.includes(i))
  const numbers = heads.map((_, i) => i).filter((i) => i >= 4 && !dropped.includes(i))
  const right = numbers.map((i) => i - dropped.filter((one) => one < i).length)
  const lines = aligned([keep(head), ...cells.map(keep)], { right, most: [10, 10, 28, 8] })
  return [` ${lines[0]}`, ...lines.slice(1)]
}

function footerOf(view: View, { page }: Sample, picked: ConnectionFacts | undefined): string {
  const { prompt } = view
  if (prompt?.for === 'reason')
    return `kill ${picked?.id ?? ''} (${picked?.remote ?? ''}), reason: ${prompt.text}_   Enter kills, Esc does not`
  if (prompt?.for === 'filter') return `filter: ${prompt.text}_   words, or idleMs>60000; Enter, Esc`
  if (view.note !== '') return view.note
  const some = view.filter === '' ? `${page.matched}` : `${page.matched} of ${page.total} (${view.filter})`
  return `${some} conn  q quit  p pause  s sort  r reverse  / filter  ↑↓  k kill  z suspend`
}

/** Columns of equal width. @param most - Widths not to be exceeded, by column. */
function aligned(
  rows: readonly (readonly string[])[],
  { right, most }: { readonly right: readonly number[]; readonly most: readonly number[] },
): string[] {
  const clean = rows.map((row) => row.map((cell, i) => fit(printable(cell), most[i] ?? 200).trimEnd()))
  const widths = clean[0]?.map((_, i) => Math.max(...clean.map((row) => row[i]?.length ?? 0))) ?? []
  return clean.map((row) =>
    row
      .map((cell, i) => (right.includes(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join(' ')
      .trimEnd(),
  )
}

/** Cut to a width, its end marked. */
function fit(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`
}
