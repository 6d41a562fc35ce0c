// time limit: 400 s
/** A connection's whole life against the model, wherever its handler runs; see expect.ts. */
import { test } from 'uvu'
import { removeFolder, runCell } from './groups.js'
import { overExecutors } from './matrix.js'

for (const cell of overExecutors) {
  test(`F100 random scripts by ${cell.name} are answered as the model says`, () => runCell(cell))
}
test.after(removeFolder)
test.run()
