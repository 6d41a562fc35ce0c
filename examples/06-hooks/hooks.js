/**
 * Plain functions in place of a decorated class: each step of a request may be one. What is left out is lines and echo.
 * The configuration beside this file names them; names only, never code.
 *
 *   npx gaidaros serve --config examples/06-hooks/gaidaros.config.json
 *   echo " hello " | ncat localhost 8080      → HELLO!      (one reply, then closed)
 */
export class Shout {
  constructor(mark) {
    this.mark = mark
  }

  shout(request) {
    return request.toUpperCase() + this.mark
  }
}

/** Not a method of the class, so it is looked up on the module. */
export const trim = (bytes) => bytes.toString().trim()
