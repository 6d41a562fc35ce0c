/** Room: plugins/protocols. The door of `resp`. */
export { type RespOptions, resp } from './resp.js'
export { isPush, push, type RespCommand, RespError, type RespPush, type RespSimple, simple } from './values.js'
