/**
 * A supervisor that gives up root: what it hands on to workers that come afterwards, and what it refuses.
 *
 * Room: the command line. Whatever was done as root at the start is done again as somebody else when a worker is replaced.
 */
import type { Configuration } from '../core/configuration.js'
import { BindError, toError } from '../core/errors.js'
import { dropPrivileges, type Ids, idsOf, keptFrom } from '../core/privileges.js'
import { handOverSockets } from '../core/root-files.js'
import { tlsFiles, withMaterials } from '../core/workers/materials.js'
import { identityOf } from '../gaidaros.js'
import { logLine } from './output.js'

/**
 * Settings for further workers: keys and certificates that only root may read are in them as bytes.
 *
 * @param seed - As the first worker has read them; undefined where each worker reads code.
 * @throws {BindError} `PERMISSION_DENIED` where they cannot be handed on: the configuration is code. Reach: the start.
 */
export function handOn(values: Configuration, seed: unknown): unknown {
  const ids = toBecome(values)
  if (ids === undefined) return seed
  const kept = keptFrom(ids, tlsFiles(seed ?? values))
  if (kept.length === 0) return seed
  if (seed === undefined) {
    const message = `daemon.user: workers that replace others cannot read ${kept.join(', ')} as user ${shown(ids)}, and a configuration that is code cannot be handed on to them; let ${shown(ids)} read it (chgrp and chmod 640), or configure by a file of data`
    throw new BindError('PERMISSION_DENIED', message, { user: ids.uid, paths: kept })
  }
  logLine(
    `gaidaros: ${kept.join(', ')}: user ${shown(ids)} cannot read it; workers that are replaced get what root has read, a renewal needs a restart`,
  )
  return withMaterials(seed, (file) => kept.includes(file))
}

/** Gives sockets to the user, and becomes it. @returns undefined when root was not there to be given up. */
export function giveUpRoot(
  values: Configuration,
  endpoints: readonly string[],
  control: string | undefined,
): Ids | undefined {
  const identity = identityOf(values.daemon)
  if (identity === undefined) return undefined
  const ids = process.geteuid?.() === 0 ? idsOf(identity) : undefined
  if (ids !== undefined) handOverSockets(endpoints, control, ids)
  dropPrivileges(identity)
  return ids
}

/** @throws {BindError} `PERMISSION_DENIED`, with what a worker could not do. */
export function refuseReplacement(ids: Ids, thrown: unknown): never {
  const cause = toError(thrown)
  const message = `daemon.user: a worker that replaces another cannot start as user ${shown(ids)}: ${cause.message}; let ${shown(ids)} read what the server reads at its start (configuration, handlers, certificates, Gaidaros itself)`
  throw new BindError('PERMISSION_DENIED', message, { user: ids.uid, cause })
}

/** Undefined when it is not root that is given up: a group alone, or somebody else already. */
export function toBecome({ daemon }: Configuration): Ids | undefined {
  const identity = identityOf(daemon)
  if (identity === undefined || process.geteuid?.() !== 0) return undefined
  const ids = idsOf(identity)
  return ids?.uid === 0 ? undefined : ids
}

function shown({ name, uid }: Ids): string {
  return name ?? String(uid)
}
