/**
 * What an application has put into its own container, for the tokens of the contracts: it takes the place of what is built in.
 */
import type { DependencyContainer, InjectionToken } from 'tsyringe'
import type { Provider } from './core/container.js'
import type { ServerRegistry } from './core/registry.js'
import { CLOCK, CODEC, EXECUTOR, FRAMING, LAYER, MIDDLEWARE, PAYLOAD, PROTOCOL, TRANSPORT } from './core/tokens.js'

export type Given = <T>(token: symbol) => readonly T[]

/** What the application has registered for a token, in its container and in `providers`. */
export function givenBy(container: DependencyContainer, providers: readonly Provider[]): Given {
  return <T>(token: symbol) => {
    const known = token as InjectionToken<T>
    const registered = container.isRegistered(known, true) ? container.resolveAll(known) : []
    const own = providers.flatMap((provider) =>
      provider.token === token && 'useValue' in provider ? [provider.useValue as T] : [],
    )
    return [...registered, ...own]
  }
}

/** What the server is put together from is made once, before its own container: the same for handlers that ask for it. */
export function madeParts(container: DependencyContainer, providers: readonly Provider[]): readonly Provider[] {
  const resolve = <T>(token: unknown): T => container.resolve(token as InjectionToken<T>)
  return providers.map((provider) => {
    const { token } = provider
    if (!parts.has(token)) return provider
    if ('useClass' in provider) return { token, useValue: resolve(provider.useClass) }
    return 'useFactory' in provider ? { token, useValue: provider.useFactory(resolve) } : provider
  })
}

const parts = new Set<unknown>([CLOCK, TRANSPORT, CODEC, FRAMING, PAYLOAD, MIDDLEWARE, EXECUTOR, LAYER, PROTOCOL])

export function registerGiven(registry: ServerRegistry, given: Given): void {
  for (const one of given(TRANSPORT)) registry.transport(one as never)
  for (const one of given(CODEC)) registry.codec(one as never)
  for (const one of given(FRAMING)) registry.framer(one as never)
  for (const one of given(PAYLOAD)) registry.payload(one as never)
  for (const one of given(MIDDLEWARE)) registry.middleware(one as never)
  for (const one of given(EXECUTOR)) registry.executor(one as never)
  for (const one of given(LAYER)) registry.layer(one as never)
  for (const one of given(PROTOCOL)) registry.protocol(one as never)
}
