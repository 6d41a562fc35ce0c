/** The console's page: asks once a second, shows what it hears, and orders what its reader wants. */
import { Chart, spark } from './charts.js'
import { bytes, bytesParts, count, duration, ms, msParts, roundBytes, roundUp } from './format.js'

const EVERY_MS = 1000
const HIDDEN_MS = 10_000
const PAGE = 25
const MOST_POINTS = 300

const $ = (id) => document.getElementById(id)

/** An element; text is text, never markup. */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined) continue
    if (key === 'class') element.className = value
    else if (key.startsWith('on')) element.addEventListener(key.slice(2), value)
    else if (key in element) element[key] = value
    else element.setAttribute(key, value)
  }
  element.append(
    ...children.filter((child) => child !== undefined).map((child) => (child instanceof Node ? child : String(child))),
  )
  return element
}

// ── who we are ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** From the address's fragment, which browsers send nowhere; kept for this tab alone. */
function takeToken() {
  const [, given] = /[#&]token=([^&]+)/.exec(location.hash) ?? []
  if (given === undefined) return sessionStorage.getItem('token') ?? ''
  sessionStorage.setItem('token', decodeURIComponent(given))
  history.replaceState(null, '', location.pathname)
  return sessionStorage.getItem('token')
}
let token = takeToken()

class Refused extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

async function call(path, body) {
  const response = await fetch(path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(10_000),
  })
  const answer = await response.json()
  if (!response.ok) throw new Refused(response.status, answer.error)
  return answer
}

function askForToken(text) {
  const dialog = $('login')
  if (dialog.open) return
  if (text) $('login-text').textContent = text
  dialog.addEventListener('cancel', (event) => event.preventDefault())
  dialog.addEventListener(
    'close',
    () => {
      token = $('token').value.trim()
      sessionStorage.setItem('token', token)
      $('token').value = ''
      tick()
    },
    { once: true },
  )
  dialog.showModal()
}

// ── what we know ───────────────────────────────────────────────────────────────────────────────────────────────────────

const view = { filter: '', sort: 'ageMs', reverse: false, offset: 0 }
let points = []
let timer

const charts = {
  messages: new Chart($('chart-messages'), {
    series: [
      { key: 'messagesIn', label: 'in', color: '--in', fill: true },
      { key: 'messagesOut', label: 'out', color: '--out' },
    ],
    format: count,
    top: (most) => roundUp(Math.max(10, most)),
  }),
  latency: new Chart($('chart-latency'), {
    series: [
      { key: 'p99Ms', label: 'p99', color: '--p99', fill: true },
      { key: 'p50Ms', label: 'p50', color: '--p50' },
    ],
    format: (value) => (value === 0 ? '0' : ms(value)),
    top: (most) => roundUp(Math.max(0.1, most)),
  }),
  bytes: new Chart($('chart-bytes'), {
    series: [
      { key: 'bytesIn', label: 'in', color: '--in', fill: true },
      { key: 'bytesOut', label: 'out', color: '--out' },
    ],
    format: bytes,
    axis: roundBytes,
    top: (most) => 2 ** Math.ceil(Math.log2(Math.max(1024, most))),
  }),
}

async function tick() {
  clearTimeout(timer)
  if (token === '') {
    askForToken()
    return
  }
  const query = new URLSearchParams({
    since: points.at(-1)?.seq ?? 0,
    filter: view.filter,
    sort: view.sort,
    reverse: view.reverse ? '1' : '0',
    limit: PAGE,
    offset: view.offset,
  })
  try {
    show(await call(`/api/state?${query}`))
    document.body.dataset.state = 'live'
    $('live').textContent = 'live'
  } catch (error) {
    if (error.status === 401) {
      sessionStorage.removeItem('token')
      token = ''
      askForToken('This token is not the server’s. It was printed when the server started, or stands in its file.')
      return
    }
    document.body.dataset.state = 'lost'
    $('live').textContent = error.status ? error.message : 'no answer, trying again'
  }
  timer = setTimeout(tick, document.hidden ? HIDDEN_MS : EVERY_MS)
}

