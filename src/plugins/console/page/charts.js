/** Line charts on a canvas: a few series over the last minutes, and what they were under the pointer. */
import { roundUp } from './format.js'

const LEFT = 58
const BOTTOM = 20
const TOP = 8

export class Chart {
  #canvas
  #series
  #format
  #axis
  #top
  #points = []
  #pointer
  #spanMs

  /** @param series - `{ key, label, color, fill }`: a filled line, or a dashed one on top of it. */
  constructor(canvas, { series, format, axis = format, top = roundUp, spanMs = 300_000 }) {
    this.#canvas = canvas
    this.#series = series
    this.#format = format
    this.#axis = axis
    this.#top = top
    this.#spanMs = spanMs
    canvas.addEventListener('pointermove', (event) => {
      this.#pointer = event.offsetX
      this.draw()
    })
    canvas.addEventListener('pointerleave', () => {
      this.#pointer = undefined
      this.draw()
    })
    new ResizeObserver(() => this.draw()).observe(canvas)
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw())
  }

  show(points) {
    this.#points = points
    this.draw()
  }

  draw() {
    const canvas = this.#canvas
    const { clientWidth: width, clientHeight: height } = canvas
    if (width === 0) return
    const ratio = devicePixelRatio || 1
    canvas.width = Math.round(width * ratio)
    canvas.height = Math.round(height * ratio)
    const pen = canvas.getContext('2d')
    pen.scale(ratio, ratio)
    const style = getComputedStyle(canvas)
    const color = (name) => style.getPropertyValue(name).trim()
    pen.font = `11px ${style.fontFamily}`
    const points = this.#points
    const keys = this.#series.map(({ key }) => key)
    const most = this.#top(Math.max(0, ...points.flatMap((point) => keys.map((key) => point[key] ?? 0))))
    const floor = height - BOTTOM
    const end = points.at(-1)?.at ?? Date.now()
    // A young server fills the width sooner: a minute at least, five at most.
    const span = Math.min(this.#spanMs, Math.max(60_000, end - (points[0]?.at ?? end)))
    const x = (at) => LEFT + ((at - (end - span)) / span) * (width - LEFT - 6)
    const y = (value) => floor - (Math.min(value, most) / most) * (floor - TOP)

    this.#grid(pen, { width, floor, most, span, y, line: color('--line'), ink: color('--faint') })
    pen.save()
    pen.beginPath()
    pen.rect(LEFT, 0, width - LEFT, floor + 1)
    pen.clip()
    for (const { key, color: name, fill } of this.#series) {
      for (const run of runsOf(points, key)) {
        pen.beginPath()
        run.forEach((point, i) =>
          i === 0 ? pen.moveTo(x(point.at), y(point[key])) : pen.lineTo(x(point.at), y(point[key])),
        )
        pen.lineWidth = fill ? 2 : 1.75
        pen.lineJoin = 'round'
        pen.strokeStyle = color(name)
        // So that one shows the other where they run together, as an echo's do.
        if (!fill) pen.setLineDash([5, 4])
        pen.stroke()
        pen.setLineDash([])
        if (run.length === 1) dot(pen, x(run[0].at), y(run[0][key]), color(name), 2)
        if (!fill || run.length < 2) continue
        pen.lineTo(x(run.at(-1).at), floor)
        pen.lineTo(x(run[0].at), floor)
        const shade = pen.createLinearGradient(0, TOP, 0, floor)
        shade.addColorStop(0, `color-mix(in srgb, ${color(name)} 26%, transparent)`)
        shade.addColorStop(1, `color-mix(in srgb, ${color(name)} 2%, transparent)`)
        pen.fillStyle = shade
        pen.fill()
      }
      const last = points.at(-1)
      if (last && last[key] !== null) dot(pen, x(last.at), y(last[key]), color(name), 3)
    }
    pen.restore()
    if (this.#pointer !== undefined) this.#tell(pen, { x, y, width, floor, color })
  }

  #grid(pen, { width, floor, most, span, y, line, ink }) {
    pen.strokeStyle = line
    pen.fillStyle = ink
    pen.lineWidth = 1
    pen.textAlign = 'right'
    pen.textBaseline = 'middle'
    for (const part of [0, 0.5, 1]) {
      const at = Math.round(y(most * part)) + 0.5
      pen.beginPath()
      pen.moveTo(LEFT, at)
      pen.lineTo(width, at)
      pen.stroke()
      pen.fillText(this.#axis(most * part), LEFT - 8, at)
    }
    pen.textBaseline = 'alphabetic'
    const minutes = span / 60_000
    const label = (share, align) => {
      const ago = minutes * (1 - share)
      pen.textAlign = align
      const text = ago === 0 ? 'now' : ago < 1 ? `−${Math.round(ago * 60)} s` : `−${Number(ago.toFixed(1))} min`
      pen.fillText(text, LEFT + share * (width - LEFT - 6), floor + 15)
    }
    label(0, 'left')
    label(0.5, 'center')
    label(1, 'right')
  }

  #tell(pen, { x, y, width, floor, color }) {
    const nearest = this.#points.reduce(
      (best, point) =>
        best === undefined || Math.abs(x(point.at) - this.#pointer) < Math.abs(x(best.at) - this.#pointer)
          ? point
          : best,
      undefined,
    )
    if (nearest === undefined || this.#pointer < LEFT) return
    const at = x(nearest.at)
    pen.strokeStyle = color('--faint')
    pen.setLineDash([3, 3])
    pen.beginPath()
    pen.moveTo(at, TOP)
    pen.lineTo(at, floor)
    pen.stroke()
    pen.setLineDash([])
    const lines = [
      new Date(nearest.at).toLocaleTimeString(),
      ...this.#series.map(({ key, label }) => `${label} ${nearest[key] === null ? '–' : this.#format(nearest[key])}`),
    ]
    for (const { key, color: name } of this.#series) {
      if (nearest[key] !== null) dot(pen, at, y(nearest[key]), color(name), 3.5)
    }
    const box = Math.max(...lines.map((line) => pen.measureText(line).width)) + 20
    const left = at + box + 12 > width ? at - box - 10 : at + 10
    pen.fillStyle = color('--text')
    pen.beginPath()
    pen.roundRect(left, TOP + 4, box, lines.length * 16 + 10, 7)
    pen.fill()
    pen.fillStyle = color('--card')
    pen.textAlign = 'left'
    pen.textBaseline = 'top'
    lines.forEach((line, i) => pen.fillText(line, left + 10, TOP + 11 + i * 16))
  }
}

/** Where nothing is known there is no line. */
function runsOf(points, key) {
  const runs = []
  let run
  for (const point of points) {
    if (point[key] === null || point[key] === undefined) run = undefined
    else if (run === undefined) runs.push((run = [point]))
    else run.push(point)
  }
  return runs
}

function dot(pen, x, y, color, radius) {
  pen.beginPath()
  pen.arc(x, y, radius, 0, Math.PI * 2)
  pen.fillStyle = color
  pen.fill()
}

const SVG = 'http://www.w3.org/2000/svg'

/** A small line without axes: where a number comes from. */
export function spark(values) {
  const known = values.filter((value) => value !== null && value !== undefined)
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('class', 'spark')
  svg.setAttribute('viewBox', '0 0 100 40')
  svg.setAttribute('preserveAspectRatio', 'none')
  svg.setAttribute('aria-hidden', 'true')
  if (known.length < 2) return svg
  const most = Math.max(...known)
  const least = Math.min(...known, most * 0.6)
  const y = (value) => 34 - ((value - least) / (most - least || 1)) * 24
  const line = known
    .map((value, i) => `${((i / (known.length - 1)) * 100).toFixed(1)} ${y(value).toFixed(1)}`)
    .join(' L ')
  for (const [name, d] of [
    ['area', `M 0 40 L ${line} L 100 40 Z`],
    ['line', `M ${line}`],
  ]) {
    const path = document.createElementNS(SVG, 'path')
    path.setAttribute('class', name)
    path.setAttribute('d', d)
    svg.append(path)
  }
  return svg
}
