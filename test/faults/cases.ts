/** Which test injects which fault, read from the titles: `F17 a peer that …`, or `… (F60 to F63, F65)` at the end. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The compiled tests; they keep their titles. */
export const tests = fileURLToPath(new URL('..', import.meta.url))

export interface Case {
  readonly file: string
  readonly ids: readonly string[]
  readonly title: string
  /** Fits the title as it is printed, whatever stands in its `${…}`. */
  readonly printed: RegExp
  /** Fit the lines by which it says that it is skipped, or what it measured. */
  readonly notes: readonly RegExp[]
}

export function allCases(): readonly Case[] {
  const files = (readdirSync(tests, { recursive: true }) as string[]).filter((file) => file.endsWith('.test.js')).sort()
  return files.flatMap((file) => casesOf(file, readFileSync(join(tests, file), 'utf8')))
}

/** @param source - Of a test file. */
export function casesOf(file: string, source: string): readonly Case[] {
  // At the start of a line: what stands within a text is no case.
  const heads = [
    ...source.matchAll(/^\s*(?:test|natsTest|withTool)\((?:\s*'[\w-]+',)?\s*(['"`])((?:(?!\1)[^\\]|\\.)*)\1/gm),
  ]
  return heads.flatMap((head, index) => {
    const title = head[2] as string
    const ids = idsIn(title)
    if (ids.length === 0) return []
    const body = source.slice(head.index, heads[index + 1]?.index)
    const said = [...body.matchAll(/skip\((['"`])((?:(?!\1).)*)\1/g)].map((match) => `skip: ${match[2]}`)
    const noted = [...body.matchAll(/console\.log\((['"`])((?:# |skip: )(?:(?!\1).)*)\1/g)].map(
      (match) => match[2] as string,
    )
    // Helpers that skip say the title.
    return { file, ids, title, printed: pattern(title), notes: [`skip: ${title}: `, ...said, ...noted].map(pattern) }
  })
}

/** `F60 to F63, F65`: all five. */
export function idsIn(title: string): readonly string[] {
  const ids = new Set([...title.matchAll(/\bF\d{1,3}\b/g)].map(([id]) => id))
  for (const [, from, to] of title.matchAll(/\bF(\d{1,3}) to F(\d{1,3})\b/g))
    for (let id = Number(from); id <= Number(to); id++) ids.add(`F${id}`)
  return [...ids]
}

function pattern(text: string): RegExp {
  const parts = text.replaceAll(/\\(.)/g, '$1').split(/\$\{[^}]*\}/)
  return new RegExp(parts.map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*'))
}
