/** Room: plugins/protocols. The door of `coap`. */
export { coap } from './coap.js'
export { CoapError, type CoapMethod, type CoapOptions, type CoapReply, type CoapRequest, notify } from './dialogue.js'
export type { CoapOption, CoapOptionToSend } from './packet.js'
