/**
 * The sockets of a worker: those that its supervisor holds, handed over.
 *
 * Room: transports. What a transport gets in place of binding is an ordinary server that listens on a copy of the descriptor, or
 * one that never listens and is given its connections; or a datagram socket that speaks by a copy and is told what was heard.
 */
import { createSocket, type Socket as DatagramSocket, type SocketType } from 'node:dgram'
import { createServer, type Server, type Socket } from 'node:net'
import { Endpoint, type EndpointParts } from '../core/endpoint.js'
import { BindError } from '../core/errors.js'
import type { DatagramSessions, HandedSockets, SocketSource } from '../core/transport.js'
import { handleOf } from './held-datagrams.js'
import type { NativeHandle } from './held-stream.js'
import { bindServer, guardErrors, serverOptions, type TcpOptions } from './stream-options.js'

interface Bound {
  readonly key: string
  readonly endpoint: EndpointParts
  readonly mode: 'given' | 'own'
  readonly types: readonly string[]
  readonly handles: number
}

interface Taken {
  readonly servers: readonly Server[]
  readonly datagrams: readonly DatagramSocket[]
  readonly options: TcpOptions
}

export class SocketsFromSupervisor {
  readonly #handles = new Map<string, NativeHandle[]>()
  readonly #bound = new Map<string, Bound>()
  readonly #taken = new Map<string, Taken>()
  readonly #sessions = new Map<string, DatagramSessions>()

  /** Takes what a message brought. @returns false: it is about something else. */
  receive(message: { readonly t?: unknown; readonly [key: string]: unknown }, handle: unknown): boolean {
    switch (message.t) {
      case 'c':
        this.#connection(String(message.k), handle as Socket | undefined)
        return true
      case 'u':
        this.#datagrams(String(message.k), Number(message.i), message.d as unknown[])
        return true
      case 'handle': {
        const list = this.#handles.get(String(message.k)) ?? []
        list[Number(message.i)] = handle as NativeHandle
        this.#handles.set(String(message.k), list)
        return true
      }
      default:
        return false
    }
  }

  /**
   * Others take newcomers from now on.
   *
   * @param gone - Sessions that have ended since, by key of the endpoint.
   * @returns whose sessions there are.
   */
  retire(gone: (key: string, sessions: readonly string[]) => void): Record<string, string[]> {
    for (const [key, { datagrams }] of this.#taken) {
      if (this.#sessions.has(key)) continue
      for (const socket of datagrams) (handleOf(socket) as NativeHandle & { recvStop(): void }).recvStop()
    }
    const all: Record<string, string[]> = {}
    for (const [key, sessions] of this.#sessions) {
      all[key] = [...sessions.keys()]
      let ended: string[] = []
      sessions.watch((session) => {
        if (ended.push(session) > 1) return
        setImmediate(() => {
          gone(key, ended)
          ended = []
        })
      })
    }
    return all
  }

  /** What is bound, by key. */
  set bound(list: readonly Bound[]) {
    for (const bound of list) this.#bound.set(bound.key, bound)
  }

  /** For the endpoint of that key. */
  of(key: string): SocketSource {
    return { take: (options) => this.#take(key, options) }
  }

  /** A listener of that key takes connections. */
  isTaken(key: string): boolean {
    return this.#taken.has(key)
  }

  async #take(key: string, options: TcpOptions & { readonly backlog?: number }): Promise<HandedSockets> {
    const bound = this.#bound.get(key)
    if (bound === undefined) throw new BindError('BIND_FAILED', `${key}: the supervisor has bound nothing by that name`)
    const endpoint = new Endpoint(bound.endpoint)
    const handles = this.#handles.get(key) ?? []
    this.#handles.delete(key)
    if (bound.types.length > 0) {
      const datagrams = handles.map((handle, index) => {
        return datagramSocket(handle, bound.types[index] as SocketType, bound.mode === 'own')
      })
      this.#taken.set(key, { servers: [], datagrams, options })
      // One that hears by itself shares its socket with whoever comes next.
      const keep = (sessions: DatagramSessions) => void this.#sessions.set(key, sessions)
      return bound.mode === 'own' ? { endpoint, sockets: datagrams } : { endpoint, sockets: datagrams, keep }
    }
    const servers: Server[] = []
    if (bound.mode === 'given') servers.push(createServer(serverOptions(options)))
    else {
      for (const handle of handles) {
        const server = createServer(serverOptions(options))
        await bindServer(server, { _handle: handle, backlog: options.backlog ?? 511 } as never)
        servers.push(server)
      }
    }
    this.#taken.set(key, { servers, datagrams: [], options })
    return { endpoint, sockets: servers }
  }

  #connection(key: string, socket: Socket | undefined): void {
    // It had gone before it was passed on.
    if (socket === undefined || socket === null) return
    const taken = this.#taken.get(key)
    const [server] = taken?.servers ?? []
    if (taken === undefined || server === undefined) {
      guardErrors(socket).destroy()
      return
    }
    // Late replies to a peer that ended are lost otherwise.
    socket.allowHalfOpen = true
    if (socket.remoteAddress !== undefined) {
      const { noDelay = true, keepAlive = 60_000 } = taken.options
      if (noDelay) socket.setNoDelay(true)
      if (keepAlive !== false) socket.setKeepAlive(true, typeof keepAlive === 'number' ? keepAlive : 60_000)
    }
    server.emit('connection', socket)
  }

  /** Address, port and bytes, one after another. */
  #datagrams(key: string, index: number, list: readonly unknown[]): void {
    const socket = this.#taken.get(key)?.datagrams[index]
    if (socket === undefined) return
    for (let i = 0; i + 2 < list.length; i += 3) {
      const bytes = list[i + 2] as Uint8Array
      const datagram = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      socket.emit('message', datagram, { address: list[i], port: list[i + 1], size: datagram.length })
    }
  }
}

/** @param hears - By itself; else it is told. */
function datagramSocket(handle: NativeHandle, type: SocketType, hears: boolean): DatagramSocket {
  const family = type === 'udp6' ? 6 : 4
  const socket = createSocket({ type, lookup: (host, _options, callback) => callback(null, host, family) })
  // As node:cluster does with a handle it was sent.
  socket.bind(handle as never)
  if (!hears) (handleOf(socket) as NativeHandle & { recvStop(): void }).recvStop()
  return socket
}
