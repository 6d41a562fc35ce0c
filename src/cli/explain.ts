/**
 * `explain`: each listener from its endpoint to its executor, and why.
 *
 * Room: the command line.
 */
import type { ListenerHandle } from '../core/lifecycle.js'
import { defaultLimits, defaultTimeouts } from '../core/options.js'
import type { PlacedMiddleware } from '../core/pipeline.js'
import { settleWorkers } from '../core/workers/options.js'
import { openServer, readConfiguration } from '../gaidaros.js'
import type { Arguments } from './arguments.js'
import { originName } from './inspect.js'
import { optionsOf } from './serve-options.js'
import { plainWithTls } from './tls-use.js'

/** As wide as a line gets; a reason that does not fit stands on a line of its own. */
const COLUMNS = 100

export async function explain(given: Arguments): Promise<number> {
  const options = optionsOf(given)
  const server = await openServer(await readConfiguration(options), options, { place: 'command' })
  const processes = settleWorkers(server.configuration.values.workers)?.count ?? 1
  const all = [...server.listeners].map((listener) => factsOf(listener, processes))
  if (given.flags.json) process.stdout.write(`${JSON.stringify(all, null, 2)}\n`)
  else process.stdout.write(`${all.map(render).join('\n\n')}\n`)
  return 0
}

type Facts = ReturnType<typeof factsOf>

function factsOf({ name, plan }: ListenerHandle, processes: number) {
  const { chosen, bindings, handler, limits, timeouts, order } = plan
  const { definition } = handler
  const steps = (placed: readonly PlacedMiddleware[]) => placed.map(({ level, set }) => ({ name: set.name, level }))
  return {
    listener: name,
    endpoints: bindings.map(({ endpoint, transport, capabilities }) => {
      return { endpoint: String(endpoint), transport: transport.name, ...capabilities }
    }),
    layers: bindings[0]?.layers.map(({ name }) => name) ?? [],
    plainWithTls: plainWithTls(plan),
    candidates: chosen.candidates.map(({ codec, handler }, i) => {
      const { protocol } = plan.candidates?.[i] ?? {}
      return { protocol: codec, handler, alpn: protocol?.alpn ?? [], takesTheRest: protocol === undefined }
    }),
    detection:
      chosen.candidates.length === 0
        ? undefined
        : { bytes: limits.detectBytes, ms: timeouts.detectMs, otherwise: otherwiseOf(plan) },
    codec: chosen.codec,
    middleware: steps(chosen.middleware),
    methods: definition.messages.map(({ route, method }) => ({
      route: route ?? '(the rest)',
      method: typeof method === 'function' ? method.name || 'function' : String(method),
      middleware: steps(chosen.methods.get(route) ?? []),
    })),
    handler: definition.name,
    scope: definition.target === undefined ? 'function' : (definition.options.scope ?? 'server'),
    order,
    processes,
    executor: chosen.executor,
    hooks: Object.keys(definition.hooks),
    changed: { ...differing(limits, defaultLimits, 'limits'), ...differing(timeouts, defaultTimeouts, 'timeouts') },
    reasons: chosen.reasons,
  }
}

/** What becomes of a peer that speaks none of them. */
function otherwiseOf({ candidates }: ListenerHandle['plan']): string {
  const rest = candidates?.find(({ protocol }) => protocol === undefined)
  return rest === undefined ? 'closed as UNDETECTED' : rest.name
}

function render(facts: Facts): string {
  const { reasons } = facts
  const lines: [string, string, string][] = []
  for (const { endpoint, transport, kind, ordered, reliable, maxMessageBytes } of facts.endpoints) {
    const traits = [
      kind,
      ordered ? 'ordered' : 'unordered',
      reliable ? 'reliable' : 'unreliable',
      maxMessageBytes && `at most ${maxMessageBytes} bytes`,
    ]
    lines.push([
      'endpoint',
      `${endpoint} by ${transport}: ${traits.filter(Boolean).join(', ')}`,
      reasons.endpoint ?? '',
    ])
  }
  lines.push(['layers', facts.layers.join(' → ') || 'none', reasons.layers ?? ''])
  for (const { endpoint, use } of facts.plainWithTls) {
    const what = use === 'upgrade' ? "for connection.upgrade('tls') alone (STARTTLS)" : 'used for nothing'
    lines.push(['tls', `${endpoint} begins in plain text; tls is ${what}`, ''])
  }
  for (const { protocol, handler, alpn, takesTheRest } of facts.candidates) {
    const how = takesTheRest
      ? ', what nobody else has claimed'
      : alpn.length > 0
        ? `, or by ALPN ${alpn.join(', ')}`
        : ''
    lines.push(['detects', `${protocol} → ${handler}${how}`, ''])
  }
  if (facts.detection !== undefined) {
    const { bytes, ms, otherwise } = facts.detection
    const within = ms === Number.POSITIVE_INFINITY ? 'without a deadline' : `within ${ms} ms`
    lines.push(['', `  in order, by the first ${bytes} bytes, ${within}; else ${otherwise}`, ''])
  }
  lines.push(['codec', facts.codec, reasons.codec ?? ''])
  lines.push([
    'middleware',
    facts.middleware.map(({ name, level }) => `${name} (${level})`).join(' → ') || 'none',
    reasons.middleware ?? '',
  ])
  lines.push([
    'handler',
    `${facts.handler}, ${facts.scope === 'connection' ? 'one a connection' : facts.scope === 'server' ? oneForAll(facts.processes) : 'functions'}, ${facts.order}`,
    reasons.handler ?? '',
  ])
  for (const { route, method, middleware } of facts.methods) {
    const steps = middleware.map(({ name }) => `${name} → `).join('')
    lines.push(['', `  ${route}: ${steps}${method}`, ''])
  }
  if (facts.hooks.length > 0) lines.push(['', `  hooks: ${facts.hooks.join(', ')}`, ''])
  lines.push(['executor', facts.executor, reasons.executor ?? ''])
  for (const [path, value] of Object.entries(facts.changed)) lines.push(['changed', `${path} = ${value}`, ''])
  return [
    `listener ${facts.listener}`,
    ...lines.map(([left, middle, why]) => line(`  ${left.padEnd(11)} ${middle}`, why)),
  ].join('\n')
}

/** Under several server processes one for all is one for each of them. */
function oneForAll(processes: number): string {
  return processes === 1 ? 'one for all' : `one in each of ${processes} server processes`
}

function line(left: string, why: string): string {
  if (why === '') return left
  const reason = `[${originName(why)}]`
  if (left.length + 3 + reason.length <= COLUMNS) return `${left}   ${reason}`
  return `${left}\n${' '.repeat(14)}${reason}`
}

function differing<T extends object>(given: T, standard: T, group: string): Record<string, unknown> {
  const changed = Object.entries(given).filter(([key, value]) => value !== standard[key as keyof T])
  return Object.fromEntries(
    changed.map(([key, value]) => [`${group}.${key}`, value === Number.POSITIVE_INFINITY ? 'unlimited' : value]),
  )
}
