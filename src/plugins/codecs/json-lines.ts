/**
 * One JSON value a line.
 *
 * Room: plugins/codecs. JSON Lines (jsonlines.org): the framing of `line`, the payload of `json`.
 */
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { lineFraming } from './line.js'

export interface JsonLinesOptions {
  readonly unterminated: 'refuse' | 'deliver'
}

/**
 * JSON values, each ended by a line feed.
 *
 * A blank line is no JSON value and is `MALFORMED`, as jsonlines.org has it: bytes that make no message would escape
 * the limits that count messages. What goes out has no line feed within a value, because JSON writes those as `\n`.
 *
 * @throws {FrameError} `TOO_LARGE` over the smaller of `limits.lineBytes` and `limits.frameBytes`; `MALFORMED`. Reach:
 *   this connection.
 * @example
 * { "endpoint": "tcp://[::]:8080", "codec": { "name": "json-lines", "payload": { "name": "json", "depth": 8 } } }
 */
export const jsonLines: Factory<Framing, JsonLinesOptions> = {
  name: 'json-lines',
  options: optionSchema<JsonLinesOptions>({
    unterminated: {
      unit: 'choice',
      choices: ['refuse', 'deliver'],
      default: 'refuse',
      why: 'A last value whose peer finished before its end: `TRUNCATED`, as 12 may be the front of 123; or a value.',
    },
  }),
  create: ({ unterminated }) => lineFraming({ terminator: 'lf', unterminated, embedded: 'allow' }, 'json'),
}
