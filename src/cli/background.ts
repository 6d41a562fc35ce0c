/**
 * What a service has in place of a terminal: a log file, somebody who waits for it to be ready, a service manager.
 *
 * Room: the command line. Standard output and standard error of this process, and of what it runs, go where they belong.
 */
import type { Configuration, DaemonOptions } from '../core/configuration.js'
import { idsOf } from '../core/privileges.js'
import { profileDirectory, startProfile } from '../core/profile.js'
import { theWaiter } from './detach.js'
import { LogFile } from './log-file.js'
import { Notifier } from './notify.js'
import { logLine, redirectOutput } from './output.js'

export class Background {
  readonly #log: LogFile | undefined
  readonly #notifier = new Notifier()
  readonly #endProfile: (() => void) | undefined

  /** @throws {BindError} when the log file cannot be opened. */
  constructor({ daemon, profile }: Pick<Configuration, 'daemon' | 'profile'>) {
    const { logFile, user, group } = daemonOf(daemon)
    const ids = process.geteuid?.() === 0 ? idsOf({ user, group }) : undefined
    if (profile !== undefined && profile !== false)
      this.#endProfile = startProfile(profile === true ? profileDirectory : profile, 'server', ids)
    if (logFile === undefined) return
    const log = new LogFile(logFile, ids)
    this.#log = log
    const err = (text: string) => log.write(text)
    // Standard output stays, as long as somebody reads it.
    redirectOutput({ err })
    process.on('SIGUSR1', () => {
      log.reopen()
      logLine('gaidaros: SIGUSR1: the log file was opened again')
    })
    process.once('exit', () => log.close())
  }

  /** Everything is bound, and has been told. */
  ready(): void {
    void this.#notifier.say('READY=1', `MAINPID=${process.pid}`)
    this.#notifier.watch()
    const waiter = theWaiter()
    if (waiter === undefined) return
    waiter.ready()
    const err = (text: string) => this.#log?.write(text)
    redirectOutput({ out: err, err })
  }

  /** The configuration, or a part of it, is read again. */
  async reloads(reload: () => unknown): Promise<void> {
    // CLOCK_MONOTONIC, by which `Type=notify-reload` tells this reload from an earlier one.
    void this.#notifier.say('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`)
    await reload()
    void this.#notifier.say('READY=1')
  }

  stopping(): void {
    void this.#notifier.say('STOPPING=1')
  }

  /** What another program needs in its environment to become the service. */
  get heritage(): NodeJS.ProcessEnv {
    return this.#notifier.heritage
  }
  /** It has: that this process ends now is not the service's end. */
  handedOn(): void {
    this.#notifier.mute()
  }

  /** The end. */
  close(): void {
    this.#endProfile?.()
  }

  /** The server did not start: why is for people, and for the log. */
  failed(): void {
    if (this.#log === undefined) return
    const log = this.#log
    const waiter = theWaiter()
    redirectOutput({
      err(text, original) {
        log.write(text)
        if (waiter === undefined) original(text)
        else waiter.err(text)
      },
    })
  }
}

export function daemonOf(given: Configuration['daemon']): DaemonOptions {
  if (given === undefined || given === false) return {}
  return given === true ? { detach: true } : given
}
