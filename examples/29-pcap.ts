/**
 * A conversation for Wireshark: what passes is written as packets, and can be read, since the layer stands behind TLS. The file
 * never grows beyond `maxBytes`.
 *
 *   npx gaidaros serve --config examples/29-pcap.ts
 *   echo hello | ncat --ssl localhost 8443
 *   tshark -r talk.pcap -T fields -e ip.src -e data.text -o data.show_as_text:TRUE
 */
import { defineConfig } from 'gaidaros'
import { generate } from 'selfsigned'

const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])

export default defineConfig({
  listen: 'tls://localhost:8443',
  tls: { cert, key },
  limits: { connections: 100 },
  layers: [{ name: 'pcap', file: './talk.pcap', maxBytes: 10_000_000 }],
  handler: (line: string) => `${line}, and good day`,
})
