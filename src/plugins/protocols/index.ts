/** Room: plugins/protocols. What is registered at the door. */
import { coap } from './coap/index.js'
import { dns } from './dns.js'
import { http } from './http.js'
import { jsonRpc } from './json-rpc.js'
import { memcached } from './memcached/index.js'
import { mqtt } from './mqtt/index.js'
import { resp } from './resp/index.js'
import { smtp } from './smtp.js'
import { socks5 } from './socks5.js'
import { stomp } from './stomp/index.js'
import { syslog } from './syslog.js'

export const protocols = [http, jsonRpc, resp, mqtt, dns, smtp, socks5, syslog, stomp, memcached, coap] as const

export { coap, dns, http, jsonRpc, memcached, mqtt, resp, smtp, socks5, stomp, syslog }
