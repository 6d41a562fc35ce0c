#!/usr/bin/env node
/**
 * The command `gaidaros`. Tiny on purpose: `--version` and `--help` load nothing else.
 *
 * Room: the command line.
 */
import { version } from './version.js'

const [first] = process.argv.slice(2)
if (first === '--version' || first === '-V') console.log(version)
else process.exitCode = await (await import('./cli/main.js')).main(process.argv.slice(2))
