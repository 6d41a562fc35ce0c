/**
 * The alarms there are.
 *
 * Room: core, contract.
 */

/**
 * `connections`: 90 % of a listener's limit, or (without a listener) of the server's. `descriptors`: 90 % of the process's.
 * `memory`: 85 % of the process's memory or heap. `budget`: 80 % of `limits.memoryBytes`.
 * `kept`: 90 % of what a plugin of a listener may keep (`retainedBytes`, `queueBytes` …).
 */
export type AlarmName = 'connections' | 'descriptors' | 'memory' | 'budget' | 'kept'
