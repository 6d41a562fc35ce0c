/**
 * What passes between a front and a node on their pair of subjects: a head of 16 bytes, and what it heads.
 *
 * Room: plugins/executors. Whoever may publish may publish anything: what is no envelope is dropped and counted, never
 * believed, and never an exception.
 *
 *   'G' 'N' | version u8 | kind u8 | number u32 | value u32 | length u32 | payload ...      (little endian)
 */

/** A front asks for a link: the payload names it. The first envelope of every link. */
export const OPEN = 1
/** The node has it. */
export const ACCEPT = 2
/** A piece of a batch. number: counts up from 1; value: how many bytes of the same batch are still to come. */
export const DATA = 3
/** value: all bytes of DATA consumed so far, modulo 2^32. */
export const CREDIT = 4
/** A sign of life. number: of the last DATA that was sent; value: as in CREDIT. */
export const BEAT = 5
/** The node takes no more seats; the front gives up those it has. number: in how many milliseconds the node leaves. */
export const RETIRE = 6
/** The link is over, or never was one: the payload says why. */
export const BYE = 7

export type Kind = 1 | 2 | 3 | 4 | 5 | 6 | 7

export interface Envelope {
  readonly kind: Kind
  readonly number: number
  readonly value: number
  /** A view of what came. */
  readonly payload: Buffer
}

export const ENVELOPE_HEAD = 16
const MAGIC = 0x4e47 // 'GN'
const VERSION = 1

export function writeEnvelope(kind: Kind, number = 0, value = 0, payload?: Uint8Array): Buffer {
  const length = payload?.length ?? 0
  const envelope = Buffer.allocUnsafe(ENVELOPE_HEAD + length)
  envelope.writeUInt16LE(MAGIC, 0)
  envelope[2] = VERSION
  envelope[3] = kind
  envelope.writeUInt32LE(number, 4)
  envelope.writeUInt32LE(value, 8)
  envelope.writeUInt32LE(length, 12)
  if (payload !== undefined) envelope.set(payload, ENVELOPE_HEAD)
  return envelope
}

/** @returns undefined for what is no envelope, or one of another version. */
export function readEnvelope(bytes: Uint8Array): Envelope | undefined {
  if (bytes.length < ENVELOPE_HEAD) return undefined
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const kind = buffer[3] as number
  if (buffer.readUInt16LE(0) !== MAGIC || buffer[2] !== VERSION || kind < OPEN || kind > BYE) return undefined
  if (buffer.readUInt32LE(12) !== buffer.length - ENVELOPE_HEAD) return undefined
  return {
    kind: kind as Kind,
    number: buffer.readUInt32LE(4),
    value: buffer.readUInt32LE(8),
    payload: buffer.subarray(ENVELOPE_HEAD),
  }
}

/** Names in subjects: what has no meaning of its own there. */
const TOKEN = /^[A-Za-z0-9_-]{1,64}$/

export function isToken(value: unknown): value is string {
  return typeof value === 'string' && TOKEN.test(value)
}

/** The subjects of a cluster; docs/guide/cluster.md lists them for permissions. */
export function subjectsOf(cluster: string) {
  const root = `gai.${cluster}`
  return {
    /** Nodes say here who they are and how busy. */
    nodes: `${root}.nodes`,
    /** Fronts ask here who is there. */
    who: `${root}.who`,
    instance: (instance: string, link: string) => `${root}.inst.${instance}.${link}`,
    front: (front: string, link: string) => `${root}.front.${front}.${link}`,
    /** Whether an answer may go there: to one of ours, and nowhere else. */
    isOurs: (kind: 'inst' | 'front', subject: string) => {
      const parts = subject.split('.')
      return parts.length === 5 && subject.startsWith(`${root}.${kind}.`) && parts.every(isToken)
    },
  }
}
