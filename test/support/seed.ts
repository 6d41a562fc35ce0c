/** Preloaded before a test of properties: one seed for all of them, see run-file.ts. */
import fc from 'fast-check'
import { SEED } from './run-file.js'

fc.configureGlobal({ seed: SEED })
