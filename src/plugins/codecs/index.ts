/**
 * The codecs that come with Gaidaros: framings and payloads, any of which go together.
 *
 * Room: plugins/codecs. The door registers what stands in these lists, nothing else knows them.
 */
import { bytes } from './bytes-payload.js'
import { delimiter } from './delimiter.js'
import { fixed } from './fixed.js'
import { jsonLines } from './json-lines.js'
import { json } from './json-payload.js'
import { lengthField } from './length-field.js'
import { line } from './line.js'
import { netstring } from './netstring.js'
import { raw } from './raw.js'
import { text } from './text-payload.js'
import { varint } from './varint.js'

export const framers = [raw, line, delimiter, fixed, lengthField, varint, netstring, jsonLines] as const
export const payloads = [text, bytes, json] as const

export { bytes, delimiter, fixed, json, jsonLines, lengthField, line, netstring, raw, text, varint }
