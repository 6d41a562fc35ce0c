/**
 * The one door by which a server loads what its configuration names.
 *
 * Room: core, configuration. Handlers, plugins, hooks and whatever an option may name come through here, so that what a file
 * or a variable says is confined wherever it stands.
 */
import { resolve } from 'node:path'
import type { Confinement } from './confine.js'
import { isFileReference, loadModule, type Module } from './load-module.js'
import { atKey } from './trace.js'
import type { Origin } from './tree.js'

export interface ModuleDoor {
  /**
   * Loads a file or a package.
   *
   * @param place - The key that names it: `handler`, `plugins[0]`, `executor`.
   * @param said - The text that stands there, where it is not the reference itself (a glob).
   * @throws {ConfigError} `BAD_VALUE` for a file outside of the project that data names; else as `loadModule`.
   */
  load(reference: string, place: string, said?: string): Promise<Module>
  /** The file or variable that said a value; undefined: code or the command line did. */
  dataOrigin(place: string, value?: unknown): Origin | undefined
}

/** @param directory - From where relative references and packages are looked up. */
export function moduleDoor(confinement: Confinement, directory: string): ModuleDoor {
  return {
    dataOrigin: (place, value) => confinement.dataOrigin(place, value),
    async load(reference, place, said = reference) {
      try {
        if (isFileReference(reference)) confinement.admit(resolve(directory, reference), place, said)
        return await loadModule(reference, directory)
      } catch (thrown) {
        throw atKey(thrown, place)
      }
    },
  }
}
