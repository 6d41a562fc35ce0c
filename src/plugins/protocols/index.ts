/** Room: plugins/protocols. What is registered at the door. */
import { dns } from './dns.js'
import { jsonRpc } from './json-rpc.js'
import { resp } from './resp/index.js'
import { smtp } from './smtp.js'
import { syslog } from './syslog.js'

export const protocols = [jsonRpc, resp, dns, smtp, syslog] as const

export { dns, jsonRpc, resp, smtp, syslog }
