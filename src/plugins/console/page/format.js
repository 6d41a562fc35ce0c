/** Numbers as people read them; the same words as the command line's. */

export function count(value) {
  if (value === null || value === undefined) return '–'
  if (value < 10 && value % 1 !== 0) return value.toFixed(1)
  if (value < 100_000) return Math.round(value).toLocaleString('en-US')
  return value < 1e6 ? `${(value / 1e3).toFixed(0)}k` : `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)}M`
}

/** As `[number, unit]`. */
export function bytesParts(amount) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = amount
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return [unit === 0 || value >= 100 ? String(Math.round(value)) : value.toFixed(1), units[unit]]
}

/** For axes, whose numbers are round. */
export function roundBytes(amount) {
  return bytes(amount).replace('.0 ', ' ')
}

export function bytes(amount) {
  return bytesParts(amount).join(' ')
}

export function msParts(ms) {
  if (ms === null || ms === undefined) return ['–', '']
  if (ms < 1) return [String(Math.round(ms * 1000)), 'µs']
  if (ms < 1000) return [ms < 10 ? ms.toFixed(1) : String(Math.round(ms)), 'ms']
  return [(ms / 1000).toFixed(1), 's']
}

export function ms(value) {
  return msParts(value).join(' ').trim()
}

export function duration(value) {
  if (value < 1000) return `${Math.round(value)} ms`
  const seconds = Math.floor(value / 1000)
  if (seconds < 60) return `${seconds} s`
  const [m, h] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)]
  if (h < 1) return `${m} min ${seconds % 60} s`
  return h < 48 ? `${h} h ${m % 60} min` : `${Math.floor(h / 24)} d ${h % 24} h`
}

/** A round number at or above, for the top of an axis; half of it is round too. */
export function roundUp(value) {
  if (!(value > 0)) return 1
  const power = 10 ** Math.floor(Math.log10(value))
  for (const step of [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10]) if (step * power >= value) return step * power
  return value
}