function show(state) {
  const { status, rates, pointKeys, list, isReadOnly } = state
  const newer = state.points.map((values) => Object.fromEntries(pointKeys.map((key, i) => [key, values[i]])))
  // A server that was started again begins at one again.
  if (newer.length > 0 && points.length > 0 && newer[0].seq <= points.at(-1).seq) points = []
  points = [...points, ...newer].slice(-MOST_POINTS)
  showHead(status)
  showAlarms(status.alarms)
  showTiles(status)
  showCharts()
  showListeners(status.listeners, rates, isReadOnly)
  if (list !== null) showConnections(list, isReadOnly)
  showPlaces(status)
  showCounters(status.counters)
}

// ── what we show ───────────────────────────────────────────────────────────────────────────────────────────────────────

const moods = {
  ready: 'good',
  listening: 'good',
  open: 'good',
  suspended: 'warn',
  draining: 'warn',
  mixed: 'warn',
  closed: 'bad',
  stopped: 'bad',
}
const pill = (text, mood = moods[text] ?? '') => el('span', { class: `pill ${mood}` }, text)

function showHead(status) {
  const state = $('server-state')
  state.textContent = status.state
  state.className = `pill ${moods[status.state] ?? ''}`
  const facts = [
    ['up', duration(status.uptimeMs)],
    ['process', status.pid],
    ['version', status.version],
    ...(status.workers ? [['workers', status.workers.length]] : []),
  ]
  $('facts').replaceChildren(...facts.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))))
}

function showAlarms(alarms) {
  $('alarms').hidden = alarms.length === 0
  const rows = alarms.map(({ alarm, listener, worker, value, limit, since }) => {
    const whose = `${listener ?? 'the server'}${worker === undefined ? '' : ` (worker ${worker})`}`
    const at = new Date(since).toLocaleTimeString()
    return el('li', {}, el('b', {}, alarm), ` of ${whose}: ${count(value)} of ${count(limit)}, since ${at}`)
  })
  $('alarms').replaceChildren(...rows)
}

function showTiles(status) {
  const last = points.at(-1) ?? {}
  const refused = Object.entries(status.counters).reduce(
    (sum, [name, n]) => (name.startsWith('refused.') ? sum + n : sum),
    0,
  )
  const limit = status.listeners.reduce((sum, one) => (one.limit === 'unlimited' ? Infinity : sum + one.limit), 0)
  const [memory, unit] = bytesParts(status.memory.residentBytes)
  const tile = (key, label, value, unitOf, note) =>
    el(
      'div',
      { class: 'card tile' },
      spark(points.slice(-60).map((point) => point[key])),
      el('div', { class: 'label' }, label),
      el('div', { class: 'value' }, value, el('small', {}, unitOf)),
      el('div', { class: 'note' }, note),
    )
  $('tiles').replaceChildren(
    tile(
      'connections',
      'Connections',
      count(status.connections),
      '',
      limit === Infinity ? 'no limit' : `of ${count(limit)} allowed`,
    ),
    tile(
      'messagesIn',
      'Messages in',
      count(last.messagesIn),
      '/s',
      last.bytesIn === undefined ? '–' : `${bytes(last.bytesIn)} a second`,
    ),
    tile(
      'messagesOut',
      'Messages out',
      count(last.messagesOut),
      '/s',
      last.bytesOut === undefined ? '–' : `${bytes(last.bytesOut)} a second`,
    ),
    tile(
      'p99Ms',
      'Latency, p99',
      ...msParts(last.p99Ms),
      last.p50Ms === null ? 'nothing measured' : `half within ${ms(last.p50Ms)}`,
    ),
    tile(
      'loopMs',
      'Event loop, p99',
      ...msParts(last.loopMs),
      status.loop ? `at most ${ms(status.loop.maxMs)}` : 'measuring',
    ),
    tile('residentBytes', 'Memory', memory, unit, `heap ${bytes(status.memory.heapBytes)}, refused ${count(refused)}`),
  )
}

function showCharts() {
  const last = points.at(-1) ?? {}
  const legend = (id, entries) =>
    $(id).replaceChildren(
      ...entries.map(([name, value, mark = name]) => el('li', { class: mark }, `${name} `, el('b', {}, value))),
    )
  legend('legend-messages', [
    ['in', count(last.messagesIn)],
    ['out', count(last.messagesOut)],
  ])
  legend('legend-latency', [
    ['p50', ms(last.p50Ms)],
    ['p99', ms(last.p99Ms)],
  ])
  legend('legend-bytes', [
    ['in', bytes(last.bytesIn ?? 0)],
    ['out', bytes(last.bytesOut ?? 0)],
  ])
  for (const chart of Object.values(charts)) chart.show(points)
}

