// time limit: 400 s
/** A connection's whole life against the model, through layers; see expect.ts. */
import { test } from 'uvu'
import { removeFolder, runCell } from './groups.js'
import { overLayers } from './matrix.js'

for (const cell of overLayers) {
  test(`F100 F101 random scripts through ${cell.name} are answered as the model says`, () => runCell(cell))
}
test.after(removeFolder)
test.run()
