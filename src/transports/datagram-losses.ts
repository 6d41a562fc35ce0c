/**
 * Counts datagrams that were lost on our side and tells of them, at most once a second for each reason.
 *
 * Room: transports. A flood must not become a flood of reports; each report carries how many it stands for.
 */
import { Endpoint } from '../core/endpoint.js'
import { AcceptError, ConnectionError } from '../core/errors.js'
import type { LinkSink } from '../core/transport.js'

export type LossReason =
  | 'peers-full'
  | 'listener-paused'
  | 'unanswerable'
  | 'refused-port'
  | 'unreceived'
  | 'link-paused'
  | 'unread'
  | 'too-large'
  | 'unsent'
  | 'unkeyed'
  | 'kernel'

const REPORT_MS = 1_000

interface Tally {
  count: number
  address: string
  port: number
  cause: Error | undefined
}

export class DatagramLosses {
  readonly #sink: LinkSink
  readonly #scheme: string
  #tallies: Map<LossReason, Tally> | undefined
  #timer: NodeJS.Timeout | undefined
  #isReportDue = false

  constructor(sink: LinkSink, scheme: string) {
    this.#sink = sink
    this.#scheme = scheme
  }

  /** One more was lost. The first is told of as soon as the caller is done, further ones with the second. */
  add(reason: LossReason, address: string, port: number, cause?: Error, count = 1): void {
    this.#tallies ??= new Map()
    const tally = this.#tallies.get(reason)
    if (tally === undefined) this.#tallies.set(reason, { count, address, port, cause })
    else {
      tally.count += count
      tally.address = address
      tally.port = port
      tally.cause = cause
    }
    if (this.#timer !== undefined || this.#isReportDue) return
    this.#isReportDue = true
    process.nextTick(() => this.#report())
  }

  /** Tells what is left to tell; called when the socket closes. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const tallies = this.#tallies
    this.#tallies = undefined
    if (tallies === undefined) return
    for (const [reason, tally] of tallies) {
      const remote = new Endpoint({ scheme: this.#scheme, host: tally.address, port: tally.port })
      this.#sink.fault?.(lossError(reason, tally, remote), remote)
    }
  }

  #report(): void {
    this.#isReportDue = false
    const hadLosses = this.#tallies !== undefined
    this.flush()
    if (!hadLosses) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#report()
    }, REPORT_MS)
    this.#timer.unref()
  }
}

function lossError(reason: LossReason, { count, cause }: Tally, remote: Endpoint): Error {
  const datagrams = `${count} datagram${count === 1 ? '' : 's'}`
  const fields = { count, reason, remote, ...(cause === undefined ? {} : { cause }) }
  switch (reason) {
    case 'peers-full':
      return new AcceptError(
        'ACCEPT_FAILED',
        `${datagrams} of new peers ignored (last: ${remote}): limits.peers is reached and whenPeersFull is \`refuse\``,
        fields,
      )
    case 'listener-paused':
      return new AcceptError(
        'ACCEPT_FAILED',
        `${datagrams} of new peers lost (last: ${remote}): the listener is paused and holds no more`,
        fields,
      )
    case 'unanswerable':
      return new AcceptError('ACCEPT_FAILED', `${datagrams} without a source port ignored (last: ${remote})`, fields)
    case 'refused-port':
      return new AcceptError(
        'ACCEPT_FAILED',
        `${datagrams} ignored (last: from ${remote}): that would be a loop (socket.refusePorts, or our own address)`,
        fields,
      )
    case 'unkeyed':
      return new AcceptError(
        'ACCEPT_FAILED',
        `${datagrams} ignored (last: from ${remote}): socket.sessionKey threw: ${cause?.message}`,
        fields,
      )
    case 'kernel':
      return new AcceptError(
        'ACCEPT_FAILED',
        `${remote}: ${datagrams} dropped by the kernel: the receive buffer was full; raise net.core.rmem_max and socket.receiveBuffer`,
        fields,
      )
    case 'unreceived':
      return new AcceptError(
        'ACCEPT_FAILED',
        `${remote}: ${count} failed receives (last: ${cause?.message}); the socket lives`,
        fields,
      )
    case 'link-paused':
      return new ConnectionError(
        'RATE_LIMITED',
        `${datagrams} lost (last: of ${remote}): the connection is paused and its queue full; UDP cannot slow a sender`,
        fields,
      )
    case 'unread':
      return new ConnectionError(
        'CLOSED',
        `${datagrams} unread (last: of ${remote}): the connection ended first`,
        fields,
      )
    case 'too-large':
      return new ConnectionError(
        'MESSAGE_TOO_LARGE',
        `${datagrams} not sent (last: to ${remote}): larger than UDP or the network carries`,
        fields,
      )
    case 'unsent':
      return new ConnectionError(
        'TRANSPORT_FAILED',
        `${datagrams} not sent (last: to ${remote}): ${cause?.message}`,
        fields,
      )
  }
}
