/** The reference pages as the code would have them; `reference.test.ts` holds the committed ones against these. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { commands, flagsOf } from '#src/cli/flags.js'
import type { OptionField } from '#src/core/option-schema.js'
import { drainRows, limitRows, type OptionRow, serverLimitRows, socketRows, timeoutRows } from '#src/core/options.js'
import { workerFields } from '#src/core/workers/options.js'
import { framers, payloads } from '#src/plugins/codecs/index.js'
import { consolePage } from '#src/plugins/console/index.js'
import { cluster } from '#src/plugins/executors/cluster/front.js'
import { executors } from '#src/plugins/executors/index.js'
import { layers } from '#src/plugins/layers/index.js'
import { middleware } from '#src/plugins/middleware/index.js'
import { health } from '#src/plugins/observability/health.js'
import { logger } from '#src/plugins/observability/logger.js'
import { metrics } from '#src/plugins/observability/metrics.js'
import { tracing } from '#src/plugins/observability/tracing.js'
import { protocols } from '#src/plugins/protocols/index.js'
import { capabilityTable, readConformanceReports } from '#src/testing/index.js'
import { memory } from '#src/transports/memory.js'
import { tcp } from '#src/transports/tcp.js'
import { tls } from '#src/transports/tls.js'
import { udp } from '#src/transports/udp.js'
import { unix } from '#src/transports/unix.js'

export const root = fileURLToPath(new URL('../../', import.meta.url))
const source = (path: string): string => readFileSync(join(root, path), 'utf8')
const made = '<!-- Made from the source by `node build/docs/write-reference.js`; the tests compare. -->\n\n'

/** Paths and their texts; the README with its table put in. */
export function pages(): Readonly<Record<string, string>> {
  return {
    'docs/reference/options.md': optionsPage(),
    'docs/reference/events.md': eventsPage(),
    'docs/reference/errors.md': errorsPage(),
    'docs/reference/cli.md': cliPage(),
    'README.md': readme(),
  }
}

function optionsPage(): string {
  const rows = (table: object): string =>
    Object.entries(table as Record<string, OptionRow>)
      .map(
        ([key, row]) =>
          `| \`${key}\` | ${shownDefault(row)} | ${row.unit}${row.unlimited ? ' or `unlimited`' : ''} | ${row.why}${row.counter ? ` Counter: \`${row.counter}\`.` : ''} |`,
      )
      .join('\n')
  const head = '| key | default | unit | what and why |\n|---|---|---|---|\n'
  const fieldRows = (fields: object): string =>
    Object.entries(fields as Record<string, OptionField>)
      .map(
        ([key, field]) =>
          `| \`${key}\` | ${shownDefault(field)} | ${field.choices ? field.choices.map((one) => `\`${one}\``).join(', ') : field.unit} | ${field.why} |`,
      )
      .join('\n')
  const sections = (title: string, list: readonly { name: string; options?: unknown }[]) =>
    `## ${title}\n\n${list
      .map(({ name, options }) => {
        const fields = (options as { fields?: object } | undefined)?.fields ?? {}
        return `### \`${name}\`\n\n${Object.keys(fields).length === 0 ? 'No options.' : head + fieldRows(fields)}`
      })
      .join('\n\n')}`
  return `# Options

${made}Each stands at a listener, or at the top for all listeners; the listener's own value wins. The same names work in files, in the
environment (\`GAIDAROS_LIMITS__FRAME_BYTES\`), on the command line (\`--set limits.frameBytes=…\`) and in code. Lifting a limit takes
the word \`unlimited\`.

## limits

${head}${rows(limitRows)}

## limits of the whole server

These stand in \`limits\` at the top, and at no listener.

${head}${rows(serverLimitRows)}

## timeouts

${head}${rows(timeoutRows)}

## socket

Each transport takes those it has, and refuses the rest by name.

${head}${rows(socketRows)}

## drain

Of the whole server.

${head}${rows(drainRows)}

## workers

Of the whole server: \`"workers": 4\`, or an object of these.

${head}${fieldRows(workerFields)}

${sections('Transports: the `socket` key', [tcp, tls, unix, udp, memory] as never)}

${sections('Layers', layers as never)}

${sections('Protocols', protocols as never)}

${sections('Codecs', framers as never)}

${sections('Payloads, beside a codec', payloads as never)}

${sections('Middleware', middleware as never)}

${sections('Executors', [...executors, cluster()] as never)}

${sections('Plugins, loaded where `plugins` names them (`gaidaros/plugins/metrics`)', [consolePage, metrics, health, logger, tracing] as never)}
`
}

function shownDefault({ default: value }: { readonly default?: unknown }): string {
  if (value === undefined) return ''
  if (value === Number.POSITIVE_INFINITY) return '`unlimited`'
  return typeof value === 'function' ? '(standard error)' : `\`${JSON.stringify(value).replace(/^"|"$/g, '')}\``
}

