/**
 * The form of a codec case.
 *
 * Room: testing.
 */
import { CodecRig, type CodecSubject } from './codec-subject.js'
import type { ConformanceCase } from './conformance.js'

export type CodecCase = ConformanceCase<CodecSubject>
type Condition = CodecCase['without']

export function codecCase(
  id: string,
  proves: string,
  without: Condition,
  body: (rig: CodecRig) => string | void,
): CodecCase {
  return { id, proves, without, run: (subject) => body(new CodecRig(subject, id)) }
}

export const always: Condition = undefined
export const onStreams: Condition = ({ codec }) => (codec.framer === undefined ? 'the codec has no framer' : undefined)
