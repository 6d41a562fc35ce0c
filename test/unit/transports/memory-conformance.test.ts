import { test } from 'uvu'
import { createMemoryNetwork, transportConformance } from '#src/testing/index.js'
import { memory } from '#src/transports/memory.js'

transportConformance({ name: 'memory', transport: memory, endpoint: 'memory:' }, { test })

transportConformance(
  { name: 'memory (messages)', transport: memory, endpoint: 'memory:', options: { kind: 'message' } },
  { test },
)

// Faults that take nothing away leave every promise standing.
const network = createMemoryNetwork({ seed: 1, faults: { split: 20_000, coalesce: 0.2, delayMs: [0, 2] } })
transportConformance({ name: 'memory (network)', transport: network.transport, endpoint: 'memory:' }, { test })

test.run()
