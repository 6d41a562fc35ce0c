/**
 * Who may come in, as a value: what a TLS session is bound to.
 *
 * Room: transports. A session that is taken up skips the certificate check (RFC 8446, section 2.2; RFC 5077), so it has to be
 * one that the same rules let in. The rules are part of the session id context, which OpenSSL compares, and of the key that
 * seals the ticket: a ticket that was made under others cannot even be opened, and its owner makes a full handshake.
 */
import { createHash, hkdfSync } from 'node:crypto'

/** Read bytes; text is PEM. */
export type Bytes = readonly (string | Uint8Array)[]

export interface AccessRules {
  readonly requestCert: boolean
  readonly rejectUnauthorized: boolean
  /** Undefined: the certificate authorities of Node. */
  readonly ca: Bytes | undefined
  readonly crl: Bytes | undefined
  /** Authorities in it are trusted as well (Node, `tls.createSecureContext`). */
  readonly pfx: Bytes | undefined
}

/** SSL_CTX_set_session_id_context(3): 32 bytes at most. */
const CONTEXT_CHARACTERS = 32
/** Node's form of them (tls, `ticketKeys`; RFC 5077, section 4): a name, a key for the seal and one for the cipher. */
export const TICKET_BYTES = 48

/**
 * Names the rules of one listener: 192 bits of a hash, as text. Equal where everything is equal that decides who may come in,
 * in whichever process or generation.
 *
 * @param listener - Its name; undefined where there is none.
 */
export function accessContext(listener: string | undefined, rules: AccessRules): string {
  const hash = createHash('sha256').update('gaidaros access 1')
  add(hash, [listener ?? ''])
  if (rules.requestCert) {
    add(hash, ['certificate', rules.rejectUnauthorized ? 'required' : 'asked for'])
    for (const part of [rules.ca, rules.crl, rules.pfx]) {
      add(hash, part === undefined ? ['none'] : ['given'])
      add(hash, part ?? [])
    }
  }
  return hash.digest('base64url').slice(0, CONTEXT_CHARACTERS)
}

/**
 * Keys for the tickets of one context (HKDF, RFC 5869).
 *
 * @param secret - Shared by those who are to take up each other's sessions.
 */
export function ticketKeysFor(secret: Uint8Array, context: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `gaidaros tickets 1 ${context}`, TICKET_BYTES))
}

/** Names bytes, so that it is seen whether they have changed. */
export function digestOf(parts: Iterable<Bytes>): string {
  const hash = createHash('sha256')
  for (const part of parts) add(hash, part)
  return hash.digest('base64')
}

/** Each with its length, so that no two lists read the same. */
function add(hash: ReturnType<typeof createHash>, list: Bytes): void {
  const number = Buffer.alloc(4)
  number.writeUInt32BE(list.length)
  hash.update(number)
  for (const one of list) {
    const bytes = typeof one === 'string' ? Buffer.from(one) : one
    number.writeUInt32BE(bytes.length)
    hash.update(number).update(bytes)
  }
}
