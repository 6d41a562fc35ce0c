/** Programs of the system that some tests talk to. */
import { execFileSync } from 'node:child_process'

export function hasTool(name: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${name}`], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
