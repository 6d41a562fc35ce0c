/** CRC-32 (ISO 3309), by table; Node has one of its own from 20.15 on in zlib, but only from 22.2 on in its types. */
const table = Array.from({ length: 256 }, (_, n) => {
  let value = n
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1
  return value >>> 0
})

export function crc32(text: string): string {
  let value = 0xffffffff
  for (const byte of Buffer.from(text)) value = (table[(value ^ byte) & 0xff] as number) ^ (value >>> 8)
  return ((value ^ 0xffffffff) >>> 0).toString(16).padStart(8, '0')
}
