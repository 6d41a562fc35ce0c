/**
 * What would silently be several: instances of handlers under several server processes or runners.
 *
 * Room: the command line.
 */
import { settleWorkers } from '../../core/workers/options.js'
import { type Facts, type Finding, findingsOf } from './finding.js'

export function sharedState({ configuration, listeners }: Facts): Finding[] {
  const { note } = findingsOf('shared-state')
  const processes = settleWorkers(configuration?.values.workers)?.count ?? 1
  return listeners.flatMap(({ name, handler, executors }) => {
    const { definition } = handler
    const isOneForAll = definition.target !== undefined && (definition.options.scope ?? 'server') === 'server'
    const runners = Math.max(1, ...executors.map(({ runners: count = 1 }) => count))
    if (!isOneForAll || (processes === 1 && runners === 1)) return []
    const several =
      processes > 1
        ? `${processes} server processes (workers)`
        : `${runners === Number.POSITIVE_INFINITY ? 'the runners' : `${runners} runners`} of executor ${executors.map((one) => one.name).join(', ')}`
    return note(
      `listeners.${name}`,
      `handler ${definition.name} has scope \`server\`: each of ${several} has an instance of its own`,
      'what it keeps (connections to send to, counts, caches) is that of one instance, and peers of another do not see it',
      'keep shared things in a store outside, or set workers to 1',
    )
  })
}
