/**
 * A `tls` key where no connection begins with TLS.
 *
 * Room: the command line.
 */
import { plainWithTls, tlsUseOf } from '../tls-use.js'
import { type Facts, type Finding, findingsOf } from './finding.js'

const { note, warning } = findingsOf('tls-use')

export function tlsUse({ configuration, listeners }: Facts): Finding[] {
  const isUsed = listeners.some(({ bindings }) => bindings.some((binding) => tlsUseOf(binding) === 'start'))
  return listeners.flatMap((listener) => {
    // At the top it is for those who use it.
    const isOwn = configuration?.origin(['listeners', listener.name, 'tls']) !== undefined
    if (!isOwn && isUsed) return []
    const where = `listeners.${listener.name}.tls`
    return plainWithTls(listener).map(({ endpoint, use }) => {
      const remedy = 'listen on tls:// (or wss://), add the layer `tls`, or take the key away'
      return use === 'nothing'
        ? warning(
            where,
            `${endpoint} is plain text; its tls is used for nothing`,
            'nobody can switch to TLS there',
            remedy,
          )
        : note(
            where,
            `${endpoint} begins in plain text; its tls is used by connection.upgrade('tls') alone (STARTTLS)`,
            'a handler that does not switch serves everybody in plain text',
            `${remedy}, unless the handler or protocol switches`,
          )
    })
  })
}
