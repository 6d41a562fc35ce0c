/** Room: plugins/protocols. The door of `mqtt`. */
export { publish } from './broker.js'
export { mqtt } from './mqtt.js'
export type { MqttClient, MqttMessage, MqttOptions } from './session.js'
export { isFilter, isTopic, matches } from './topics.js'
