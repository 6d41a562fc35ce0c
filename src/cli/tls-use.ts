/**
 * What becomes of a listener's `tls` key: an endpoint that begins in plain text has it for a later switch, or for nothing.
 *
 * Room: the command line.
 */
import type { Binding, ListenerPlan } from '../core/plan.js'

/**
 * `start`: every connection begins with a handshake (or may, by an optional layer); `upgrade`: in plain text, until a handler or
 * protocol calls `connection.upgrade('tls')`; `nothing`: nobody can switch there.
 */
export type TlsUse = 'start' | 'upgrade' | 'nothing'

/** Undefined where there is no `tls`. */
export function tlsUseOf({ endpoint, options, layers, capabilities }: Binding): TlsUse | undefined {
  if (options.tls === undefined) return undefined
  if (endpoint.scheme === 'tls' || endpoint.scheme === 'wss' || layers.some(({ name }) => name === 'tls'))
    return 'start'
  return capabilities.upgrade.includes('tls') ? 'upgrade' : 'nothing'
}

/** Endpoints that begin in plain text though their listener has `tls`. */
export function plainWithTls({ bindings }: ListenerPlan): { endpoint: string; use: Exclude<TlsUse, 'start'> }[] {
  return bindings.flatMap((binding) => {
    const use = tlsUseOf(binding)
    return use === undefined || use === 'start' ? [] : [{ endpoint: String(binding.endpoint), use }]
  })
}
