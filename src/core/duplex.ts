/**
 * A connection as a Node Duplex, for libraries that want one.
 *
 * Room: core, mechanism of the session (`connection.stream()`).
 */
import { Duplex } from 'node:stream'

/** How the stream reaches its connection. */
export interface DuplexPorts {
  write(bytes: Uint8Array): Promise<void>
  end(): void
  abort(error: Error | undefined): void
  pause(): void
  resume(): void
}

/** How the connection feeds the stream. */
export interface DuplexFeed {
  data(bytes: Buffer): void
  end(): void
  close(error: Error | undefined): void
}

export function duplexOf(ports: DuplexPorts): { duplex: Duplex; feed: DuplexFeed } {
  const duplex = new Duplex({
    allowHalfOpen: true,
    read: () => ports.resume(),
    write(chunk: Buffer, _encoding, done) {
      ports.write(chunk).then(() => done(), done)
    },
    final(done) {
      ports.end()
      done()
    },
    destroy(error, done) {
      if (!isClosed) ports.abort(error ?? undefined)
      done(error)
    },
  })
  let isClosed = false
  return {
    duplex,
    feed: {
      data(bytes) {
        if (!duplex.push(bytes)) ports.pause()
      },
      end: () => void duplex.push(null),
      close(error) {
        isClosed = true
        if (error !== undefined) duplex.destroy(error)
        else if (!duplex.readableEnded) duplex.push(null)
      },
    },
  }
}
