/**
 * `idle-timeout`: closes a connection that sends no message for so long, however many bytes it sends.
 *
 * Room: plugins/middleware. `timeouts.idleMs` counts bytes of either direction; this counts messages of the peer.
 */

import type { Connection } from '../../core/connection.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'

export interface IdleTimeoutOptions {
  ms: number
}

export const idleTimeout: Factory<MiddlewareSet, IdleTimeoutOptions> = {
  name: 'idle-timeout',
  options: optionSchema<IdleTimeoutOptions>({
    ms: {
      unit: 'ms',
      min: 1,
      default: 60_000,
      why: 'Without a message; then the connection is closed as IDLE_TIMEOUT.',
    },
  }),
  create({ ms }, { clock }) {
    const heard = new WeakMap<Connection, { at: number }>()
    return {
      name: 'idle-timeout',
      connection({ connection }, next) {
        const last = { at: clock.now() }
        heard.set(connection, last)
        let cancel = () => {}
        // One timer a connection, armed again only when it comes: a message costs a store.
        const arm = (delay: number) => {
          cancel = clock.after(delay, () => {
            const left = last.at + ms - clock.now()
            if (left > 0) arm(left)
            else void connection.close('IDLE_TIMEOUT')
          })
        }
        arm(ms)
        void connection.closed.then(() => cancel())
        return next()
      },
      message({ connection }, next) {
        const last = heard.get(connection)
        if (last !== undefined) last.at = clock.now()
        return next()
      },
    }
  },
}
