/**
 * A mailbox: takes mail over SMTP, by STARTTLS where the sender can. The certificate is made for this run.
 *
 *   npx gaidaros serve --config examples/16-mail.ts
 *   swaks --server localhost:2525 --tls --to ada@home.test --body 'good morning'
 *   swaks --server localhost:2525 --to nobody@home.test  → 550 no such mailbox
 */
import { defineConfig, Handler, OnMessage } from 'gaidaros'
import { type SmtpAddress, SmtpError, type SmtpMessage } from 'gaidaros/plugins/smtp'
import { generate } from 'selfsigned'

const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])

@Handler()
class Mailbox {
  #count = 0

  @OnMessage('RCPT') mayReceive({ address }: SmtpAddress) {
    if (address !== 'ada@home.test') throw new SmtpError(550, 'no such mailbox')
  }

  @OnMessage('MESSAGE') keep({ from, data, tls }: SmtpMessage) {
    process.stderr.write(`mail from ${from}, ${data.length} bytes, ${tls ? 'over TLS' : 'in the clear'}\n`)
    return `kept as ${++this.#count}`
  }
}

export default defineConfig({
  listen: 'tcp://localhost:2525',
  protocol: { name: 'smtp', hostname: 'mx.home.test', startTls: 'offer' },
  tls: { cert, key },
  handler: Mailbox,
  limits: { frameBytes: 5_000_000 },
})
