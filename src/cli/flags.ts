/**
 * Commands and flags, and which setting each flag is.
 *
 * Room: the command line.
 */

export interface Flag {
  readonly name: string
  readonly short?: string
  /** What its value is called; undefined for a switch. */
  readonly value?: string
  /** May stand without its value: then what it belongs to is switched on. */
  readonly isOptional?: boolean
  readonly repeats?: boolean
  readonly what: string
  /** The setting it stands for. */
  readonly path?: string
}

const serving: readonly Flag[] = [
  { name: 'config', short: 'c', value: 'FILE', what: 'configuration file; default: searched for' },
  {
    name: 'listen',
    short: 'l',
    value: 'ENDPOINT',
    repeats: true,
    path: 'listen',
    what: 'where to listen, such as tcp://localhost:8080',
  },
  {
    name: 'handler',
    value: 'REF',
    path: 'handler',
    what: 'handler: a name, ./file.ts, ./file.ts#Export, package#Export',
  },
  { name: 'codec', value: 'NAME', path: 'codec', what: 'how bytes become messages: line, length-field, json-lines …' },
  { name: 'eval', short: 'e', value: 'SOURCE', what: "the handler itself: 'line => line.toUpperCase()'" },
  {
    name: 'middleware',
    value: 'NAME',
    repeats: true,
    path: 'middleware',
    what: 'a step around handlers: log, rate-limit …',
  },
  { name: 'plugin', value: 'REF', repeats: true, path: 'plugins', what: 'a plugin: package or file' },
  {
    name: 'workers',
    value: 'N|auto',
    path: 'workers.count',
    what: 'server processes under a supervisor; auto: one for each processor',
  },
  {
    name: 'executor',
    value: 'NAME',
    path: 'executor',
    what: 'where handlers run: inline, task, thread-pool, process-pool …',
  },
  { name: 'tls-cert', value: 'FILE', path: 'tls.cert', what: 'certificate of tls:// endpoints' },
  { name: 'tls-key', value: 'FILE', path: 'tls.key', what: 'its key' },
  { name: 'max-connections', value: 'N', path: 'limits.connections', what: 'connections at a time' },
  { name: 'frame-bytes', value: 'N', path: 'limits.frameBytes', what: 'largest frame' },
  { name: 'idle-timeout-ms', value: 'N', path: 'timeouts.idleMs', what: 'close a silent connection after' },
  { name: 'drain-timeout-ms', value: 'N', path: 'drain.timeoutMs', what: 'time that connections have to finish' },
  { name: 'set', short: 's', value: 'PATH=VALUE', repeats: true, what: 'any setting, such as limits.inFlight=8' },
]
const running: readonly Flag[] = [
  {
    name: 'control',
    value: 'PATH',
    isOptional: true,
    path: 'control.path',
    what: 'answer status, suspend, resume, drain, reload, stop at a Unix socket; default ./gaidaros.sock',
  },
  {
    name: 'pid-file',
    value: 'FILE',
    path: 'control.pidFile',
    what: 'write the process id there; the control socket stands beside it',
  },
  {
    name: 'verbose',
    short: 'v',
    what: 'log connections to standard error; twice: pauses too, and errors with their stack',
  },
  { name: 'quiet', short: 'q', what: 'log errors only' },
]
const json: Flag = { name: 'json', what: 'as JSON' }
const helpFlag: Flag = { name: 'help', short: 'h', what: 'this text' }
const remote: readonly Flag[] = [
  { name: 'control', value: 'PATH', what: 'the control socket; default ./gaidaros.sock' },
  { name: 'pid-file', value: 'FILE', what: 'the pid file, beside which the socket stands' },
]
const timeout: Flag = { name: 'timeout-ms', value: 'N', what: 'time that connections have to finish' }

export interface Command {
  readonly what: string
  readonly usage: string
  /** How many words it takes besides options. */
  readonly operands: number
  readonly flags: readonly Flag[]
  readonly examples: readonly string[]
}

export const commands: Readonly<Record<string, Command>> = {
  serve: {
    what: 'serves until it is stopped',
    usage: '[options]',
    operands: 0,
    flags: [...serving, ...running],
    examples: [
      'gaidaros serve --listen tcp://localhost:8080 --handler ./greeter.ts',
      "gaidaros serve --listen udp://localhost:0 --eval 'line => line.toUpperCase()'",
      'gaidaros serve --config ./gaidaros.config.json --set limits.connections=500',
    ],
  },
  handle: {
    what: 'serves one request of one connection, then exits (0 when answered)',
    usage: '[options]',
    operands: 0,
    flags: [...serving, ...running],
    examples: ["gaidaros handle --listen tcp://localhost:0 --eval 'line => line'"],
  },
  check: {
    what: 'loads configuration and handlers, binds nothing',
    usage: '[options]',
    operands: 0,
    flags: serving,
    examples: ['gaidaros check --config ./gaidaros.config.json'],
  },
  config: {
    what: 'prints the configuration in effect, each value with where it came from',
    usage: '[options]',
    operands: 0,
    flags: [...serving, json],
    examples: ['gaidaros config', 'gaidaros config --json'],
  },
  explain: {
    what: 'prints each listener from endpoint to executor, and why',
    usage: '[options]',
    operands: 0,
    flags: [...serving, json],
    examples: ['gaidaros explain --config ./gaidaros.config.json'],
  },
  init: {
    what: 'writes a small project that runs; `init transport` a transport with its conformance test',
    usage: '[transport] [FOLDER] [--name NAME]',
    operands: 2,
    flags: [{ name: 'name', value: 'NAME', what: 'name of the package, or of the transport and its scheme' }],
    examples: ['gaidaros init my-server', 'gaidaros init transport my-transport --name mine'],
  },
  status: {
    what: 'what a running server does',
    usage: '[options]',
    operands: 0,
    flags: [...remote, json, { name: 'connections', what: 'list the connections too, the first 1000' }],
    examples: ['gaidaros status', 'gaidaros status --connections'],
  },
  suspend: {
    what: 'newcomers wait',
    usage: '[LISTENER] [options]',
    operands: 1,
    flags: remote,
    examples: ['gaidaros suspend public'],
  },
  resume: {
    what: 'newcomers are served again',
    usage: '[LISTENER] [options]',
    operands: 1,
    flags: remote,
    examples: ['gaidaros resume public'],
  },
  reload: {
    what: 'serves configuration and handlers as they are now, without a pause; exit 1 and everything as before when they are no good',
    usage: '[options]',
    operands: 0,
    flags: remote,
    examples: ['gaidaros reload'],
  },
  drain: {
    what: 'begins the orderly end',
    usage: '[options]',
    operands: 0,
    flags: [...remote, timeout],
    examples: ['gaidaros drain'],
  },
  stop: {
    what: 'the orderly end, and waits for it',
    usage: '[options]',
    operands: 0,
    flags: [...remote, timeout],
    examples: ['gaidaros stop --timeout-ms 5000'],
  },
}

export function flagsOf(command: string): readonly Flag[] {
  return [...(Object.hasOwn(commands, command) ? (commands[command]?.flags ?? []) : []), helpFlag]
}
