/**
 * Protobuf messages behind their length as a varint, as `writeDelimitedTo` writes them in every language. The framer is
 * `varint`; the payload is a few lines over the library's wire format, or what its compiler makes of a `.proto` file.
 *
 *   npx gaidaros serve --config examples/27-protobuf.ts
 *   printf '\005\012\003Ada' | ncat localhost 8080 | xxd      → 0b 0a 09 "hello Ada" (field 1)
 */
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire'
import { defineConfig, definePlugin, FrameError, type Payload } from 'gaidaros'

/** `message Greeting { string name = 1; }` */
interface Greeting {
  name: string
}

const greeting: Payload<Greeting> = {
  decodeAt(buffer, start, end) {
    const message: Greeting = { name: '' }
    try {
      for (const reader = new BinaryReader(buffer.subarray(start, end)); reader.pos < reader.len; ) {
        const [field, type] = reader.tag()
        if (field === 1) message.name = reader.string()
        else reader.skip(type, field)
      }
    } catch (cause) {
      throw new FrameError('MALFORMED', 'expected a Greeting', { cause })
    }
    return message
  },
  encode: ({ name }) => new BinaryWriter().tag(1, 2).string(name).finish(),
}

export default defineConfig({
  plugins: [
    definePlugin({
      name: 'greeting',
      setup: (registry) => void registry.payload({ name: 'greeting', create: () => greeting }),
    }),
  ],
  listen: 'tcp://localhost:8080',
  limits: { connections: 1_000, frameBytes: 4_096 },
  codec: { name: 'varint', payload: 'greeting' },
  handler: (message: Greeting) => ({ name: `hello ${message.name}` }),
})