function eventsPage(): string {
  const text = source('src/core/events.ts')
  const body = /export interface Events \{\n([\s\S]*?)\n\}/.exec(text)?.[1] ?? ''
  const rows: string[] = []
  const pattern = /(?: {2}\/\*\* ([\s\S]*?) \*\/\n)? {2}'([a-z.]+)': \{([\s\S]*?)\}(?=\n|$)/g
  for (const [, comment, name, fields] of body.matchAll(pattern)) {
    const names = [...(fields ?? '').matchAll(/readonly (\w+):/g)].map(([, field]) => `\`${field}\``).join(', ')
    rows.push(`| \`${name}\` | ${names} | ${(comment ?? '').replace(/\s*\n\s*\*?\s*/g, ' ')} |`)
  }
  return `# Events

${made}On the server (\`server.on('connection.closed', ({ connection, reason }) => …)\`) and, for tools, on \`node:diagnostics_channel\` under
\`gaidaros.<name>\`. Core never logs; an event that nobody listens to costs a look-up.

| event | fields | when |
|---|---|---|
${rows.join('\n')}
`
}

function errorsPage(): string {
  const text = source('src/core/errors.ts')
  const sections: string[] = []
  const classes =
    /\/\*\* ([^*]*(?:\*(?!\/)[^*]*)*)\*\/\nexport class (\w+) extends GaidarosError<\s*([\s\S]*?)\s*> \{\}/g
  for (const [, comment, name, given] of text.matchAll(classes)) {
    const union = /^\w+$/.test(given ?? '')
      ? (new RegExp(`export type ${given} =\\n([\\s\\S]*?)(?=\\n\\n|\\n/\\*\\*|$)`).exec(text)?.[1] ?? '')
      : (given ?? '')
    const codes = [...union.matchAll(/'([A-Z_]+)'(?:[^\n]*?\/\/ ([^\n]*))?/g)].map(
      ([, code, why]) => `| \`${code}\` | ${why ?? ''} |`,
    )
    sections.push(
      `## ${name}\n\n${(comment ?? '').replace(/\s*\n\s*\* ?/g, ' ').trim()}\n\n| code | meaning |\n|---|---|\n${codes.join('\n')}`,
    )
  }
  return `# Errors

${made}One base class, \`GaidarosError\`: a stable \`code\`, documented \`fields\`, the platform's error as \`cause\`. Sorted by whose fault it is and how
far it reaches. \`instanceof\` works over two installed copies of the package.

${sections.join('\n\n')}
`
}

function cliPage(): string {
  const sections = Object.entries(commands).map(([name, { what, usage, examples }]) => {
    const flags = flagsOf(name).map((flag) => {
      const dash = flag.short === undefined ? '' : `\`-${flag.short}\`, `
      return `| ${dash}\`--${flag.name}${flag.value === undefined ? '' : flag.isOptional ? ` [${flag.value}]` : ` ${flag.value}`}\`${flag.repeats ? ' …' : ''} | ${flag.what}${flag.path === undefined ? '' : ` (\`${flag.path}\`)`} |`
    })
    return `## gaidaros ${name}\n\n${what[0]?.toUpperCase()}${what.slice(1)}. Usage: \`gaidaros ${name} ${usage}\`\n\n| option | meaning |\n|---|---|\n${flags.join('\n')}\n\n\`\`\`sh\n${examples.join('\n')}\n\`\`\``
  })
  return `# The command\n\n${made}Exit status: 0 done, 1 failed while running, 2 bad usage, configuration or a failed bind, 130 or 143 stopped by a second
signal. \`serve\` prints \`listening NAME ENDPOINT\` for each bound endpoint and then \`ready\` to standard output; logs go to standard error.

${sections.join('\n\n')}
`
}

/** Runs the conformance suite and puts its table into the README. */
function readme(): string {
  const folder = mkdtempSync(join(tmpdir(), 'gr-'))
  const report = join(folder, 'report.jsonl')
  const test = fileURLToPath(new URL('../conformance/transports.test.js', import.meta.url))
  execFileSync(process.execPath, [test], {
    stdio: 'ignore',
    env: { ...process.env, GAIDAROS_CONFORMANCE_REPORT: report },
  })
  const table = capabilityTable(readConformanceReports(readFileSync(report, 'utf8'))).trim()
  rmSync(folder, { recursive: true, force: true })
  return source('README.md').replace(
    /(<!-- capabilities:[^\n]*-->\n)[\s\S]*?(<!-- \/capabilities -->)/,
    (_, before: string, after: string) => `${before}\n${table}\n\n${after}`,
  )
}
