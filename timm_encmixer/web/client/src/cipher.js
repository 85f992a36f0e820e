/** The keyed transform of images. It takes and returns 8-bit pixels, and decrypts bit for bit. */

import { deriveMap, inverse } from "./derivation.js";
import { EncMixerError } from "./errors.js";
import { checkCiphertext, refuseCiphertext } from "./image_record.js";
import { fingerprint } from "./key.js";
import { asPixels, byPixels, toChannels } from "./pixels.js";
import { asRecord, factsOf } from "./record.js";

const RESIZE_REMEDY = "resize or crop it first: preprocess does";

/** @type {typeof import("./api").makeCipher} */
export function makeCipher(key, model) {
  const record = asRecord(model);
  if (fingerprint(key) !== record.fingerprint) {
    const [expected, got] = [`the key with fingerprint ${record.fingerprint}`, `one with fingerprint ${key.fingerprint}`];
    throw new EncMixerError("key", expected, got, "ask the model's owner for its key");
  }
  if (!factsOf(record).exact) {
    const remedy = "its ciphertext is floating-point tensors, which no image file holds: use the Python package";
    throw new EncMixerError("record: cipher", "a cipher with 8-bit ciphertext", record.cipher, remedy);
  }
  const forth = deriveMap(key, record); // closures hold the maps: nothing that copies or prints the cipher can read them
  const back = inverse(forth);
  return Object.freeze({
    record,
    encrypt(/** @type {import("./api").ImageLike} */ image) {
      const pixels = asPixels(image);
      refuseCiphertext(pixels);
      return applied(forth, withoutAlpha(pixels, record), record);
    },
    decrypt(/** @type {import("./api").ImageLike} */ image) {
      const pixels = byPixels(asPixels(image), record.in_chans);
      checkCiphertext(pixels, record);
      return applied(back, pixels, record);
    },
  });
}

/**
 * Drop the alpha of an image; another number of channels than the model's is an error.
 *
 * @param {import("./api").Pixels} image
 * @param {import("./api").ModelRecord} record
 * @returns {import("./api").Pixels}
 */
function withoutAlpha(image, { in_chans: channels }) {
  if (image.channels === channels) return image;
  if (image.channels !== channels + 1 || image.channels === 3) {
    const expected = `${channels} ${channels === 1 ? "channel" : "channels"}, as the model's record says`;
    throw new EncMixerError("image", expected, `${image.channels}`, "preprocess brings it to the model's channels");
  }
  return { ...toChannels(image, channels), imageRecord: image.imageRecord };
}

/**
 * @param {import("./derivation.js").BlockMap} map
 * @param {import("./api").Pixels} image
 * @param {import("./api").ModelRecord} record
 * @returns {import("./api").Pixels}
 */
function applied({ source, mask, order }, { data, width, height, channels }, { patch_size: patch, grid }) {
  if (width % patch || height % patch) {
    const expected = `height and width that are multiples of ${patch} px`;
    throw new EncMixerError("image", expected, `${height} x ${width} px`, RESIZE_REMEDY);
  }
  const [rows, columns] = [height / patch, width / patch];
  if (grid !== null && (grid[0] !== rows || grid[1] !== columns)) {
    const expected = `${grid[0] * patch} x ${grid[1] * patch} px, the one size whose blocks the record permutes`;
    throw new EncMixerError("image", expected, `${height} x ${width} px`, RESIZE_REMEDY);
  }
  const result = new Uint8Array(data.length);
  const size = source.length;
  const [from, to, bits] = [new Int32Array(size), new Int32Array(size), new Uint8Array(size)]; // in the order of memory
  for (let i = 0; i < size; i++) {
    const channel = i % channels;
    const pixel = (i - channel) / channels;
    const position = channel * patch ** 2 + pixel; // in a block as the cipher counts: by channel, row, column
    to[i] = offset(position);
    from[i] = offset(source[position]);
    bits[i] = mask[position];
  }
  for (let block = 0; block < rows * columns; block++) {
    const target = corner(block);
    const origin = corner(order === null ? block : order[block]);
    for (let i = 0; i < size; i++) result[target + to[i]] = data[origin + from[i]] ^ bits[i];
  }
  return { data: result, width, height, channels };

  /** @param {number} position */
  function offset(position) {
    const pixel = position % patch ** 2;
    return (Math.floor(pixel / patch) * width + (pixel % patch)) * channels + Math.floor(position / patch ** 2);
  }

  /** @param {number} block */
  function corner(block) {
    return (Math.floor(block / columns) * width + (block % columns)) * patch * channels;
  }
}
