/** An operator, an account and a user as `nsc` would make them: for logins by credentials file and by key. */
import { nkeys } from '@nats-io/transport-node'

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1')

function jwt(claims: object, by: { sign(data: Uint8Array): Uint8Array }): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(claims)}`
  return `${body}.${Buffer.from(by.sign(Buffer.from(body))).toString('base64url')}`
}

/** @returns The server's configuration, and the content of a credentials file it takes. */
export function makeAccounts(): { readonly configuration: string; readonly credentials: string } {
  const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()]
  const [o, a, u] = [operator, account, user].map((one) => one.getPublicKey()) as [string, string, string]
  const about = { iat: Math.floor(Date.now() / 1_000), jti: 'test' }
  const unlimited = { subs: -1, data: -1, payload: -1 }
  const limits = { ...unlimited, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 }
  const operatorJwt = jwt({ ...about, iss: o, sub: o, name: 'O', nats: { type: 'operator', version: 2 } }, operator)
  const accountJwt = jwt(
    { ...about, iss: o, sub: a, name: 'A', nats: { type: 'account', version: 2, limits } },
    operator,
  )
  const userJwt = jwt(
    { ...about, iss: a, sub: u, name: 'U', nats: { type: 'user', version: 2, pub: {}, sub: {}, ...unlimited } },
    account,
  )
  const credentials = `-----BEGIN NATS USER JWT-----
${userJwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
${text(user.getSeed())}
------END USER NKEY SEED------
`
  const configuration = `operator: "${operatorJwt}"\nresolver: MEMORY\nresolver_preload: { ${a}: "${accountJwt}" }`
  return { configuration, credentials }
}

/** A key: what the server is told, and the seed that the other side keeps. */
export function makeKey(): { readonly publicKey: string; readonly seed: string } {
  const key = nkeys.createUser()
  return { publicKey: key.getPublicKey(), seed: text(key.getSeed()) }
}
