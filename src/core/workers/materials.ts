/**
 * Certificates and keys that only root may read, for workers that are started once root was given up.
 *
 * Room: core, mechanism. The supervisor reads them while it is root and hands the bytes on with the settings, over the channel of
 * the worker: never in arguments, an environment or a file. What that user may read is left to be read again by each worker, so
 * that a renewal reaches it.
 */
import { readFileSync } from 'node:fs'

/** The files of `tls` (src/core/options.ts). */
const materials = ['cert', 'key', 'ca', 'crl', 'pfx', 'ticketKeys'] as const
type Branch = Readonly<Record<string, unknown>>

/** The files that settings name for TLS. */
export function tlsFiles(settings: unknown): string[] {
  const files = new Set<string>()
  mapTls(settings, (identity) => {
    for (const file of filesOf(identity)) files.add(file)
    return identity
  })
  return [...files]
}

/**
 * A copy of the settings in which certificates and keys are bytes where one of their files is kept from that user. What belongs
 * together is read together: a renewed certificate does not fit the old key.
 *
 * @param isKept - Whether the user may not read the file.
 */
export function withMaterials(settings: unknown, isKept: (file: string) => boolean): unknown {
  return mapTls(settings, (identity) => {
    if (!filesOf(identity).some(isKept)) return identity
    const read = materials.flatMap((name) => (identity[name] === undefined ? [] : [[name, bytesOf(identity[name])]]))
    return { ...identity, ...Object.fromEntries(read) }
  })
}

/** Replaces each set of certificate and key: `tls`, each of `tls.sni`, and a layer of that name. */
function mapTls(value: unknown, change: (identity: Branch) => Branch, isTls = false): unknown {
  if (Array.isArray(value)) return value.map((one) => mapTls(one, change))
  if (!isBranch(value)) return value
  const mapped = Object.fromEntries(
    Object.entries(value).map(([key, one]) => {
      if (isTls && key === 'sni' && isBranch(one))
        return [key, Object.fromEntries(Object.entries(one).map(([name, own]) => [name, mapTls(own, change, true)]))]
      return [key, mapTls(one, change, key === 'tls')]
    }),
  )
  return isTls || value.name === 'tls' ? change(mapped) : mapped
}

function filesOf(identity: Branch): string[] {
  return materials.flatMap((name) => {
    const value = identity[name]
    return (Array.isArray(value) ? value : [value]).filter(isFile)
  })
}

function bytesOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(bytesOf)
  return isFile(value) ? new Uint8Array(readFileSync(value)) : value
}

function isFile(value: unknown): value is string {
  return typeof value === 'string' && !value.trimStart().startsWith('-----BEGIN')
}

/** A plain object: neither bytes nor what a class has made. */
function isBranch(value: unknown): value is Branch {
  return value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype
}
