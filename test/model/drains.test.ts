// time limit: 400 s
/** A connection's whole life against the model, while its server drains; see expect.ts. */
import { test } from 'uvu'
import { removeFolder, runCell } from './groups.js'
import { overDrains } from './matrix.js'

for (const cell of overDrains) {
  test(`F100 F102 random scripts within a ${cell.name} are answered as the model says`, () => runCell(cell))
}
test.after(removeFolder)
test.run()
