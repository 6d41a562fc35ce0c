/** Room: plugins/protocols. The door of `mqtt`. */
export { type MqttClient, type MqttMessage, type MqttOptions, publish } from './broker.js'
export { mqtt } from './mqtt.js'
export { isFilter, isTopic, matches } from './topics.js'
