/**
 * Tells when files may have changed, by looking at them.
 *
 * Room: transports. Each path is followed to its end at every look, through whatever links and folders are there by then: renames
 * (certbot), links to folders that are turned (Kubernetes, `current`) and folders that are moved are seen every time, and what
 * else is written beside them costs nothing. A watch of the kernel's (inotify(7)) holds on to folders that are there no more.
 */
import { type BigIntStats, stat } from 'node:fs'

/** Between two looks. */
const LOOK_MS = 500
/** For each file: thousands of names are looked at more rarely than a few. */
const LOOK_MS_EACH = 1
/** Certificate and key are two files; both are there when nothing has moved for so long. */
const QUIET_MS = 200
/** Whatever goes on, a change is told when it is so old. */
const MOST_MS = 1_000
/** A file that has been written within this time may be written again without its times telling (their grain is that of a tick). */
const YOUNG_MS = 1_000

/**
 * @param changed - Something about a file is not as it was at the last look; it may be its times alone. Up to some 500 files:
 * within 2 s. `isAgain`: nothing was seen to change, but times could not tell.
 * @returns ends it.
 */
export function watchFiles(files: readonly string[], changed: (isAgain: boolean) => void): () => void {
  if (files.length === 0) return () => {}
  const paths = [...new Set(files)]
  const rest = Math.max(LOOK_MS, paths.length * LOOK_MS_EACH)
  let timer: NodeJS.Timeout | undefined
  let isOver = false
  let known: string | undefined
  /** When a change was first seen that nobody was told of. */
  let since: number | undefined
  let isAgain = false
  const later = (ms: number) => {
    timer = setTimeout(look, ms)
    timer.unref()
  }
  const look = async () => {
    const { signs, isYoung } = await signsOf(paths)
    if (isOver) return
    const isStill = signs === known
    if (!isStill) {
      // The files were read before the first look: what came in between is found by reading them once more.
      isAgain = known === undefined
      since ??= performance.now()
    }
    known = signs
    if (since === undefined) return later(rest)
    if (!isStill && performance.now() - since < MOST_MS) return later(QUIET_MS)
    changed(isAgain)
    // Told once more: bytes that came after these were read have perhaps the same times.
    since = isYoung ? performance.now() : undefined
    isAgain = true
    later(rest)
  }
  void look()
  return () => {
    isOver = true
    clearTimeout(timer)
  }
}

/** What is behind each path now, and whether some of it is very new. One after the other: a slow disk is not asked more. */
async function signsOf(paths: readonly string[]): Promise<{ signs: string; isYoung: boolean }> {
  const signs: string[] = []
  const young = BigInt(Date.now() - YOUNG_MS) * 1_000_000n
  let isYoung = false
  for (const path of paths) {
    const found = await statOf(path)
    if (found === undefined) signs.push('-')
    else {
      const { dev, ino, size, mtimeNs, ctimeNs } = found
      if (ctimeNs > young) isYoung = true
      signs.push(`${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`)
    }
  }
  return { signs: signs.join('\n'), isYoung }
}

/** Undefined: nothing is there, or it cannot be seen; reading it will say which. */
function statOf(path: string): Promise<BigIntStats | undefined> {
  return new Promise((resolve) => {
    stat(path, { bigint: true }, (error, found) => resolve(error === null ? found : undefined))
  })
}
