/**
 * The page's requests and their answers.
 *
 * Room: plugins/console. Files of the page to whoever asks under a known name; data and deeds for the token's holder.
 */
import { readFileSync } from 'node:fs'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { toError } from '../../core/errors.js'
import type { Feed } from './feed.js'
import { type Refusal, refusalOfAccess, refusalOfHost, securityHeaders } from './guard.js'
import type { Token } from './token.js'

export interface AppParts {
  readonly feed: Feed
  readonly token: Token
  readonly hosts: readonly string[]
  readonly isReadOnly: boolean
}

const files: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['console.html', 'text/html; charset=utf-8'],
  '/console.css': ['console.css', 'text/css; charset=utf-8'],
  '/console.js': ['console.js', 'text/javascript; charset=utf-8'],
  '/charts.js': ['charts.js', 'text/javascript; charset=utf-8'],
  '/format.js': ['format.js', 'text/javascript; charset=utf-8'],
  '/icon.svg': ['icon.svg', 'image/svg+xml'],
}

/** What the page may order, and what of its order is passed on. */
const orders: Readonly<Record<string, readonly string[]>> = {
  kill: ['connection', 'listener', 'filter', 'reason', 'now'],
  suspend: ['listener'],
  resume: ['listener'],
  limit: ['path', 'value'],
}

const MOST_BODY = 16 * 1024

export function consoleApp(parts: AppParts): RequestListener {
  return (request, response) => {
    answer(parts, request, response).catch((error) => {
      if (!response.headersSent) refuse(response, { status: 500, message: 'this went wrong' })
      else response.destroy(toError(error))
    })
  }
}

async function answer(parts: AppParts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { feed, token, hosts, isReadOnly } = parts
  for (const [name, value] of Object.entries(securityHeaders)) response.setHeader(name, value)
  const { localAddress } = request.socket
  const host = refusalOfHost(request, hosts, localAddress?.includes(':') ? `[${localAddress}]` : localAddress)
  if (host !== undefined) return refuse(response, host)
  const { method = 'GET', url = '/' } = request
  const mark = url.indexOf('?')
  const path = mark < 0 ? url : url.slice(0, mark)
  if (method === 'GET' && Object.hasOwn(files, path)) return sendFile(response, files[path] as [string, string])
  if (!path.startsWith('/api/')) return refuse(response, { status: 404, message: 'there is nothing here' })
  const access = refusalOfAccess(request, token)
  if (access !== undefined) return refuse(response, access)
  if (method === 'GET' && path === '/api/state') {
    const query = new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1))
    return sendState(response, feed, query, isReadOnly)
  }
  const command = path.slice('/api/'.length)
  if (method === 'POST' && Object.hasOwn(orders, command)) {
    if (isReadOnly) return refuse(response, { status: 403, message: 'this console changes nothing (readOnly)' })
    return obey(response, feed, command, await bodyOf(request))
  }
  return refuse(response, { status: 404, message: 'there is nothing here' })
}

async function sendState(response: ServerResponse, feed: Feed, query: URLSearchParams, isReadOnly: boolean) {
  const state = await feed.state(Number(query.get('since') ?? 0) || 0)
  let list: unknown
  try {
    list = await feed.connections({
      filter: query.get('filter') ?? undefined,
      sort: query.get('sort') ?? undefined,
      reverse: query.get('reverse') === '1',
      limit: Number(query.get('limit') ?? 50),
      offset: Number(query.get('offset') ?? 0),
    })
  } catch (error) {
    list = { error: toError(error).message }
  }
  sendJson(response, 200, { ...state, list: list ?? null, isReadOnly })
}

async function obey(response: ServerResponse, feed: Feed, command: string, body: Record<string, unknown> | undefined) {
  if (body === undefined) return refuse(response, { status: 400, message: 'expected a JSON object' })
  const request: { command: string; [key: string]: unknown } = { command }
  for (const key of orders[command] ?? []) if (Object.hasOwn(body, key)) request[key] = body[key]
  try {
    sendJson(response, 200, { result: await feed.order(request) })
  } catch (error) {
    refuse(response, { status: 409, message: toError(error).message })
  }
}

/** @returns undefined for what is no JSON object, or too much. */
async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown> | undefined> {
  let text = ''
  for await (const chunk of request) {
    text += chunk
    if (text.length > MOST_BODY) return undefined
  }
  try {
    const body: unknown = JSON.parse(text)
    return typeof body === 'object' && body !== null && !Array.isArray(body)
      ? (body as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}

/** Read once; they do not change while the package is installed. */
const read = new Map<string, Buffer>()

function sendFile(response: ServerResponse, [file, type]: readonly [string, string]): void {
  const bytes = read.get(file) ?? readFileSync(new URL(`./page/${file}`, import.meta.url))
  read.set(file, bytes)
  response.writeHead(200, { 'content-type': type, 'content-length': bytes.length }).end(bytes)
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value)
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  })
  response.end(body)
}

function refuse(response: ServerResponse, { status, message }: Refusal): void {
  if (status === 401) response.setHeader('www-authenticate', 'Bearer')
  // What was not read of a request is not waited for.
  response.setHeader('connection', 'close')
  sendJson(response, status, { error: message })
}
