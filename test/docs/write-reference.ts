/** Writes the pages that are made from the source: `node build/docs/write-reference.js`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pages, root } from './reference.js'

for (const [path, text] of Object.entries(pages())) writeFileSync(join(root, path), text)
