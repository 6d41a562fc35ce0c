/**
 * Peers of a script: raw bytes over sockets, through zlib, in memory, and messages over a WebSocket.
 */
import { connect as connectNet, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { constants, createGunzip, createGzip } from 'node:zlib'
import { type Link, parseEndpoint } from 'gaidaros'
import { memory } from 'gaidaros/transports/memory'
import { WebSocket } from 'ws'

export interface PeerEvents {
  /** A piece of a stream; on a message transport a message. */
  data(bytes: Buffer): void
  /** The server has finished its side. */
  end(): void
  /** Both are over; last. @param code - Of a WebSocket. */
  close(isCut: boolean, code?: number): void
}

export interface WirePeer {
  /** @param isLast - Of its message; a WebSocket sends the rest as fragments. */
  write(bytes: Buffer, isLast: boolean): void
  end(): void
  reset(): void
  pause(): void
  resume(): void
}

export interface Where {
  /** As the listener has it. */
  readonly endpoint: string
  readonly ca?: string | undefined
  /** A layer of the listener that its peers must speak as well. */
  readonly layer?: 'gzip' | 'proxy-protocol' | undefined
}

/** Connects; rejects where nobody listens. */
export function open(where: Where, events: PeerEvents): Promise<WirePeer> {
  const { endpoint } = where
  if (endpoint.startsWith('memory:')) return openMemory(endpoint, events)
  if (endpoint.startsWith('ws:')) return openWebSocket(endpoint, events)
  return openSocket(where, events)
}

async function openSocket({ endpoint, ca, layer }: Where, events: PeerEvents): Promise<WirePeer> {
  const { path, port, scheme } = parseEndpoint(endpoint)
  const options = {
    ...(path === undefined ? { host: '127.0.0.1', port: port as number } : { path }),
    allowHalfOpen: true,
  }
  // Nagle's delay would join what the script cuts.
  const socket: Socket =
    scheme === 'tls' ? connectTls({ ...options, ca, servername: 'localhost' } as never) : connectNet(options as never)
  let hasEnded = false
  let error: Error | undefined
  socket.on('error', (thrown) => (error = thrown))
  await new Promise<void>((resolve, reject) => {
    socket.once(scheme === 'tls' ? 'secureConnect' : 'connect', resolve)
    socket.once('close', () => reject(error ?? new Error(`${endpoint} closed while connecting`)))
  })
  if (path === undefined) socket.setNoDelay(true)
  const closed = () => events.close(!hasEnded)
  const ended = () => {
    hasEnded = true
    events.end()
  }
  if (layer === 'proxy-protocol') socket.write('PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n')
  if (layer === 'gzip') return squeezed(socket, events, ended, closed)
  socket.once('close', closed)
  socket.on('data', events.data)
  socket.once('end', ended)
  return {
    write: (bytes) => void socket.write(bytes),
    end: () => void socket.end(),
    // Node resets plain TCP sockets only (`ERR_INVALID_HANDLE_TYPE` else).
    reset: () => void (scheme === 'tcp' ? socket.resetAndDestroy() : socket.destroy()),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
  }
}

function squeezed(socket: Socket, events: PeerEvents, ended: () => void, closed: () => void): WirePeer {
  const squeeze = createGzip({ flush: constants.Z_SYNC_FLUSH })
  const loosen = createGunzip({ flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH })
  let isOver = false
  squeeze.pipe(socket)
  socket.pipe(loosen)
  // A stream that was cut is judged by what came of it.
  loosen.on('error', () => {})
  squeeze.on('error', () => {})
  loosen.on('data', events.data)
  loosen.once('end', ended)
  // Zlib works on a thread of its own: what it was given last may come after the socket is closed.
  const loosened = new Promise<void>((resolve) => loosen.once('close', resolve))
  socket.once('close', (isBroken) => {
    isOver = true
    if (isBroken) loosen.destroy()
    else loosen.end()
    void loosened.then(closed)
  })
  return {
    write: (bytes) => void (isOver || squeeze.write(bytes)),
    end: () => void squeeze.end(),
    reset: () => void socket.resetAndDestroy(),
    pause: () => void loosen.pause(),
    resume: () => void loosen.resume(),
  }
}

async function openMemory(endpoint: string, events: PeerEvents): Promise<WirePeer> {
  let hasEnded = false
  const link: Link = await (memory.connect as NonNullable<typeof memory.connect>)(
    parseEndpoint(endpoint),
    {},
    {
      open() {},
      data: (_, buffer, start, end) => events.data(Buffer.from(buffer.subarray(start, end))),
      end() {
        hasEnded = true
        events.end()
      },
      drain() {},
      close: (_, error) => events.close(!hasEnded || error !== undefined),
    },
    new AbortController().signal,
  )
  return {
    write: (bytes) => void link.write(bytes),
    end: () => link.end(),
    reset: () => link.abort(),
    pause: () => link.pause(),
    resume: () => link.resume(),
  }
}

async function openWebSocket(endpoint: string, events: PeerEvents): Promise<WirePeer> {
  const socket = new WebSocket(endpoint, { perMessageDeflate: false, closeTimeout: 60_000 } as object)
  socket.on('error', () => {})
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve)
    socket.once('close', () => reject(new Error(`${endpoint} refused`)))
  })
  socket.on('message', (data: Buffer) => events.data(data))
  socket.once('close', (code) => events.close(code === 1006, code))
  const isOpen = () => socket.readyState === WebSocket.OPEN
  return {
    write: (bytes, isLast) => void (isOpen() && socket.send(bytes, { fin: isLast, binary: false })),
    end: () => void (isOpen() && socket.close(1000)),
    reset: () => socket.terminate(),
    pause: () => void (isOpen() && socket.pause()),
    // A close of ours goes on reading until the server's comes.
    resume: () => void (socket.readyState !== WebSocket.CLOSED && socket.resume()),
  }
}
