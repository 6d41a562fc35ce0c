/**
 * Tells when files have changed.
 *
 * Room: transports. Folders are watched, not files: certificates are replaced by renames (certbot) and by turning a symbolic
 * link to a folder (Kubernetes), and a watched file that is replaced is never heard of again.
 */
import { type FSWatcher, watch } from 'node:fs'
import { dirname } from 'node:path'

/** Certificate and key are two files; both are there when nothing has moved for so long. */
const QUIET_MS = 200

/** @returns ends it. */
export function watchFiles(files: readonly string[], changed: () => void): () => void {
  const watchers: FSWatcher[] = []
  let timer: NodeJS.Timeout | undefined
  for (const folder of new Set(files.map((file) => dirname(file)))) {
    try {
      const watcher = watch(folder, { persistent: false }, () => {
        clearTimeout(timer)
        timer = setTimeout(changed, QUIET_MS)
        timer.unref()
      })
      // A folder that is removed ends its watch; SIGHUP remains.
      watcher.on('error', () => watcher.close())
      watchers.push(watcher)
    } catch {
      // No watch to be had (inotify(7), max_user_watches): SIGHUP remains.
    }
  }
  return () => {
    clearTimeout(timer)
    for (const watcher of watchers) watcher.close()
  }
}