const number = (value, text) => el('td', { class: value > 0 ? 'n' : 'n zero' }, text)

function showListeners(listeners, rates, isReadOnly) {
  fill(
    'listeners',
    listeners,
    (listener) => {
      const rate = rates[listener.name] ?? {}
      const present = listener.connections + listener.handshaking
      const isFull = listener.limit !== 'unlimited' && present >= listener.limit * 0.9
      const usage = el(
        'div',
        { class: isFull ? 'usage full' : 'usage' },
        el('progress', {
          max: listener.limit === 'unlimited' ? 1 : Math.max(1, listener.limit),
          value: listener.limit === 'unlimited' ? 0 : present,
        }),
        el(
          'span',
          {},
          `${count(listener.connections)}${listener.handshaking > 0 ? ` + ${count(listener.handshaking)} handshaking` : ''} of ${listener.limit === 'unlimited' ? '∞' : count(listener.limit)}`,
        ),
      )
      const isSuspended = listener.state === 'suspended'
      const toggle = el(
        'button',
        {
          type: 'button',
          disabled: isReadOnly,
          onclick: () => order(isSuspended ? 'resume' : 'suspend', { listener: listener.name }),
        },
        isSuspended ? 'Resume' : 'Suspend',
      )
      return [
        el('td', { class: 'name' }, listener.name),
        el('td', {}, pill(listener.state)),
        el('td', {}, usage),
        number(rate.messagesIn, count(rate.messagesIn ?? 0)),
        number(rate.bytesIn, bytes(rate.bytesIn ?? 0)),
        number(rate.bytesOut, bytes(rate.bytesOut ?? 0)),
        number(rate.p50Ms, ms(rate.p50Ms)),
        number(rate.p99Ms, ms(rate.p99Ms)),
        el('td', { class: 'mono' }, listener.endpoints.join(' ')),
        el('td', { class: 'soft' }, `${listener.handler}, ${listener.codec}, ${listener.executor}`),
        el('td', { class: 'acts' }, toggle),
      ]
    },
    'No listeners.',
  )
}

function showConnections(list, isReadOnly) {
  const problem = $('filter-problem')
  problem.hidden = list.error === undefined
  problem.textContent = list.error ?? ''
  if (list.error !== undefined) return
  const { total, matched, offset, connections } = list
  $('connections-count').textContent = matched === total ? count(total) : `${count(matched)} of ${count(total)}`
  $('range').textContent =
    connections.length === 0 ? '' : `${offset + 1} to ${offset + connections.length} of ${count(matched)}`
  $('previous').disabled = offset === 0
  $('next').disabled = offset + connections.length >= matched
  if (connections.length === 0 && offset > 0) view.offset = 0
  fill(
    'connections',
    connections,
    (one) => [
      el('td', { class: 'mono' }, one.id),
      el('td', {}, one.listener),
      el('td', { class: 'mono' }, one.remote),
      one.isPaused
        ? el('td', {}, pill('paused', 'warn'))
        : one.state === 'open'
          ? el('td', { class: 'soft' }, 'open')
          : el('td', {}, pill(one.state, 'warn')),
      el('td', { class: 'n' }, duration(one.ageMs)),
      el('td', { class: 'n' }, duration(one.idleMs)),
      number(one.messagesIn, count(one.messagesIn)),
      number(one.bytesIn, bytes(one.bytesIn)),
      number(one.bytesOut, bytes(one.bytesOut)),
      number(one.unsentBytes, one.unsentBytes === 0 ? '0' : bytes(one.unsentBytes)),
      number(one.inFlight, one.inFlight),
      el(
        'td',
        { class: 'acts' },
        el('button', { type: 'button', class: 'kill', disabled: isReadOnly, onclick: () => confirmKill(one) }, 'End'),
      ),
    ],
    view.filter === '' ? 'Nobody is connected.' : 'No connection has this in it.',
  )
}

