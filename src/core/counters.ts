/**
 * Counters by name, some of which are made of words that applications and peers choose: `closed.` and a reason.
 *
 * Room: core, mechanism of the server. A peer whose words become a reason must not grow a map without end.
 */

/** Different words of one kind that are told apart; further ones are `OTHER`. */
export const MOST_WORDS = 100
const OTHER = 'OTHER'

/** Tells the first so many words apart. */
export class Words {
  readonly #known = new Set<string>()

  /** @returns the word itself, or `OTHER` once there are too many. */
  of(word: string): string {
    if (this.#known.has(word)) return word
    if (this.#known.size >= MOST_WORDS) return OTHER
    this.#known.add(word)
    return word
  }
}

/** Counts by name; what stands behind a name's first dot is a word. */
export class Counters {
  readonly values: Record<string, number> = Object.create(null)
  readonly #words = new Map<string, Words>()

  /** @param by - How many more. Default: 1. */
  count(name: string, by = 1): void {
    const known = this.values[name]
    if (known !== undefined) this.values[name] = known + by
    else {
      const bounded = this.#bounded(name)
      this.values[bounded] = (this.values[bounded] ?? 0) + by
    }
  }

  #bounded(name: string): string {
    const dot = name.indexOf('.')
    if (dot < 0) return name
    const kind = name.slice(0, dot)
    let words = this.#words.get(kind)
    if (words === undefined) this.#words.set(kind, (words = new Words()))
    return `${kind}.${words.of(name.slice(dot + 1))}`
  }
}
