/**
 * What `top` shows and what a key does to it: pure, so that it can be tested without a terminal.
 *
 * Room: the command line.
 */
import type { ConnectionFacts, ConnectionPage, Status } from '../../core/control.js'

/** One answer of the server. */
export interface Sample {
  /** Milliseconds of our clock. */
  readonly at: number
  readonly status: Status
  readonly page: ConnectionPage
}

export const sorts = [
  'ageMs',
  'idleMs',
  'bytesIn',
  'bytesOut',
  'messagesIn',
  'unsentBytes',
  'inFlight',
  'remote',
] as const

export interface View {
  readonly sort: string
  readonly isReversed: boolean
  readonly filter: string
  readonly isPaused: boolean
  /** The row chosen, by its connection; undefined: the first. */
  readonly selected: string | undefined
  /** First row shown. */
  readonly offset: number
  /** What is typed, and for what. */
  readonly prompt: { readonly for: 'reason' | 'filter'; readonly text: string } | undefined
  readonly note: string
}

export const firstView: View = {
  sort: 'ageMs',
  isReversed: false,
  filter: '',
  isPaused: false,
  selected: undefined,
  offset: 0,
  prompt: undefined,
  note: '',
}

/** What is to be done besides showing another view. */
export type Deed =
  | { readonly do: 'quit' }
  | { readonly do: 'kill'; readonly connection: string; readonly reason: string }
  /** Suspends it, or resumes it. */
  | { readonly do: 'toggle'; readonly listener: string }
  /** The question has changed. */
  | { readonly do: 'ask' }

export interface Step {
  readonly view: View
  readonly deed?: Deed
}

/** @param rows - Those on the screen's page; @param height - how many rows it has. */
export function press(key: string, view: View, rows: readonly ConnectionFacts[], height: number): Step {
  if (key === 'ctrl-c') return { view, deed: { do: 'quit' } }
  if (view.prompt !== undefined) return type(key, view, view.prompt, rows)
  const calm: View = { ...view, note: '' }
  switch (key) {
    case 'q':
      return { view: calm, deed: { do: 'quit' } }
    case 'p':
    case ' ':
      return { view: { ...calm, isPaused: !view.isPaused } }
    case 's': {
      const next = sorts[(sorts.indexOf(view.sort as (typeof sorts)[number]) + 1) % sorts.length] as string
      return { view: { ...calm, sort: next, offset: 0, selected: undefined }, deed: { do: 'ask' } }
    }
    case 'r':
      return { view: { ...calm, isReversed: !view.isReversed, offset: 0, selected: undefined }, deed: { do: 'ask' } }
    case '/':
    case 'f':
      return { view: { ...calm, prompt: { for: 'filter', text: view.filter } } }
    case 'k':
      return rows.length === 0 ? { view: calm } : { view: { ...calm, prompt: { for: 'reason', text: '' } } }
    case 'z': {
      const row = chosen(calm, rows)
      return row === undefined ? { view: calm } : { view: calm, deed: { do: 'toggle', listener: row.listener } }
    }
    case 'up':
      return { view: move(calm, rows, -1, height) }
    case 'down':
      return { view: move(calm, rows, 1, height) }
    case 'page-up':
      return { view: move(calm, rows, -height, height) }
    case 'page-down':
      return { view: move(calm, rows, height, height) }
    case 'home':
      return { view: { ...calm, selected: undefined, offset: 0 } }
    default:
      return { view: calm }
  }
}

function type(key: string, view: View, prompt: NonNullable<View['prompt']>, rows: readonly ConnectionFacts[]): Step {
  if (key === 'escape') return { view: { ...view, prompt: undefined } }
  if (key === 'backspace') return { view: { ...view, prompt: { ...prompt, text: prompt.text.slice(0, -1) } } }
  if (key !== 'enter') {
    if (key.length !== 1 || prompt.text.length >= 100) return { view }
    return { view: { ...view, prompt: { ...prompt, text: prompt.text + key } } }
  }
  const calm: View = { ...view, prompt: undefined, note: '' }
  if (prompt.for === 'filter') {
    return { view: { ...calm, filter: prompt.text, offset: 0, selected: undefined }, deed: { do: 'ask' } }
  }
  const row = chosen(view, rows)
  return row === undefined
    ? { view: calm }
    : { view: calm, deed: { do: 'kill', connection: row.id, reason: prompt.text } }
}

/** The row that keys are meant for. */
export function chosen(view: View, rows: readonly ConnectionFacts[]): ConnectionFacts | undefined {
  return rows.find(({ id }) => id === view.selected) ?? rows[0]
}

function move(view: View, rows: readonly ConnectionFacts[], by: number, height: number): View {
  const row = chosen(view, rows)
  const at = row === undefined ? 0 : rows.indexOf(row)
  const next = Math.max(0, Math.min(rows.length - 1, at + by))
  const offset = next < view.offset ? next : next >= view.offset + height ? next - height + 1 : view.offset
  return { ...view, selected: rows[next]?.id, offset: Math.max(0, offset) }
}

const named: Readonly<Record<string, string>> = {
  '\u0003': 'ctrl-c',
  '\r': 'enter',
  '\n': 'enter',
  '\u007f': 'backspace',
  '\b': 'backspace',
  '\u001b': 'escape',
  '\u001b[A': 'up',
  '\u001b[B': 'down',
  '\u001bOA': 'up',
  '\u001bOB': 'down',
  '\u001b[5~': 'page-up',
  '\u001b[6~': 'page-down',
  '\u001b[H': 'home',
  '\u001b[1~': 'home',
}

/** What a terminal sent as keys; sequences nobody knows are dropped. */
export function keysOf(input: string): string[] {
  const found = input.match(/\u001b\[[\d;]*[A-Za-z~]|\u001bO[A-Z]|[\s\S]/gu) ?? []
  return found.flatMap((one) => {
    const name = named[one]
    if (name !== undefined) return [name]
    return one >= ' ' && [...one].length === 1 ? [one] : []
  })
}
