/**
 * Injection, with a real database behind it: the handler asks for a NoteBook and gets one; what the server constructs it
 * disposes in the end. SQLite runs embedded (node-sqlite3-wasm); `NOTES=./notes.db` keeps the notes.
 *
 *   npx gaidaros serve --config examples/10-dependency-injection.ts
 *   printf 'buy bread\n?\n' | ncat localhost 8080        → noted 1, then: 1 buy bread
 */
import { defineConfig, Handler, OnMessage } from 'gaidaros'
import sqlite from 'node-sqlite3-wasm'

export class NoteBook {
  readonly #db = new sqlite.Database(process.env.NOTES ?? ':memory:')

  constructor() {
    this.#db.exec('create table if not exists notes (id integer primary key, text text not null)')
  }
  add(text: string) {
    return this.#db.run('insert into notes (text) values (?)', [text]).lastInsertRowid
  }
  all() {
    return this.#db.all('select id, text from notes order by id') as { id: number; text: string }[]
  }
  dispose() {
    this.#db.close()
  }
}

@Handler({ codec: 'line' })
export class Notes {
  constructor(private readonly book: NoteBook) {}

  @OnMessage() take(line: string) {
    if (line === '?') return this.book.all().map(({ id, text }) => `${id} ${text}`)
    return `noted ${this.book.add(line)}`
  }
}

export default defineConfig({
  listen: 'tcp://localhost:8080',
  handler: Notes,
  limits: { lineBytes: 1024 },
  timeouts: { idleMs: 60_000 },
})