function showPlaces({ executors, workers = [], connections, memory, pid, state }) {
  const rows = [
    ...(workers.length === 0
      ? [{ name: `process ${pid}`, state, connections, residentBytes: memory.residentBytes }]
      : workers.map((one) => ({ ...one, name: `worker ${one.name}` }))
    ).map((one) => [one.name, one.state, one.connections, undefined, undefined, one.residentBytes]),
    ...executors.flatMap(({ name, running, queued, places }) =>
      places.length === 0
        ? [[name, queued > 0 ? `${queued} wait` : 'ready', undefined, running, undefined, undefined]]
        : places.map((place) => [
            `${name}: ${place.name}`,
            place.state,
            place.connections,
            place.running,
            place.handled,
            place.memoryBytes,
          ]),
    ),
  ]
  const optional = (value, format = count) =>
    value === undefined ? el('td', { class: 'n zero' }, '–') : number(value, format(value))
  fill('places', rows, ([name, mood, held, running, handled, used]) => [
    el('td', { class: 'name' }, name),
    el('td', {}, pill(mood)),
    optional(held),
    optional(running),
    optional(handled),
    optional(used || undefined, bytes),
  ])
}

function showCounters(counters) {
  const rows = Object.entries(counters).sort(([a], [b]) => (a < b ? -1 : 1))
  fill(
    'counters',
    rows,
    ([name, value]) => [el('td', { class: 'mono' }, name), number(value, count(value))],
    'Nothing yet.',
    ([name]) => (/^(refused|dropped|failed|fault)/.test(name) ? 'refusal' : ''),
  )
}

/** Rows of a table's body. One that is being pressed must not be replaced under the pointer. */
function fill(id, rows, cells, none = '', mark = () => '') {
  const table = $(id)
  const body = table.tBodies[0]
  if (body.matches(':active')) return
  const focused = body.contains(document.activeElement)
    ? [...body.querySelectorAll('button')].indexOf(document.activeElement)
    : -1
  body.replaceChildren(...rows.map((row) => el('tr', { class: mark(row) }, ...cells(row))))
  if (rows.length === 0) {
    const columns = table.tHead?.rows[0].cells.length ?? 1
    body.replaceChildren(el('tr', {}, el('td', { class: 'none', colSpan: columns }, none)))
  }
  if (focused >= 0) body.querySelectorAll('button')[focused]?.focus()
}

// ── what we order ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function order(command, body) {
  try {
    const { result } = await call(`/api/${command}`, body)
    await tick()
    return result
  } catch (error) {
    toast(error.message)
    return undefined
  }
}

function confirmKill({ id, remote, listener }) {
  $('kill-id').textContent = id
  $('kill-peer').textContent = `${remote} on ${listener}`
  $('kill-reason').value = ''
  $('kill-now').checked = false
  const dialog = $('kill')
  dialog.returnValue = ''
  dialog.onclose = async () => {
    if (dialog.returnValue !== 'kill') return
    const result = await order('kill', { connection: id, reason: $('kill-reason').value, now: $('kill-now').checked })
    if (result) toast(result.killed > 0 ? `Ended ${id}.` : `${id} was ending already.`)
  }
  dialog.showModal()
  $('kill-reason').focus()
}

let toastTimer
function toast(text) {
  const box = $('toast')
  box.textContent = text
  box.hidden = false
  clearTimeout(toastTimer)
  toastTimer = setTimeout(() => {
    box.hidden = true
  }, 4000)
}

// Enter ends it: the first button of the form would cancel.
$('kill-reason').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter') return
  event.preventDefault()
  $('kill-yes').click()
})
let typing
$('filter').addEventListener('input', () => {
  clearTimeout(typing)
  typing = setTimeout(() => {
    view.filter = $('filter').value.trim()
    view.offset = 0
    tick()
  }, 200)
})
$('previous').addEventListener('click', () => {
  view.offset = Math.max(0, view.offset - PAGE)
  tick()
})
$('next').addEventListener('click', () => {
  view.offset += PAGE
  tick()
})
const sortable = [...document.querySelectorAll('th[data-sort]')]
function markSort() {
  for (const head of sortable) {
    if (head.dataset.sort === view.sort) head.setAttribute('aria-sort', view.reverse ? 'ascending' : 'descending')
    else head.removeAttribute('aria-sort')
  }
}
for (const head of sortable) {
  head.tabIndex = 0
  const choose = () => {
    view.reverse = head.dataset.sort === view.sort ? !view.reverse : false
    view.sort = head.dataset.sort
    view.offset = 0
    markSort()
    tick()
  }
  head.addEventListener('click', choose)
  head.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault()
      choose()
    }
  })
}
markSort()
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) tick()
})
tick()
