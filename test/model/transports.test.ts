// time limit: 150 s
/** A connection's whole life against the model, over each transport; see expect.ts. */
import { test } from 'uvu'
import { removeFolder, runGroup, transports } from './groups.js'

for (const transport of transports) {
  test(`F100 F101 random scripts over ${transport} are answered as the model says`, () =>
    runGroup(transport, { transport }, 30))
}
test.after(removeFolder)
test.run()
