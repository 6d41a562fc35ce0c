/**
 * Writes `dist/schema.json`; a step of the build.
 *
 * Room: core, configuration.
 */
import { writeFileSync } from 'node:fs'
import { jsonSchema } from './shape.js'

writeFileSync(new URL('../../schema.json', import.meta.url), `${JSON.stringify(jsonSchema(), null, 2)}\n`)
