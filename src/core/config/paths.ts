/**
 * Relative paths in a file are meant from that file: they are made absolute before the sources are merged, because
 * afterwards nobody knows any more where they stood.
 *
 * Room: core, configuration. Paths of Unix sockets in endpoints stay as they are: they are addresses, and short ones.
 */
import { resolve } from 'node:path'
import { isFileReference } from './load-module.js'
import { type Branch, isBranch } from './tree.js'

const materials = ['cert', 'key', 'ca', 'crl', 'pfx', 'ticketKeys']

/** A copy of the settings with the paths in it resolved. */
export function anchorPaths(settings: Branch, folder: string): Branch {
  const result: Branch = { ...anchorShared(settings, folder) }
  if (isBranch(result.listeners)) {
    result.listeners = Object.fromEntries(
      Object.entries(result.listeners).map(([name, one]) => [name, isBranch(one) ? anchorShared(one, folder) : one]),
    )
  }
  if (result.handlers !== undefined) result.handlers = anchorList(result.handlers, folder)
  if (Array.isArray(result.plugins)) {
    result.plugins = result.plugins.map((one) =>
      Array.isArray(one) ? [anchor(one[0], folder), ...one.slice(1)] : anchor(one, folder),
    )
  }
  if (isBranch(result.cluster)) result.cluster = anchorCluster(result.cluster, folder)
  if (isBranch(result.hooks)) result.hooks = { ...result.hooks, module: anchor(result.hooks.module, folder) }
  return result
}

function anchorShared(settings: Branch, folder: string): Branch {
  const result: Branch = { ...settings }
  if (typeof result.handler === 'string') {
    const [file = '', ...rest] = result.handler.split('#')
    result.handler = [anchor(file, folder), ...rest].join('#')
  }
  if (Array.isArray(result.protocol)) {
    result.protocol = result.protocol.map((one) => (isBranch(one) ? anchorShared(one, folder) : one))
  }
  if (isBranch(result.tls)) result.tls = anchorTls(result.tls, folder)
  // A key function by its file.
  if (isBranch(result.executor) && typeof result.executor.affinity === 'string') {
    const [file = '', ...rest] = result.executor.affinity.split('#')
    result.executor = { ...result.executor, affinity: [anchor(file, folder), ...rest].join('#') }
  }
  if (isBranch(result.executor) && result.executor.type === 'cluster')
    result.executor = anchorCluster(result.executor, folder)
  return result
}

/** Its secrets and certificates are files. */
function anchorCluster(cluster: Branch, folder: string): Branch {
  const result: Branch = { ...cluster }
  for (const key of ['nkey', 'credentials'])
    if (typeof result[key] === 'string') result[key] = resolve(folder, result[key])
  if (isBranch(result.tls)) result.tls = anchorTls(result.tls, folder)
  return result
}

function anchorTls(tls: Branch, folder: string): Branch {
  const result: Branch = { ...tls }
  for (const key of materials) {
    const value = result[key]
    result[key] = Array.isArray(value) ? value.map((one) => anchorMaterial(one, folder)) : anchorMaterial(value, folder)
    if (result[key] === undefined) delete result[key]
  }
  if (isBranch(result.sni)) {
    result.sni = Object.fromEntries(
      Object.entries(result.sni).map(([name, one]) => [name, isBranch(one) ? anchorTls(one, folder) : one]),
    )
  }
  return result
}

function anchorMaterial(value: unknown, folder: string): unknown {
  return typeof value === 'string' && !value.trimStart().startsWith('-----BEGIN') ? resolve(folder, value) : value
}

function anchorList(value: unknown, folder: string): unknown {
  return Array.isArray(value) ? value.map((one) => anchor(one, folder)) : anchor(value, folder)
}

function anchor(value: unknown, folder: string): unknown {
  return typeof value === 'string' && isFileReference(value) ? resolve(folder, value) : value
}
