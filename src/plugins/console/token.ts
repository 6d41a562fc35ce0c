/**
 * Who may look: whoever knows the token.
 *
 * Room: plugins/console.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { ConfigError } from '../../core/errors.js'

/** 192 bits cannot be guessed; a shorter word of the operator's own could. */
const FEWEST_CHARACTERS = 24

export class Token {
  readonly #digest: Buffer
  /** What is printed: the token's file, or (once) the token itself, behind the `#` that browsers keep to themselves. */
  readonly hint: string

  private constructor(token: string, hint: string) {
    this.#digest = digestOf(token)
    this.hint = hint
  }

  /** @throws {ConfigError} for a file that others can read, or that holds no good token. */
  static from(file: string | undefined): Token {
    const made = randomBytes(24).toString('base64url')
    if (file === undefined) return new Token(made, `#token=${made}`)
    try {
      writeFileSync(file, `${made}\n`, { mode: 0o600, flag: 'wx' })
      return new Token(made, ` (its token is in ${file})`)
    } catch (cause) {
      if ((cause as { code?: string }).code !== 'EEXIST') {
        throw new ConfigError('BAD_VALUE', `plugin console: tokenFile: ${(cause as Error).message}`, { cause })
      }
    }
    const others = statSync(file).mode & 0o077
    if (others !== 0) {
      throw new ConfigError('BAD_VALUE', `plugin console: tokenFile: ${file} can be read by others; chmod 600 it`, {
        file,
      })
    }
    const token = readFileSync(file, 'utf8').trim()
    if (token.length < FEWEST_CHARACTERS || /\s/.test(token)) {
      const message = `plugin console: tokenFile: ${file}: expected one word of at least ${FEWEST_CHARACTERS} characters`
      throw new ConfigError('BAD_VALUE', `${message}; remove the file, and a good one is made`, { file })
    }
    return new Token(token, ` (its token is in ${file})`)
  }

  /** Takes as long whatever was given. */
  is(given: string): boolean {
    return timingSafeEqual(this.#digest, digestOf(given))
  }
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
