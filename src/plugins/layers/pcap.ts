/**
 * `pcap`: a capture file of what passes here, for Wireshark and tshark.
 *
 * Room: plugins/layers. Inside TLS it shows what TLS hides. The file has the classic format (draft-ietf-opsawg-pcap), link
 * type RAW (101); addresses are the connection's, handshakes and acknowledgements are made up, so that every tool follows.
 */
import { closeSync, openSync, renameSync } from 'node:fs'
import { BindError, toError } from '../../core/errors.js'
import { LayerLink, LayerSink } from '../../core/layer-link.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Layer, LayerScope } from '../../core/plugin.js'
import type { Link, LinkSink } from '../../core/transport.js'
import { LayerFile } from './layer-file.js'
import { ACK, FIN, PSH, RST, SEGMENT_BYTES, type Side, SYN, sidesOf, tcpPacket, udpPacket } from './packets.js'

export interface PcapOptions {
  file: string
  maxBytes: number
}

const LINKTYPE_RAW = 101
/** Waiting for the disk; beyond it packets are left out. */
const MOST_WAITING = 4 * 1024 * 1024

export const pcap: Factory<Layer, PcapOptions> = {
  name: 'pcap',
  options: optionSchema<PcapOptions>({
    file: { unit: 'text', required: true, why: 'The capture file; one that is there is replaced. Mode 0600.' },
    maxBytes: {
      unit: 'bytes',
      min: 1_000,
      default: 100 * 1024 * 1024,
      unlimited: true,
      why: 'A file of so many bytes becomes FILE.1 and a new one is begun; two are kept.',
    },
  }),
  create(options) {
    const capture = new Capture(options)
    return { carriesMessages: true, wrap: (above, scope) => new PcapSink(above, scope, capture) }
  },
}

class Capture {
  readonly #options: PcapOptions
  readonly file: LayerFile
  /** Of the file; 0: it is not begun. */
  #size = 0

  constructor(options: PcapOptions) {
    this.#options = options
    this.file = new LayerFile(options.file, 'pcap')
  }

  /** @throws {BindError} for a file that cannot be written. Reach: the start. */
  check(): void {
    const { file } = this.#options
    try {
      closeSync(openSync(file, 'a', 0o600))
    } catch (cause) {
      throw new BindError('PERMISSION_DENIED', `layer pcap: ${file} cannot be written: ${toError(cause).message}`, {
        cause,
      })
    }
  }

  add(packet: Buffer): void {
    if (this.#size === 0 || this.#size > this.#options.maxBytes) this.#begin()
    if (this.file.waiting > MOST_WAITING) return
    const head = Buffer.alloc(16)
    const now = performance.timeOrigin + performance.now()
    head.writeUInt32LE(Math.floor(now / 1_000), 0)
    head.writeUInt32LE(Math.floor((now % 1_000) * 1_000), 4)
    head.writeUInt32LE(packet.length, 8)
    head.writeUInt32LE(packet.length, 12)
    this.file.add(Buffer.concat([head, packet]))
    this.#size += 16 + packet.length
  }

  #begin(): void {
    const { file } = this.#options
    if (this.#size > 0) renameSync(file, `${file}.1`)
    const head = Buffer.alloc(24)
    head.writeUInt32LE(0xa1b2c3d4, 0)
    head.writeUInt16LE(2, 4)
    head.writeUInt16LE(4, 6)
    head.writeUInt32LE(65_535, 16)
    head.writeUInt32LE(LINKTYPE_RAW, 20)
    this.file.replace(head)
    this.#size = head.length
  }
}

class CapturedLink extends LayerLink {
  readonly #capture: Capture
  readonly #isStream: boolean
  readonly #us: Side
  readonly #peer: Side
  #sent = 1_000
  #heard = 5_000
  #isOver = false
  #hasEnded = false

