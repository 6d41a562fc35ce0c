/** The public surface: re-exports only. */
import 'reflect-metadata'

export { type ConnectOptions, connect } from './connect.js'
export type { Account, AccountOptions, DropReason, Holding, KeptFacts, PluginBudget } from './core/account.js'
export type { AlarmName } from './core/alarm-name.js'
export type { Alarm } from './core/alarms.js'
export { arrive } from './core/arrive.js'
export type { ClientConnection } from './core/client.js'
export { type Clock, systemClock } from './core/clock.js'
export type { Codec, CodecContext, FrameLimits, FrameReader, Framer, Payload } from './core/codec.js'
export {
  type Configuration,
  type DrainOptions,
  defineConfig,
  type HandlerRef,
  type HookOptions,
  type ListenerOptions,
} from './core/configuration.js'
export type { CloseReason, Connection, ConnectionState, ConnectionStats, DrainCode } from './core/connection.js'
export type { Provider } from './core/container.js'
export type { ConnectionContext, MessageContext } from './core/context.js'
export { Handler, OnClose, OnDrain, OnError, OnIdle, OnMessage, OnOpen, OnPeerEnd } from './core/decorators.js'
export { Endpoint, parseEndpoint } from './core/endpoint.js'
export * from './core/errors.js'
export { type EventName, type EventSource, type Events, eventNames } from './core/events.js'
export type { Executor, Load, PlaceLoad, Placement, Task } from './core/executor.js'
export { defineFeature, type FeatureToken, TLS, type TlsCertificate, type TlsFacts } from './core/feature.js'
export { framed } from './core/framed.js'
export {
  type CodecRef,
  defineHandler,
  type HandlerDefinition,
  type HandlerOptions,
  type MiddlewareRef,
  type Named,
  type NamedExecutor,
  type Needs,
} from './core/handler.js'
export { LayerLink, LayerSink } from './core/layer-link.js'
export type { ListenerHandle, Listeners, Server, ServerState, StopOptions } from './core/lifecycle.js'
export type { ObservedListener, ObservedServer, Observer, Probe } from './core/observer.js'
export { type OptionField, type OptionSchema, optionSchema } from './core/option-schema.js'
export type { Limits, ServerLimits, SocketOptions, Timeouts, TlsIdentity, TlsOptions } from './core/options.js'
export type { Middleware, MiddlewareSet } from './core/pipeline.js'
export {
  type AnyPlugin,
  type Companion,
  type CompanionHost,
  type Detection,
  definePlugin,
  type Factory,
  type Framing,
  type Layer,
  type LayerScope,
  type LayerStage,
  type Plugin,
  type PluginServices,
  type Protocol,
  type ProtocolPort,
  type Registry,
  type Turns,
} from './core/plugin.js'
export type { StandardSchemaV1 } from './core/standard-schema.js'
export * from './core/tokens.js'
export type {
  Arrival,
  ArrivalStage,
  Arrived,
  Capabilities,
  Link,
  LinkSink,
  Listener,
  Transport,
  TransportOptions,
} from './core/transport.js'
export type { Usage } from './core/usage.js'
export { type ConfiguredServer, createServer, type ServerOptions } from './gaidaros.js'
export { createNode, type NodeHandle, type NodeInput, type NodeState } from './node.js'
export { PROXY, type ProxyFacts } from './plugins/layers/proxy-facts.js'
export { type AttachedServer, type AttachOptions, attach } from './transports/attached.js'
export { WEBSOCKET, type WebSocketFacts } from './transports/websocket-facts.js'
