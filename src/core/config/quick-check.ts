/**
 * Tells at a glance that a configuration given in code is in order, so that a program that reads no file pays for no schema
 * library (zod takes 50 ms and 3 MB).
 *
 * Room: core, configuration. Careful in one direction only: what it accepts the schema accepts (a test holds one against
 * the other); whatever it is not sure of goes to the schema, which says what is wrong.
 */
import { Script } from 'node:vm'
import { drainRows, limitRows, type OptionRow, serverLimitRows, timeoutRows } from '../options.js'
import { type Branch, isBranch } from './tree.js'

type Test = (value: unknown) => boolean

const isText: Test = (value) => typeof value === 'string'
const isEndpoint: Test = (value) => typeof value === 'string' || value instanceof String
const isThing: Test = (value) => (typeof value === 'string' && value !== '') || typeof value === 'function'
const isHandler: Test = (value) =>
  isThing(value) || value instanceof Script || (value as { kind?: unknown } | null)?.kind === 'gaidaros.handler'
const isCount: Test = (value) => Number.isSafeInteger(value) && (value as number) >= 0
const isCodec: Test = (value) => {
  if (typeof value !== 'object' || value === null) return isThing(value)
  return (
    typeof (value as { name?: unknown }).name === 'string' ||
    typeof (value as { encode?: unknown }).encode === 'function'
  )
}
const listOf =
  (test: Test): Test =>
  (value) =>
    Array.isArray(value) && value.every(test)
const isStep: Test = (value) => {
  if (typeof value !== 'object' || value === null) return isThing(value)
  const { name, connection, message } = value as { name?: unknown; connection?: unknown; message?: unknown }
  return typeof name === 'string' || typeof connection === 'function' || typeof message === 'function'
}

const rowTest = ({ unit, choices, unlimited }: OptionRow): Test => {
  if (unit === 'choice') return (value) => choices?.includes(value as string) ?? false
  return (value) =>
    isCount(value) || (unlimited === true && (value === 'unlimited' || value === Number.POSITIVE_INFINITY))
}
const branchOf =
  (tests: Readonly<Record<string, Test>>): Test =>
  (value) =>
    isBranch(value) && Object.entries(value).every(([key, one]) => one === undefined || (tests[key]?.(one) ?? false))
const rowsOf = (rows: object): Test =>
  branchOf(Object.fromEntries(Object.entries(rows).map(([key, row]) => [key, rowTest(row as OptionRow)])))

const isEndpoints: Test = (value) => isEndpoint(value) || (listOf(isEndpoint)(value) && (value as unknown[]).length > 0)
const isMaterial: Test = (value) => typeof value === 'string' || value instanceof Uint8Array
const isSwitch: Test = (value) => typeof value === 'boolean'

const shared: Readonly<Record<string, Test>> = {
  handler: isHandler,
  codec: isCodec,
  middleware: listOf(isStep),
  socket: (value) => isBranch(value),
  limits: rowsOf(limitRows),
  timeouts: rowsOf(timeoutRows),
  executor: isThing,
  tls: branchOf({
    cert: isMaterial,
    key: isMaterial,
    ca: isMaterial,
    pfx: isMaterial,
    passphrase: isText,
    requestCert: isSwitch,
    rejectUnauthorized: isSwitch,
    alpn: listOf(isText),
  }),
}

const isListener = branchOf({ ...shared, endpoint: isEndpoints })

const top: Readonly<Record<string, Test>> = {
  ...shared,
  limits: rowsOf({ ...limitRows, ...serverLimitRows }),
  listen: isEndpoints,
  listeners: (value) =>
    isBranch(value) && Object.values(value).every((one) => isListener(one) && (one as Branch).endpoint !== undefined),
  drain: rowsOf(drainRows),
}

/** True when there is nothing to be said against it. */
export function isPlainlyRight(settings: Branch): boolean {
  return branchOf(top)(settings)
}
