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
  {
    name: 'modules-from',
    value: 'FOLDER',
    repeats: true,
    what: 'files and variables may name modules from there too, besides the project',
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
    what: 'where handlers run: inline, task, thread-pool, process-pool, cluster …',
  },
  {
    name: 'cluster',
    value: 'SERVERS',
    path: 'cluster.servers',
    what: 'NATS servers of executor cluster: nats://host:4222, or several with commas',
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
    what: 'answer status, top, kill, reload and the like at a Unix socket; default ./gaidaros.sock',
  },
  {
    name: 'pid-file',
    value: 'FILE',
    path: 'control.pidFile',
    what: 'write the process id there; the control socket stands beside it',
  },
  {
    name: 'daemon',
    path: 'daemon.detach',
    what: 'in the background: returns once the server is ready, or with why it is not',
  },
  {
    name: 'log-file',
    value: 'FILE',
    path: 'daemon.logFile',
    what: 'in place of standard error; opened again on SIGUSR1',
  },
  { name: 'user', value: 'NAME', path: 'daemon.user', what: 'who to be once everything is bound' },
  { name: 'group', value: 'NAME', path: 'daemon.group', what: "its group; default: the user's" },
  {
    name: 'cpu-prof',
    value: 'DIR',
    isOptional: true,
    path: 'profile',
    what: 'CPU profiles of the server, its threads and processes, a file each; default: here',
  },
  {
    name: 'verbose',
    short: 'v',
    what: 'log connections to standard error; twice: pauses too, and errors with their stack',
  },
  { name: 'quiet', short: 'q', what: 'log errors only' },
]
const joining: readonly Flag[] = [
  {
    name: 'config',
    short: 'c',
    value: 'FILE',
    what: 'configuration file, the same as the servers have; default: searched for',
  },
  {
    name: 'cluster',
    value: 'SERVERS',
    path: 'cluster.servers',
    what: 'NATS servers: nats://host:4222, or several with commas',
  },
  {
    name: 'handler',
    value: 'REF',
    path: 'handler',
    what: 'handler: a name, ./file.ts, ./file.ts#Export, package#Export',
  },
  { name: 'eval', short: 'e', value: 'SOURCE', what: "the handler itself: 'line => line.toUpperCase()'" },
  {
    name: 'executor',
    value: 'NAME',
    path: 'node.executor',
    what: 'where handlers run on this machine: inline, task, thread-pool, process-pool …',
  },
  { name: 'name', value: 'NAME', path: 'node.name', what: "first part of the node's name; default: the host's" },
  {
    name: 'control',
    value: 'PATH',
    isOptional: true,
    path: 'node.control.path',
    what: 'answer status, drain and stop at a Unix socket; default ./gaidaros.sock',
  },
  {
    name: 'pid-file',
    value: 'FILE',
    path: 'node.control.pidFile',
    what: 'write the process id there; the control socket stands beside it',
  },
  {
    name: 'modules-from',
    value: 'FOLDER',
    repeats: true,
    what: 'files and variables may name modules from there too, besides the project',
  },
  { name: 'plugin', value: 'REF', repeats: true, path: 'plugins', what: 'a plugin: package or file' },
  {
    name: 'drain-timeout-ms',
    value: 'N',
    path: 'drain.timeoutMs',
    what: 'time that connections have to finish or move on',
  },
  { name: 'set', short: 's', value: 'PATH=VALUE', repeats: true, what: 'any setting, such as cluster.name=eu' },
  { name: 'verbose', short: 'v', what: 'errors with their stack' },
  { name: 'quiet', short: 'q', what: 'log errors only' },
]
const strictness: readonly Flag[] = [
  { name: 'strict', what: 'warnings of `gaidaros doctor` are errors' },
  { name: 'accept', value: 'CHECK', repeats: true, what: 'warnings of one check are known and lived with' },
]
const json: Flag = { name: 'json', what: 'as JSON' }
const helpFlag: Flag = { name: 'help', short: 'h', what: 'this text' }
const remote: readonly Flag[] = [
  { name: 'control', value: 'PATH', what: 'the control socket; default ./gaidaros.sock' },
  { name: 'pid-file', value: 'FILE', what: 'the pid file, beside which the socket stands' },
]
const filter: Flag = { name: 'filter', value: 'TEXT', what: 'those with these words in them, or such as idleMs>60000' }
const listenerFlag: Flag = { name: 'listener', value: 'NAME', what: 'those of one listener' }
const sort: Flag = {
  name: 'sort',
  value: 'KEY',
  what: 'by ageMs (default), idleMs, bytesIn, messagesIn, unsentBytes, remote …',
}
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
    flags: [...serving, ...running, ...strictness],
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
  node: {
    what: 'joins a cluster and runs handlers there for servers elsewhere',
    usage: '[options]',
    operands: 0,
    flags: joining,
    examples: [
      'gaidaros node --cluster nats://nats.internal:4222 --config ./gaidaros.config.json',
      'gaidaros node --cluster nats://localhost:4222 --handler ./greeter.ts --executor thread-pool',
    ],
  },
  check: {
    what: 'loads configuration and handlers, binds nothing',
    usage: '[options]',
    operands: 0,
    flags: serving,
    examples: ['gaidaros check --config ./gaidaros.config.json'],
  },
  doctor: {
    what: 'looks at configuration and machine, binds nothing, and says what to do',
    usage: '[options]',
    operands: 0,
    // All of `serve`: its command line can be looked at as it is.
    flags: [...serving, ...running, ...strictness, json],
    examples: ['gaidaros doctor', 'gaidaros doctor --strict --accept plaintext --json'],
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
    flags: [...remote, { name: 'connections', what: 'the first of its connections as well' }, json],
    examples: ['gaidaros status', 'gaidaros status --json'],
  },
  top: {
    what: 'a running server live: listeners, connections, rates, latencies, executors',
    usage: '[options]',
    operands: 0,
    flags: [
      ...remote,
      { name: 'once', what: 'one frame to standard output, without keys, for scripts' },
      { name: 'interval-ms', value: 'N', what: 'time between frames; default 1000' },
      sort,
      filter,
    ],
    examples: ['gaidaros top', "gaidaros top --once --sort bytesIn --filter 'public'"],
  },
  connections: {
    what: 'who is connected, a page at a time',
    usage: '[FILTER …] [options]',
    operands: 8,
    flags: [
      ...remote,
      listenerFlag,
      sort,
      { name: 'reverse', what: 'the smallest first' },
      { name: 'limit', value: 'N', what: 'rows of a page, 500 at most; default 50' },
      { name: 'offset', value: 'N', what: 'rows left out before it' },
      json,
    ],
    examples: ['gaidaros connections', "gaidaros connections 192.0.2.7 'idleMs>60000' --sort bytesIn --json"],
  },
  kill: {
    what: 'ends connections, with a reason',
    usage: '[CONNECTION [REASON]] [options]',
    operands: 2,
    flags: [
      ...remote,
      listenerFlag,
      { name: 'source', value: 'NETWORK', what: 'those of an address, or of a network such as 192.0.2.0/24' },
      filter,
      { name: 'reason', value: 'TEXT', what: 'told in events and logs, with the close reason KILLED' },
      { name: 'now', what: 'without sending what waits' },
      json,
    ],
    examples: ['gaidaros kill 4f maintenance', "gaidaros kill --source 192.0.2.0/24 --reason 'floods us' --now"],
  },
  limit: {
    what: 'changes a limit while the server runs',
    usage: 'PATH=VALUE [options]',
    operands: 1,
    flags: [...remote, json],
    examples: [
      'gaidaros limit limits.connections=500',
      'gaidaros limit listeners.public.limits.connectionsPerSource=20',
    ],
  },
  tap: {
    what: 'the messages of one connection, live, as JSON lines; secrets hidden',
    usage: 'CONNECTION [options]',
    operands: 1,
    flags: [
      ...remote,
      { name: 'rate', value: 'N', what: 'most messages a second; default 100, what is left out is counted' },
      { name: 'characters', value: 'N', what: 'most characters of one message; default 1024' },
    ],
    examples: ['gaidaros tap 4f'],
  },
  suspend: {
    what: 'newcomers wait',
    usage: '[LISTENER] [options]',
    operands: 1,
    flags: [...remote, json],
    examples: ['gaidaros suspend public'],
  },
  resume: {
    what: 'newcomers are served again',
    usage: '[LISTENER] [options]',
    operands: 1,
    flags: [...remote, json],
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
