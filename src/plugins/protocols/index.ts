/** Room: plugins/protocols. What is registered at the door. */
import { dns } from './dns.js'
import { http } from './http.js'
import { jsonRpc } from './json-rpc.js'
import { resp } from './resp/index.js'
import { smtp } from './smtp.js'
import { syslog } from './syslog.js'

export const protocols = [http, jsonRpc, resp, dns, smtp, syslog] as const

export { dns, http, jsonRpc, resp, smtp, syslog }
