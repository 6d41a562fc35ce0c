/** Room: plugins/protocols. The door of `stomp`. */
export { type StompPeer, stompClient } from './client.js'
export type { StompFrame, StompFrameToSend } from './frame.js'
export { StompError, type StompOptions, stomp } from './stomp.js'
