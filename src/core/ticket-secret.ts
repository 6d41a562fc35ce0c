/**
 * The secret behind TLS session tickets, shared by processes of one server, and whose sessions they are.
 *
 * Room: core, mechanism. Keys that seal tickets are derived from it where TLS is spoken; it is replaced in one place, and
 * whoever follows it derives anew.
 */
import type { TlsOptions } from './options.js'

/** How often the secret of tickets is made anew: what was recorded before cannot be read with it (forward secrecy). */
export const TICKETS_MS = 12 * 3_600_000

/** Derives keys from a secret. */
export interface TicketKeeper {
  /** The secret has another value now. Does not throw. */
  renewTickets(): void
}

export class TicketSecret {
  #bytes: Uint8Array
  /** Weakly: a listener that is gone is not kept by the secret it shared. */
  readonly #keepers = new Set<WeakRef<TicketKeeper>>()

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get bytes(): Uint8Array {
    return this.#bytes
  }

  /** Replaces it: tickets of before are refused from now on, and their owners make a full handshake. */
  set(bytes: Uint8Array): void {
    this.#bytes = bytes
    for (const reference of this.#keepers) {
      const keeper = reference.deref()
      if (keeper === undefined) this.#keepers.delete(reference)
      else keeper.renewTickets()
    }
  }

  follow(keeper: TicketKeeper): void {
    this.#keepers.add(new WeakRef(keeper))
  }
}

/** Whose sessions a `tls` key makes. */
export interface SessionOwner {
  /** The listener's name, the same in each worker and each generation: another listener does not take its sessions up. */
  readonly listener: string
  /** Shared with the other processes; undefined: each process has its own. */
  readonly secret?: TicketSecret | undefined
}

/** Goes with the options wherever they are merged, and is neither configuration nor shown with it. */
const OWNER = Symbol('gaidaros.sessions')
type Owned = TlsOptions & { readonly [OWNER]?: SessionOwner }

/** The options as one listener's. */
export function ownedBy(owner: SessionOwner, tls: TlsOptions): TlsOptions {
  return { ...tls, [OWNER]: owner } as Owned
}

/** Undefined: options that no listener has, such as those a handler gives to `upgrade`. */
export function ownerOf(tls: TlsOptions): SessionOwner | undefined {
  return (tls as Owned)[OWNER]
}
