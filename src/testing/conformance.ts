/**
 * What both conformance kits share: cases with stable ids, skips with reasons, and a report a machine can read.
 *
 * Room: testing. Works with any runner that has `test(name, body)`: uvu, node:test, vitest, mocha.
 */
import { appendFileSync, readFileSync } from 'node:fs'
import { toError } from '../core/errors.js'
import type { Capabilities } from '../core/transport.js'

/** The runner's functions, handed in so that the kit depends on none. */
export interface ConformanceRunner {
  /** Registers a test. Where it has a `skip` of its own, skipped cases are registered with that, and so counted. */
  readonly test: ((name: string, body: () => Promise<void>) => unknown) & {
    readonly skip?: (name: string, body: () => void) => unknown
  }
  readonly before?: ((body: () => void) => unknown) | undefined
  /** Runs after the last case; there the report is written. Without it the last case writes it. */
  readonly after?: ((body: () => void) => unknown) | undefined
  /** Where skips and undeclared capabilities are told. Default: `console.log`. */
  readonly print?: (line: string) => void
}

/** Cases left out on purpose. */
export interface ConformanceSkip {
  /** What a user loses by it, in a sentence. */
  readonly reason: string
  /** Ids; one that does not exist is a failure. */
  readonly cases: readonly string[]
}

export interface CaseResult {
  readonly id: string
  result: 'passed' | 'failed' | 'skipped'
  /** Why it failed or was skipped. */
  reason?: string
}

/** One subject's results. */
export interface ConformanceReport {
  readonly kind: 'transport' | 'codec'
  readonly name: string
  /** The subject's own version, where it gave one; else that of Gaidaros. */
  readonly version: string
  readonly cases: CaseResult[]
  /** As declared; transports only. */
  capabilities: Capabilities | undefined
  /** Capabilities that were not declared and whose cases all passed. */
  undeclared: string[]
}

/** The reports of this process, in the order of registering. */
export const conformanceReports: ConformanceReport[] = []

/** One promise, as a case. */
export interface ConformanceCase<Subject> {
  /** Stable, kebab-case: skips and reports name it. */
  readonly id: string
  /** What it proves, as a sentence. */
  readonly proves: string
  /** A declared capability it belongs to: undeclared, it is tried all the same, and only its success is told. */
  readonly capability?: { readonly name: string; isDeclared(subject: Subject): boolean } | undefined
  /** Why it means nothing for this subject; undefined when it applies. */
  readonly without?: ((subject: Subject) => string | undefined) | undefined
  /** @returns the reason, where only running it shows that it does not apply. */
  run(subject: Subject, isDeclared: boolean): Promise<string | void> | string | void
}

export interface ConformanceRun<Subject> {
  readonly kind: ConformanceReport['kind']
  readonly name: string
  readonly version: string | undefined
  readonly capabilities: Capabilities | undefined
  readonly cases: readonly ConformanceCase<Subject>[]
  readonly skip: readonly ConformanceSkip[] | undefined
}

/** Checks the skips against the cases; its id stands first in every report. */
const SKIPS_CASE = 'skips-name-known-cases'

/** Registers one test a case. Both kits call it; users call the kits. */
export function registerConformance<Subject>(
  run: ConformanceRun<Subject>,
  subject: Subject,
  runner: ConformanceRunner,
): ConformanceReport {
  const print = runner.print ?? ((line: string) => console.log(line))
  const title = `${run.kind} ${run.name}`
  const report: ConformanceReport = {
    kind: run.kind,
    name: run.name,
    version: run.version ?? versionOfGaidaros(),
    cases: [],
    capabilities: run.capabilities,
    undeclared: [],
  }
  conformanceReports.push(report)

  const bodies: { name: string; entry: CaseResult; body: (() => Promise<void>) | undefined }[] = []
  const add = (
    id: string,
    proves: string,
    body: ((entry: CaseResult) => Promise<void>) | undefined,
    reason?: string,
  ) => {
    // What never runs, because the process ended before, must not look passed.
    const entry: CaseResult = { id, result: body === undefined ? 'skipped' : 'failed', reason: reason ?? 'did not run' }
    report.cases.push(entry)
    bodies.push({ name: `${title}: ${id}: ${proves}`, entry, body: body && (() => body(entry)) })
  }

  add(SKIPS_CASE, 'skips name cases that exist, once, with a reason', async (entry) => {
    const problem = misfitOfSkips(run)
    if (problem === undefined) return pass(entry)
    entry.reason = problem
    throw new Error(`${title}: ${problem}`)
  })
  const reasons = new Map<string, string>()
  for (const { reason, cases } of run.skip ?? []) for (const id of cases) reasons.set(id, reason)

  const undeclared = new Map<string, boolean>()
  for (const each of run.cases) {
    const reason = reasons.get(each.id) ?? each.without?.(subject)
    if (reason !== undefined) {
      add(each.id, each.proves, undefined, reason)
      continue
    }
    const isDeclared = each.capability === undefined || each.capability.isDeclared(subject)
    add(each.id, each.proves, async (entry) => {
      try {
        const because = await each.run(subject, isDeclared)
        if (typeof because !== 'string') pass(entry)
        else skip(entry, because)
      } catch (error) {
        if (isDeclared) {
          entry.reason = toError(error).message
          throw error
        }
        skip(entry, `not declared: ${each.capability?.name}`)
      }
      if (each.capability === undefined || isDeclared) return
      const works = entry.result === 'passed'
      undeclared.set(each.capability.name, works && (undeclared.get(each.capability.name) ?? true))
    })
  }

  const skip = (entry: CaseResult, reason: string) => {
    entry.result = 'skipped'
    entry.reason = reason
    print(`# ${title}: skipped ${entry.id}: ${reason}`)
  }
  const finish = () => {
    report.undeclared = [...undeclared].filter(([, works]) => works).map(([name]) => name)
    for (const name of report.undeclared) print(`# ${title}: works though undeclared: ${name}`)
    const file = process.env.GAIDAROS_CONFORMANCE_REPORT
    if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify(report)}\n`)
  }

  const last = bodies.findLast(({ body }) => body !== undefined)
  for (const each of bodies) {
    const { name, entry, body } = each
    if (body === undefined) {
      skip(entry, entry.reason as string)
      runner.test.skip?.(name, () => {})
    } else if (runner.after !== undefined || each !== last) {
      runner.test(name, body)
    } else {
      runner.test(name, () => body().finally(finish))
    }
  }
  runner.after?.(finish)
  return report
}

function pass(entry: CaseResult): void {
  entry.result = 'passed'
  delete entry.reason
}

function misfitOfSkips<Subject>({ cases, skip }: ConformanceRun<Subject>): string | undefined {
  const known = new Set(cases.map(({ id }) => id))
  const seen = new Set<string>()
  for (const { reason, cases: ids } of skip ?? []) {
    if (reason.trim() === '') return `skip of ${ids.join(', ')}: expected a reason, got none`
    for (const id of ids) {
      if (!known.has(id)) return `skip names the case \`${id}\`, which does not exist; known: ${[...known].join(', ')}`
      if (seen.has(id)) return `skip names the case \`${id}\` twice`
      seen.add(id)
    }
  }
  return undefined
}

function versionOfGaidaros(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version
}
