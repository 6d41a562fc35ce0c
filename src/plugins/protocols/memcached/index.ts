/** Room: plugins/protocols. The door of `memcached`. */
export type { MemcachedCommand } from './command.js'
export { type MemcachedOptions, memcached } from './memcached.js'
export { MemcachedError, type MemcachedItem, type MemcachedValues } from './reply.js'
