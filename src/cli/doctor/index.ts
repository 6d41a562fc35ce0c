/**
 * `doctor`: looks at configuration and machine, binds nothing, and says what to do; `serve --strict` asks it first.
 *
 * Room: the command line.
 */
import { loadConfiguration } from '../../core/config/index.js'
import { ConfigError, toError } from '../../core/errors.js'
import { printable } from '../../core/printable.js'
import { type ConfiguredServer, openServer, readConfiguration } from '../../gaidaros.js'
import type { Arguments } from '../arguments.js'
import { optionsOf } from '../serve-options.js'
import { certificates } from './certificates.js'
import { clusterLogin, operators, plaintext, proxyTrust, unixSockets, unlimited } from './exposure.js'
import { factsOf } from './facts.js'
import { type Check, type Facts, type Finding, findingsOf, type Level } from './finding.js'
import { backlog, datagramBuffers, descriptors, nodeVersion, privileges, reusePort } from './machine.js'
import { loader, peerPackages } from './packages.js'
import { sharedState } from './state.js'
import { tlsUse } from './tls-use.js'

/** What can be said of a machine and of settings, whether or not a server can be made of them. */
const ofMachine: readonly Check[] = [nodeVersion, privileges, operators, clusterLogin, peerPackages]
const ofListeners: readonly Check[] = [
  descriptors,
  backlog,
  datagramBuffers,
  reusePort,
  certificates,
  tlsUse,
  proxyTrust,
  plaintext,
  unlimited,
  unixSockets,
  sharedState,
]

/** Names for `--accept`. */
export const checkNames = [
  'configuration',
  'node',
  'privileges',
  'descriptors',
  'backlog',
  'udp-buffer',
  'reuse-port',
  'certificate',
  'tls-use',
  'proxy-trust',
  'plaintext',
  'unlimited',
  'operators',
  'cluster',
  'unix-socket',
  'packages',
  'shared-state',
  'loader',
] as const

/** @returns 0, or 1 for an error (with `--strict` a warning too). */
export async function doctor(given: Arguments): Promise<number> {
  const accepted = acceptedBy(given)
  const findings = accept([...(await examine(given)), ...(await loader())], accepted)
  if (given.flags.json) process.stdout.write(`${JSON.stringify(findings, null, 2)}\n`)
  else process.stdout.write(textOf(findings))
  return findings.some(({ level }) => isBad(level, Boolean(given.flags.strict))) ? 1 : 0
}

/**
 * Before a strict start.
 *
 * @throws {ConfigError} with every warning and error.
 */
export async function insist(server: ConfiguredServer, given: Arguments): Promise<void> {
  const facts = factsOf(
    server.configuration,
    [...server.listeners].map(({ plan }) => plan),
  )
  const bad = accept(await run(facts), acceptedBy(given)).filter(({ level }) => isBad(level, true))
  if (bad.length === 0) return
  const lines = bad.map(
    ({ level, check, where, found, remedy }) => `${level}: ${at(where)}${found}; ${remedy} (${check})`,
  )
  throw new ConfigError('BAD_VALUE', `--strict does not start with this:\n${lines.join('\n')}`, { findings: bad })
}

async function examine(given: Arguments): Promise<Finding[]> {
  const { ok, note, error } = findingsOf('configuration')
  const options = optionsOf(given)
  try {
    const server = await openServer(await readConfiguration(options), options, { place: 'command' })
    const plans = [...server.listeners].map(({ plan }) => plan)
    const facts = factsOf(server.configuration, plans)
    const file = server.configuration.file ?? 'no configuration file'
    return [ok(`${plans.length} listener${plans.length === 1 ? '' : 's'} (${file})`), ...(await run(facts))]
  } catch (thrown) {
    const cause = toError(thrown)
    const broken = error('', cause.message, 'the server does not start', 'see the message; `gaidaros check` repeats it')
    // Its settings may still be readable, and the machine can be looked at all the same.
    const { config = true, flags = [], modulesFrom = [] } = options
    const configuration = await loadConfiguration({
      cwd: process.cwd(),
      config,
      env: process.env,
      flags,
      modulesFrom,
    }).catch(() => undefined)
    const unseen = note(
      '',
      'listeners were not looked at: they could not be made',
      '',
      'repair the above, then ask again',
    )
    return [broken, unseen, ...(await run(factsOf(configuration, []), ofMachine))]
  }
}

async function run(facts: Facts, checks: readonly Check[] = [...ofMachine, ...ofListeners]): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const check of checks) findings.push(...(await check(facts)))
  return findings
}

function acceptedBy({ flags }: Arguments): readonly string[] {
  const accepted = (flags.accept ?? []) as readonly string[]
  const unknown = accepted.find((name) => !checkNames.includes(name as (typeof checkNames)[number]))
  if (unknown !== undefined) {
    throw new ConfigError('BAD_USAGE', `--accept ${unknown}: expected one of ${checkNames.join(', ')}`)
  }
  return accepted
}

/** What the operator knows and lives with; errors are not to be lived with. */
function accept(findings: readonly Finding[], accepted: readonly string[]): Finding[] {
  return findings.map((one) =>
    one.level === 'warning' && accepted.includes(one.check) ? { ...one, level: 'note' } : one,
  )
}

function isBad(level: Level, isStrict: boolean): boolean {
  return level === 'error' || (isStrict && level === 'warning')
}

const ranks: readonly Level[] = ['error', 'warning', 'note', 'ok']

/** The worst first. */
function textOf(findings: readonly Finding[]): string {
  const sorted = [...findings].sort((a, b) => ranks.indexOf(a.level) - ranks.indexOf(b.level))
  const width = Math.max(...sorted.map(({ check }) => check.length))
  const lines = sorted.flatMap(({ level, check, where, found, why, remedy }) => {
    const margin = ' '.repeat(11 + width)
    const [first = '', ...more] = found.split('\n').map(printable)
    return [
      `${level.padEnd(7)}  ${check.padEnd(width)}  ${at(where)}${first}`,
      ...more.map((line) => `${margin}${line}`),
      ...(why === '' ? [] : [`${margin}why: ${printable(why)}`]),
      ...(remedy === '' ? [] : [`${margin}do:  ${printable(remedy)}`]),
    ]
  })
  const count = (level: Level) => findings.filter((one) => one.level === level).length
  const plural = (number: number, what: string) => `${number} ${what}${number === 1 ? '' : 's'}`
  const sum = `${plural(count('error'), 'error')}, ${plural(count('warning'), 'warning')}, ${plural(count('note'), 'note')}, ${count('ok')} ok`
  return `${lines.join('\n')}\n\n${sum}\n`
}

function at(where: string): string {
  return where === '' ? '' : `${printable(where)}: `
}
