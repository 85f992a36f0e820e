/** Files and buffers as bytes, of any frame of a page; and decompressing them. */

import { damaged, EncMixerError, shown } from "./errors.js";

/** @param {Uint8Array} bytes */
export function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** @param {Uint8Array[]} parts */
export function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Uint8Array} bytes Of ISO 8859-1, and not many. */
export function latin1(bytes) {
  return String.fromCharCode(...bytes);
}

/**
 * Whether a value is an array of bytes, of this frame or of another one, whose classes are others.
 *
 * @param {unknown} value
 * @returns {value is Uint8Array | Uint8ClampedArray}
 */
export function isBytes(value) {
  return ["[object Uint8Array]", "[object Uint8ClampedArray]"].includes(Object.prototype.toString.call(value)) && ArrayBuffer.isView(value);
}

/**
 * Return the bytes of a file.
 *
 * @param {unknown} file
 * @param {string} where
 * @returns {Promise<Uint8Array>}
 */
export async function bytesOf(file, where) {
  if (isBytes(file)) return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  const kind = Object.prototype.toString.call(file);
  if (kind === "[object ArrayBuffer]") return new Uint8Array(/** @type {ArrayBuffer} */ (file));
  if (kind === "[object Blob]" || kind === "[object File]") {
    const content = await /** @type {Blob} */ (file).arrayBuffer().catch(() => undefined);
    if (content === undefined) throw new EncMixerError(where, "a file to read", "one that cannot be read", "choose the file again");
    return new Uint8Array(content);
  }
  throw new EncMixerError(where, "a File, Blob, ArrayBuffer or Uint8Array", shown(file), "give the image's file");
}

/**
 * Decompress a zlib stream.
 *
 * @param {Uint8Array[]} compressed
 * @param {number} size Bytes to expect; no more are kept.
 * @param {string} where
 * @returns {Promise<Uint8Array>} At most `size` bytes.
 * @throws {EncMixerError} It is damaged.
 */
export async function inflated(compressed, size, where) {
  if (typeof DecompressionStream !== "function") {
    const remedy = "use Chrome 80, Firefox 113, Safari 16.4, Node 18 or a later one";
    throw new EncMixerError(where, "a browser with DecompressionStream, to read PNG", "one without it", remedy);
  }
  const result = new Uint8Array(size);
  let filled = 0;
  const source = new Blob(/** @type {BlobPart[]} */ (compressed)).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = source.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const some = part.value.subarray(0, size - filled);
      result.set(some, filled);
      filled += some.length;
      if (some.length < part.value.length) {
        await reader.cancel();
        break;
      }
    }
  } catch {
    throw damaged(where, "its compressed data cannot be read");
  }
  return result.subarray(0, filled);
}
