// time limit: 400 s
/** A connection's whole life against the model, over each transport; see expect.ts. */
import { test } from 'uvu'
import { removeFolder, runCell } from './groups.js'
import { overTransports } from './matrix.js'

for (const cell of overTransports) {
  test(`F100 F101 random scripts over ${cell.name} are answered as the model says`, () => runCell(cell))
}
test.after(removeFolder)
test.run()
