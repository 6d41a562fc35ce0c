/**
 * The application's own values at a connection, with a count of changes.
 *
 * Room: core, mechanism of the session. A handler in another process is told of them when the count has grown.
 */
export class Attributes extends Map<unknown, unknown> {
  version = 0

  override set(key: unknown, value: unknown): this {
    this.version++
    return super.set(key, value)
  }
  override delete(key: unknown): boolean {
    this.version++
    return super.delete(key)
  }
  override clear(): void {
    this.version++
    super.clear()
  }
}
