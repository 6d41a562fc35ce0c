/**
 * The codecs that come with Gaidaros: framings and payloads, any of which go together.
 *
 * Room: plugins/codecs. The door registers what stands in these lists, nothing else knows them.
 */
import { beginEnd } from './begin-end.js'
import { bytes } from './bytes-payload.js'
import { cbor, cborPayload } from './cbor.js'
import { cobs } from './cobs.js'
import { delimiter } from './delimiter.js'
import { fixed } from './fixed.js'
import { headerBody } from './header-body.js'
import { jsonLines } from './json-lines.js'
import { json } from './json-payload.js'
import { jsonStream } from './json-stream.js'
import { lengthField } from './length-field.js'
import { line } from './line.js'
import { msgpack, msgpackPayload } from './msgpack.js'
import { netstring } from './netstring.js'
import { raw } from './raw.js'
import { slip } from './slip.js'
import { text } from './text-payload.js'
import { tlv } from './tlv.js'
import { varint } from './varint.js'

export const framers = [
  raw,
  line,
  delimiter,
  beginEnd,
  fixed,
  lengthField,
  headerBody,
  varint,
  netstring,
  cobs,
  slip,
  jsonLines,
  jsonStream,
  msgpack,
  cbor,
] as const
export const payloads = [text, bytes, json, msgpackPayload, cborPayload] as const
/** Those that are framing and payload in one. */
export const codecs = [tlv] as const

export {
  beginEnd,
  bytes,
  cbor,
  cborPayload,
  cobs,
  delimiter,
  fixed,
  headerBody,
  json,
  jsonLines,
  jsonStream,
  lengthField,
  line,
  msgpack,
  msgpackPayload,
  netstring,
  raw,
  slip,
  text,
  tlv,
  varint,
}
