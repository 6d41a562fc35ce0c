/**
 * Ends a TCP socket with RST, so that its peer can tell a cut from an orderly end.
 *
 * Room: transports.
 */
import type { Socket } from 'node:net'

/**
 * @param raw - A TCP socket.
 * @param writer - The one that is written to: the same, or the TLS socket above it.
 */
export function reset(raw: Socket, writer: Socket): void {
  if (raw.destroyed) return
  // libuv refuses to reset while a shutdown(2) is under way (uv_tcp_close_reset(3), EINVAL), and Node then leaks the
  // handle.
  const isShutting = writer.writableEnded && !writer.writableFinished && writer.writableLength === 0
  if (isShutting) raw.destroy()
  else raw.resetAndDestroy()
}
