/** CRC-32 and Adler-32, as zlib has them: against accidents, not attackers. */

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte;
});

/** @param {ArrayLike<number>} bytes */
export function crc32(bytes) {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = TABLE[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** @param {ArrayLike<number>} bytes */
export function adler32(bytes) {
  let low = 1;
  let high = 0;
  for (let start = 0; start < bytes.length; start += 3800) { // as many as 32 bits hold
    for (let i = start; i < Math.min(start + 3800, bytes.length); i++) {
      low += bytes[i];
      high += low;
    }
    low %= 65521;
    high %= 65521;
  }
  return ((high << 16) | low) >>> 0;
}
