/**
 * What plugins keep beside the sessions, counted in bytes: one account for each kind of thing, each with a limit that always
 * holds, and all of them in the server's one budget where there is one (`limits.memoryBytes`).
 *
 * Room: core, mechanism beside core/budget; the contract is in core/account. Costs what is kept, never a message that is passed on.
 */
import type { Account, AccountOptions, DropReason, Holding, KeptFacts, PluginBudget } from './account.js'
import { Threshold } from './alarms.js'
import type { Holder, MemoryBudget } from './budget.js'

/** What accounts need of the server they belong to; a client's have none of it. */
export interface AccountsHost {
  readonly budget: MemoryBudget | undefined
  count(counter: string, by?: number): void
  /** A listener's accounts are nearly full, or no longer. */
  full(listener: string, isOn: boolean, bytes: number, limit: number): void
}

/** When memory is short, an account gives back so much of what it has. */
const SHED_SHARE = 0.5
/** An alarm stands from the first share on, until it is below the second. */
const FULL_SHARE = 0.9
const CLEAR_SHARE = 0.8

export class Accounts {
  readonly #accounts = new Set<KeptAccount>()
  #host: AccountsHost | undefined

  /** From now on the server counts what is kept. */
  attach(host: AccountsHost): void {
    this.#host = host
    this.charge()
  }

  /** The budget of the server is a new one. */
  charge(): void {
    for (const account of this.#accounts) this.#host?.budget?.charge(account)
  }

  /** What plugins of one place open theirs with. @param place - Where they are named: `listeners.public.protocol`. */
  at(place: string): PluginBudget {
    const listener = /^listeners\.(.*)\.(?:protocol|codec|layers|middleware)/.exec(place)?.[1] ?? ''
    return {
      open: (options) => {
        const account = new KeptAccount(listener, options, {
          host: () => this.#host,
          changed: () => this.#alarm(listener),
        })
        this.#accounts.add(account)
        return account
      },
    }
  }

  /** A listener is gone, and what its plugins kept with it. */
  close(listener: string): void {
    for (const account of this.#accounts) {
      if (account.listener !== listener) continue
      this.#accounts.delete(account)
      account.close()
    }
  }

  get facts(): readonly KeptFacts[] {
    return [...this.#accounts].map(({ listener, name, used, limit }) => ({
      listener,
      account: name,
      bytes: used,
      limit,
    }))
  }

  #alarm(listener: string): void {
    const own = [...this.#accounts].filter((account) => account.listener === listener)
    const full = own.find(({ isNearlyFull }) => isNearlyFull)
    const { used = 0, limit = 1 } = full ?? own[0] ?? {}
    this.#host?.full(listener, full !== undefined, used, limit)
  }
}

interface AccountScope {
  host(): AccountsHost | undefined
  changed(): void
}

class KeptAccount implements Account, Holder {
  readonly listener: string
  readonly name: string
  readonly limit: number
  readonly id: string
  /** @internal The budget's. */
  charged = 0
  used = 0
  readonly #whenFull: AccountOptions['whenFull']
  readonly #scope: AccountScope
  /** The oldest first. */
  readonly #holdings = new Set<KeptHolding>()
  readonly #fullness = new Threshold(FULL_SHARE, CLEAR_SHARE)
  /** While the server is short of memory, no more is kept than then. */
  #ceiling: number

  constructor(listener: string, { name, limit, whenFull }: AccountOptions, scope: AccountScope) {
    this.listener = listener
    this.name = name
    this.limit = limit
    this.id = `${name} of listener ${listener}`
    this.#ceiling = limit
    this.#whenFull = whenFull
    this.#scope = scope
  }

  get heldBytes(): number {
    return this.used
  }
  get isNearlyFull(): boolean {
    return this.#fullness.isOn
  }

  hold(dropped: (reason: DropReason) => void): Holding {
    const holding = new KeptHolding(this, dropped)
    this.#holdings.add(holding)
    return holding
  }

  /** @returns false when it is not kept; the holding may be gone by then. */
  take(holding: KeptHolding, bytes: number): boolean {
    if (!this.#makeRoom(holding, bytes)) {
      this.#count('refused')
      return false
    }
    holding.bytes += bytes
    this.#changed(bytes)
    // The server may have been short of memory with that, and this holding the one that went.
    return this.#holdings.has(holding)
  }

  give(holding: KeptHolding, bytes: number): void {
    const given = Math.min(bytes, holding.bytes)
    holding.bytes -= given
    this.#changed(-given)
  }

  forget(holding: KeptHolding): void {
    this.#holdings.delete(holding)
    this.give(holding, holding.bytes)
  }

  // -- the server's budget -------------------------------------------------------------------------------------------

  holdReading(): void {
    this.#ceiling = Math.min(this.limit, this.used)
  }
  releaseReading(): void {
    this.#ceiling = this.limit
  }
  shed(): void {
    const most = this.used * SHED_SHARE
    while (this.used > most) {
      const victim = this.#victim()
      if (victim === undefined) break
      this.#drop(victim, 'MEMORY_PRESSURE')
    }
    this.#scope.host()?.budget?.charge(this)
  }

  close(): void {
    for (const holding of this.#holdings) holding.release()
    this.#scope.host()?.budget?.forget(this)
  }

  #makeRoom(holding: KeptHolding, bytes: number): boolean {
    if (!this.#holdings.has(holding)) return false
    const most = this.#ceiling
    while (this.used + bytes > most) {
      // What would not fit an empty account makes nobody else go.
      if (this.#whenFull === 'refuse' || holding.bytes + bytes > most) {
        if (this.#whenFull !== 'refuse') this.#drop(holding, 'FULL')
        return false
      }
      const victim = this.#victim(holding, bytes)
      if (victim === undefined) return false
      this.#drop(victim, 'FULL')
      if (victim === holding) return false
    }
    return true
  }

  /** @param asking - Counted with the bytes that it wants. */
  #victim(asking?: KeptHolding, bytes = 0): KeptHolding | undefined {
    if (this.#whenFull === 'oldest') return this.#holdings.values().next().value
    let largest: KeptHolding | undefined
    let most = 0
    for (const holding of this.#holdings) {
      const size = holding === asking ? holding.bytes + bytes : holding.bytes
      if (size <= most) continue
      most = size
      largest = holding
    }
    return largest
  }

  #drop(holding: KeptHolding, reason: DropReason): void {
    this.forget(holding)
    this.#count('dropped')
    holding.dropped(reason)
  }

  #count(what: 'dropped' | 'refused'): void {
    this.#scope.host()?.count(`kept.${this.name}.${what}`)
  }

  #changed(bytes: number): void {
    if (bytes === 0) return
    this.used += bytes
    const was = this.#fullness.isOn
    if (this.#fullness.at(this.used, this.limit) !== was) this.#scope.changed()
    this.#scope.host()?.budget?.charge(this)
  }
}

class KeptHolding implements Holding {
  bytes = 0
  readonly dropped: (reason: DropReason) => void
  readonly #account: KeptAccount

  constructor(account: KeptAccount, dropped: (reason: DropReason) => void) {
    this.#account = account
    this.dropped = dropped
  }

  take(bytes: number): boolean {
    return this.#account.take(this, bytes)
  }
  give(bytes: number): void {
    this.#account.give(this, bytes)
  }
  release(): void {
    this.#account.forget(this)
  }
}
