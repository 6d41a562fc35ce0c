/**
 * Topics and filters of MQTT.
 *
 * Room: plugins/protocols. MQTT 5.0, section 4.7.
 */

export function levelsOf(topicOrFilter: string): readonly string[] {
  return topicOrFilter.split('/')
}

/** True when a topic falls under a filter; `+` is one level, `#` all that follow. */
export function matches(filter: string, topic: string): boolean {
  return matchesLevels(levelsOf(filter), levelsOf(topic))
}

export function matchesLevels(wanted: readonly string[], given: readonly string[]): boolean {
  // 4.7.2: wildcards at the front do not take topics of the server's own.
  if (given[0]?.startsWith('$') && (wanted[0] === '+' || wanted[0] === '#')) return false
  for (let level = 0; level < wanted.length; level++) {
    if (wanted[level] === '#') return true
    if (level >= given.length) return false
    if (wanted[level] !== '+' && wanted[level] !== given[level]) return false
  }
  return wanted.length === given.length
}

/** As mosquitto has it: what compares filters and topics, level by level, is bounded by it. */
const MOST_LEVELS = 200

/** 4.7.1: `#` last and alone in its level, `+` alone in its level; at most 200 levels. */
export function isFilter(filter: string): boolean {
  if (filter === '' || filter.includes('\0') || isDeep(filter)) return false
  const levels = filter.split('/')
  return levels.every((level, index) => {
    if (level === '#') return index === levels.length - 1
    return level === '+' || !/[+#]/.test(level)
  })
}

/** Without wildcards, and of at most 200 levels. */
export function isTopic(topic: string): boolean {
  return topic !== '' && !/[+#\0]/.test(topic) && !isDeep(topic)
}

function isDeep(topic: string): boolean {
  let levels = 1
  for (let at = topic.indexOf('/'); at >= 0; at = topic.indexOf('/', at + 1)) if (++levels > MOST_LEVELS) return true
  return false
}
