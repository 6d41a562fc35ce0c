/**
 * `idle-timeout`: closes a connection that sends no message for so long, however many bytes it sends.
 *
 * Room: plugins/middleware. `timeouts.idleMs` counts bytes of either direction; this counts messages of the peer. As there,
 * a handler at work is no idleness: its reply was promised. A reply that streams on after its handler returned is.
 */
import type { Connection } from '../../core/connection.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { promised } from './promised.js'

export interface IdleTimeoutOptions {
  ms: number
}

/** What is known of one connection. */
interface Heard {
  /** When its last message came, or its last handler finished, in milliseconds of the clock. */
  at: number
  /** Handlers whose reply is promised. */
  atWork: number
}

/** Closes as `IDLE_TIMEOUT`, after what waits to be sent. One timer a connection; a message costs a look-up and a store. */
export const idleTimeout: Factory<MiddlewareSet, IdleTimeoutOptions> = {
  name: 'idle-timeout',
  options: optionSchema<IdleTimeoutOptions>({
    ms: {
      unit: 'ms',
      min: 1,
      // Node fires a timer of more at once (timers, setTimeout: 2^31 - 1).
      max: 2_147_483_647,
      default: 60_000,
      why: 'Without a message; then the connection is closed as IDLE_TIMEOUT.',
    },
  }),
  create({ ms }, { clock }) {
    const known = new WeakMap<Connection, Heard>()
    return {
      name: 'idle-timeout',
      connection({ connection }, next) {
        const heard: Heard = { at: clock.now(), atWork: 0 }
        known.set(connection, heard)
        let cancel = () => {}
        // Armed again only when it comes.
        const arm = (delayMs: number) => {
          cancel = clock.after(delayMs, () => {
            const leftMs = heard.atWork > 0 ? ms : heard.at + ms - clock.now()
            if (leftMs > 0) arm(Math.ceil(leftMs))
            else void connection.close('IDLE_TIMEOUT')
          })
        }
        arm(ms)
        void connection.closed.then(() => cancel())
        return next()
      },
      message({ connection }, next) {
        const heard = known.get(connection)
        if (heard === undefined) return next()
        heard.at = clock.now()
        const result = next()
        const reply = promised(result)
        if (reply === undefined) return result
        heard.atWork++
        const done = () => {
          heard.atWork--
          heard.at = clock.now()
        }
        reply.then(done, done)
        return reply
      },
    }
  },
}
