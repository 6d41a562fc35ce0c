/**
 * Whether this Node can bind a port several times over (SO_REUSEPORT).
 *
 * Room: core, mechanism. Older ones ignore the option without a word, so nobody may ask for it there.
 */

/** Added in Node 23.1 and 22.12 (net, server.listen; dgram.createSocket: `reusePort`). */
export function hasReusePort(version = process.versions.node): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12)
}
