/**
 * A SOCKS5 proxy by configuration alone. Private networks are out of reach unless they are allowed: here this machine is, so
 * that it can be tried, and nothing else.
 *
 *   npx gaidaros serve --config examples/17-socks5.ts
 *   curl --socks5 ada:secret@localhost:1080 http://127.0.0.1:8080/    (any server of this machine)
 *   curl --socks5 localhost:1080 http://127.0.0.1:8080/               → No authentication method was acceptable
 */
import { defineConfig } from 'gaidaros'

export default defineConfig({
  listen: 'tcp://localhost:1080',
  protocol: { name: 'socks5', users: { ada: 'secret' }, allow: ['127.0.0.0/8', '::1'] },
  limits: { connections: 200 },
})