  constructor(below: Link, capture: Capture, scope: LayerScope) {
    super(below)
    this.#capture = capture
    this.#isStream = scope.kind === 'stream'
    // Peers without an address are told apart by their ports.
    this.#us = sidesOf(below.local, 1)
    this.#peer = sidesOf(below.remote, nextPort())
    if (!this.#isStream) return
    const isServer = scope.side === 'accepted'
    const [client, server] = isServer ? [this.#peer, this.#us] : [this.#us, this.#peer]
    const [first, second] = isServer ? [this.#heard++, this.#sent++] : [this.#sent++, this.#heard++]
    this.#put(client, server, { seq: first, ack: 0, flags: SYN })
    this.#put(server, client, { seq: second, ack: first + 1, flags: SYN | ACK })
    this.#put(client, server, { seq: first + 1, ack: second + 1, flags: ACK })
  }

  override write(bytes: Uint8Array): boolean {
    this.#passed(true, bytes)
    return super.write(bytes)
  }
  override end(reason?: string): void {
    if (this.#isStream && !this.#isOver && !this.#hasEnded)
      this.#put(this.#us, this.#peer, { seq: this.#sent++, ack: this.#heard, flags: FIN | ACK })
    this.#hasEnded = true
    super.end(reason)
  }
  override abort(reason?: Error): void {
    this.#reset(this.#us, this.#peer, this.#sent)
    super.abort(reason)
  }
  came(bytes: Uint8Array): void {
    this.#passed(false, bytes)
  }
  ended(): void {
    if (this.#isStream) this.#put(this.#peer, this.#us, { seq: this.#heard++, ack: this.#sent, flags: FIN | ACK })
  }
  closed(error: Error | undefined): void {
    if (error !== undefined) this.#reset(this.#peer, this.#us, this.#heard)
    this.#isOver = true
  }

  #passed(isOurs: boolean, bytes: Uint8Array): void {
    const [from, to] = isOurs ? [this.#us, this.#peer] : [this.#peer, this.#us]
    if (!this.#isStream) return this.#capture.add(udpPacket(from, to, bytes))
    for (let at = 0; at < bytes.length; at += SEGMENT_BYTES) {
      const part = bytes.subarray(at, at + SEGMENT_BYTES)
      const [seq, ack] = isOurs ? [this.#sent, this.#heard] : [this.#heard, this.#sent]
      this.#put(from, to, { seq, ack, flags: PSH | ACK }, part)
      if (isOurs) this.#sent += part.length
      else this.#heard += part.length
    }
  }

  #reset(from: Side, to: Side, seq: number): void {
    if (this.#isStream && !this.#isOver) this.#put(from, to, { seq, ack: 0, flags: RST })
    this.#isOver = true
  }

  #put(
    from: Side,
    to: Side,
    given: { seq: number; ack: number; flags: number },
    payload: Uint8Array = new Uint8Array(),
  ): void {
    this.#capture.add(tcpPacket(from, to, given, payload))
  }
}

let port = 1_023
function nextPort(): number {
  port = port >= 65_535 ? 1_024 : port + 1
  return port
}

class PcapSink extends LayerSink<CapturedLink> {
  readonly #scope: LayerScope
  readonly #capture: Capture

  constructor(above: LinkSink, scope: LayerScope, capture: Capture) {
    super(above)
    this.#scope = scope
    this.#capture = capture
    capture.check()
  }

  protected override make(below: Link): CapturedLink {
    this.#capture.file.enter()
    return new CapturedLink(below, this.#capture, this.#scope)
  }
  override data(below: Link, buffer: Uint8Array, start: number, end: number): void {
    this.linkOf(below).came(buffer.subarray(start, end))
    super.data(below, buffer, start, end)
  }
  override end(below: Link, reason?: string): void {
    this.linkOf(below).ended()
    super.end(below, reason)
  }
  override close(below: Link, error?: Error): void {
    this.linkOf(below).closed(error)
    this.#capture.file.leave()
    super.close(below, error)
  }
}
