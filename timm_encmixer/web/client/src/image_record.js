/** What a ciphertext image says of itself: its key and cipher, and what its pixels were. Format: docs/format.md, "Ciphertext images". */

import { crc32 } from "./checksum.js";
import { EncMixerError, shown } from "./errors.js";
import { parseExact } from "./json.js";

export const KEYWORD = "encmixer"; // of the text chunk of a PNG; a JPEG's comment begins with it and a colon
const FIELDS = ["version", "cipher", "patch_size", "size", "fingerprint", "digest"];
export const LOSSLESS = 1; // version in PNG
export const LOSSY = 2; // in JPEG, whose pixels change a little with each saving
const ORIGINAL = "decrypt the file that was written: ciphertext must not be resized, cropped, turned or recompressed";

/**
 * @typedef {import("./api").ImageRecord} ImageRecord
 * @typedef {import("./api").Pixels} Pixels
 */

/**
 * Return the record of a ciphertext.
 *
 * @param {Pixels} ciphertext
 * @param {import("./api").ModelRecord} record Of the model.
 * @returns {ImageRecord}
 */
export function imageRecordOf(ciphertext, { cipher, patch_size, fingerprint }) {
  return { version: LOSSLESS, cipher, patch_size, size: [ciphertext.height, ciphertext.width], fingerprint, digest: digest(ciphertext) };
}

/**
 * Read the record in the text chunk of a PNG, or in the comment of a JPEG.
 *
 * @param {string} text
 * @param {string} where
 * @param {number} version That such a file has.
 * @returns {ImageRecord}
 */
export function readImageRecord(text, where, version) {
  const remedy = "upgrade encmixer, or take another copy";
  /** @type {any} */
  let value;
  try {
    value = parseExact(text);
  } catch {
    throw new EncMixerError(`${where}: record`, "JSON", "text that is not valid JSON", remedy);
  }
  const isWhole = (/** @type {unknown} */ one, /** @type {number} */ most) => Number.isInteger(one) && Number(one) >= 1 && Number(one) <= most;
  const isHex = (/** @type {unknown} */ one, /** @type {RegExp} */ digits) => typeof one === "string" && digits.test(one);
  const fits =
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    Object.keys(value).every((name) => FIELDS.includes(name)) &&
    (Object.hasOwn(value, "version") ? value.version : LOSSLESS) === version &&
    typeof value.cipher === "string" &&
    value.cipher.length <= 64 &&
    isWhole(value.patch_size, 1024) &&
    Array.isArray(value.size) &&
    value.size.length === 2 &&
    value.size.every((/** @type {unknown} */ side) => isWhole(side, 2 ** 31 - 1)) &&
    isHex(value.fingerprint, /^[0-9a-f]{16}$/) &&
    (version === LOSSLESS ? isHex(value.digest, /^[0-9a-f]{8}$/) : !Object.hasOwn(value, "digest"));
  if (!fits) throw new EncMixerError(`${where}: record`, "what docs/format.md describes", shown(text), remedy);
  return { version, ...value };
}

/**
 * Compare a ciphertext with the record that it carries, and with the model's.
 *
 * @param {Pixels} image
 * @param {import("./api").ModelRecord} model
 */
export function checkCiphertext(image, model) {
  const found = image.imageRecord;
  if (found === undefined || found === null) return;
  if (found.fingerprint !== model.fingerprint) {
    const remedy = "decrypt it with that key, or encrypt the plain image again";
    throw new EncMixerError("image", `a ciphertext under the key ${model.fingerprint}`, `the key ${word(found.fingerprint)}`, remedy);
  }
  if (found.cipher !== model.cipher || found.patch_size !== model.patch_size) {
    const expected = `a ciphertext of ${model.cipher}, blocks of ${model.patch_size} px`;
    const got = `${word(found.cipher)}, blocks of ${word(found.patch_size)} px`;
    throw new EncMixerError("image", expected, got, "name the model that it was encrypted for");
  }
  const [height, width] = Array.isArray(found.size) ? found.size : [0, 0];
  if (height !== image.height || width !== image.width) {
    const expected = `${word(height)} x ${word(width)} px, as it was written`;
    throw new EncMixerError("image", expected, `${image.height} x ${image.width} px`, ORIGINAL);
  }
  if (found.version === LOSSLESS && found.digest !== digest(image)) throw new EncMixerError("image", "the pixels that were written", "others", ORIGINAL);
}

/**
 * Refuse a ciphertext in place of a plain image.
 *
 * @param {{ imageRecord?: ImageRecord }} image
 */
export function refuseCiphertext({ imageRecord }) {
  if (imageRecord === undefined || imageRecord === null) return;
  const got = `a ciphertext of ${word(imageRecord.cipher)} under the key ${word(imageRecord.fingerprint)}`;
  throw new EncMixerError("image", "a plain image", got, "give the plain image; decrypt gets it back");
}

/** @param {unknown} value A field of a record that a caller may have made. */
function word(value) {
  return typeof value === "string" ? value : shown(value);
}

/** @param {Pixels} pixels */
function digest({ data }) {
  return crc32(data).toString(16).padStart(8, "0");
}
