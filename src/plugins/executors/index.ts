/**
 * The executors that come with Gaidaros.
 *
 * Room: plugins/executors. The door registers what stands in the list; `inline` needs none.
 */
import { childProcess, processPool } from './process.js'
import { task } from './task.js'
import { thread, threadPool } from './thread.js'

export const executors = [task, thread, threadPool, childProcess, processPool] as const

export { childProcess, processPool, task, thread, threadPool }
