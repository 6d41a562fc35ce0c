/**
 * What is needed again once root was given up: whether `daemon.user` may read it.
 *
 * Room: the command line.
 */
import { tlsFiles } from '../../core/workers/materials.js'
import { settleWorkers } from '../../core/workers/options.js'
import { type Facts, type Finding, findingsOf } from './finding.js'

const { ok, note, warning, error } = findingsOf('privileges')

export function givenUp({ configuration, isRoot, user, keptFromUser }: Facts): Finding[] {
  if (configuration === undefined || user === undefined) return []
  const { values, file } = configuration
  if (!isRoot) {
    const found = `whether ${user} may read what the server reads again is seen by root alone`
    return [note('daemon.user', found, '', 'ask doctor as who starts the server')]
  }
  const isSupervised = settleWorkers(values.workers) !== undefined
  const findings: Finding[] = []
  const secrets = keptFromUser(tlsFiles(values))
  if (secrets.length > 0) {
    const found = `${user} cannot read ${secrets.join(', ')}`
    const why =
      'a renewed certificate is not read: reloads and upgrades are refused, and the old one is shown to its end'
    const remedy = `let ${user} read them (chgrp, chmod 640), or start again after each renewal`
    findings.push(warning('daemon.user', found, why, remedy))
  }
  const code = keptFromUser([...(file === undefined ? [] : [file]), ...handlersOf(values)])
  if (code.length > 0) {
    const found = `${user} cannot read ${code.join(', ')}`
    const why = isSupervised ? 'no worker could be replaced: the server does not start' : 'reloads are refused'
    const remedy = `let ${user} read them, and the folders they are in`
    findings.push((isSupervised ? error : warning)('daemon.user', found, why, remedy))
  }
  return findings.length > 0 ? findings : [ok(`${user} may read what is read again`, 'daemon.user')]
}

function handlersOf({ handler, listeners = {} }: { handler?: unknown; listeners?: object }): string[] {
  const all = [handler, ...Object.values(listeners).map((one: { handler?: unknown } | undefined) => one?.handler)]
  return all.flatMap((one) => (typeof one === 'string' ? [one.split('#')[0] as string] : []))
}
