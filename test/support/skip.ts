/** A case that cannot run here says so aloud; where everything must be there (CI), it fails instead. */
export function skip(name: string, reason: string): void {
  if (process.env.CI) throw new Error(`${name}: ${reason}`)
  console.log(`skip: ${name}: ${reason}`)
}
