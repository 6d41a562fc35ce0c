/**
 * A collector of syslog, both formats, over UDP and TCP: the severity is the route.
 *
 *   npx gaidaros serve --config examples/18-syslog.ts
 *   logger -n localhost -P 5514 -d -p local3.err 'the door is open'           (UDP)
 *   logger -n localhost -P 5514 -T --octet-count -p local3.info 'all is well' (TCP)
 */
import { defineConfig, Handler, OnMessage } from 'gaidaros'
import type { SyslogMessage } from 'gaidaros/plugins/syslog'

@Handler()
class Collector {
  @OnMessage('error') alarm({ host = '?', message }: SyslogMessage) {
    process.stdout.write(`ALARM ${host}: ${message}\n`)
  }

  @OnMessage() note({ severity, app = '?', message }: SyslogMessage) {
    process.stdout.write(`${severity} ${app}: ${message}\n`)
  }
}

export default defineConfig({
  listen: ['udp://localhost:5514', 'tcp://localhost:5514'],
  protocol: 'syslog',
  handler: Collector,
  limits: { connections: 200, peers: 1_000 },
})
