/** The peer: a NestJS TCP microservice that echoes, as its documentation writes one. PORT= node server.mjs */
import 'reflect-metadata'
import { Controller, Module } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { MessagePattern, Payload, Transport } from '@nestjs/microservices'

class EchoController {
  echo(text) {
    return text
  }
}
MessagePattern('echo')(
  EchoController.prototype,
  'echo',
  Object.getOwnPropertyDescriptor(EchoController.prototype, 'echo'),
)
Payload()(EchoController.prototype, 'echo', 0)
Controller()(EchoController)

class EchoModule {}
Module({ controllers: [EchoController] })(EchoModule)

const app = await NestFactory.createMicroservice(EchoModule, {
  transport: Transport.TCP,
  options: { host: '127.0.0.1', port: Number(process.env.PORT) },
  logger: false,
})
await app.listen()
process.on('SIGTERM', () => process.exit(0))
