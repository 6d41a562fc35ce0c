/**
 * The middleware that comes with Gaidaros; written against the published contracts only.
 *
 * Room: plugins/middleware. The door registers what stands in the list.
 */
import { clientIdentity } from './client-identity.js'
import { errorReply } from './error-reply.js'
import { idleTimeout } from './idle-timeout.js'
import { ipFilter } from './ip-filter.js'
import { log } from './log.js'
import { maxPerSource } from './max-per-source.js'
import { rateLimit } from './rate-limit.js'

export const middleware = [log, rateLimit, ipFilter, idleTimeout, errorReply, maxPerSource, clientIdentity] as const

export { clientIdentity, errorReply, idleTimeout, ipFilter, log, maxPerSource, rateLimit }
