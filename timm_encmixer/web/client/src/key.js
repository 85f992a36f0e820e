/** Secret keys: reading, making and deriving from them. Formats: docs/format.md, "Key" and "Derivation". */

import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, concatBytes, utf8ToBytes } from "@noble/hashes/utils.js";

import { isBytes } from "./bytes.js";
import { EncMixerError, whereOf } from "./errors.js";

const KEY_BYTES = 32;
const CHECKSUM_BYTES = 4;
const PREFIX = "ENCMIXER-KEY-1:";
const WHITE = /^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$/g;

/** @type {(key: import("./api").SecretKey) => Uint8Array} */
let bytesOf;

/** 32 secret bytes. It shows its fingerprint, never itself; nothing that copies or prints objects can read the bytes. */
class SecretKey {
  /** @type {Uint8Array} */
  #bytes;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    this.fingerprint = bytesToHex(derive(this, "fingerprint", 8));
    Object.freeze(this);
  }

  static {
    bytesOf = (key) => {
      if (typeof key !== "object" || key === null || !(#bytes in key)) {
        throw new EncMixerError("key", "a key", key === undefined || key === null ? "none" : typeof key, "make it with readKey or newKey");
      }
      return key.#bytes;
    };
  }

  toString() {
    return `<SecretKey ${this.fingerprint}>`;
  }

  toJSON() {
    return this.toString();
  }
}

/** @type {typeof import("./api").readKey} */
export function readKey(file, options) {
  const where = whereOf(options, "key");
  const text = typeof file === "string" ? file : isBytes(file) ? latin1(file) : undefined;
  const expected = `one line of text that starts with ${PREFIX}`;
  const remedy = "give the file that `encmixer key new` wrote, or a backup of it";
  if (text === undefined) throw new EncMixerError(where, expected, typeof file, "give the file's text or bytes");
  const line = text.replace(WHITE, "");
  if (!line.startsWith("ENCMIXER-KEY-")) {
    throw new EncMixerError(where, expected, `${text.length} characters of something else`, remedy);
  }
  if (!line.startsWith(PREFIX)) {
    throw new EncMixerError(where, expected, "a key file of another version", "upgrade encmixer");
  }
  const raw = fromBase64url(line.slice(PREFIX.length));
  if (raw?.length !== KEY_BYTES + CHECKSUM_BYTES) {
    throw new EncMixerError(where, `${expected} and 48 characters`, "a truncated or mistyped line", remedy);
  }
  const bytes = raw.slice(0, KEY_BYTES);
  if (checksum(bytes).some((byte, i) => byte !== raw[KEY_BYTES + i])) {
    throw new EncMixerError(where, "a checksum that fits the key", "another one: a character is mistyped", remedy);
  }
  return new SecretKey(bytes);
}

/** @type {typeof import("./api").newKey} */
export function newKey() {
  if (typeof crypto !== "object") throw new EncMixerError("key", "a browser with crypto.getRandomValues", "one without it", "use a later one");
  return new SecretKey(crypto.getRandomValues(new Uint8Array(KEY_BYTES)));
}

/** @type {typeof import("./api").keyText} */
export function keyText(key) {
  const bytes = bytesOf(key);
  const text = btoa(String.fromCharCode(...bytes, ...checksum(bytes)));
  return `${PREFIX}${text.replaceAll("+", "-").replaceAll("/", "_")}\n`;
}

/** @type {typeof import("./api").fingerprint} */
export function fingerprint(key) {
  bytesOf(key); // says what it takes
  return key.fingerprint;
}

/**
 * Derive secret bytes for one purpose: HKDF-SHA256 without salt, info = "timm-encmixer/v1/" + purpose.
 *
 * @param {import("./api").SecretKey} key
 * @param {string} purpose
 * @param {number} length
 * @returns {Uint8Array}
 */
export function derive(key, purpose, length = KEY_BYTES) {
  return hkdf(sha256, bytesOf(key), undefined, utf8ToBytes(`timm-encmixer/v1/${purpose}`), length);
}

/** @param {Uint8Array} bytes */
function checksum(bytes) {
  return sha256(concatBytes(utf8ToBytes("timm-encmixer/key-file/v1/"), bytes)).slice(0, CHECKSUM_BYTES);
}

/** @param {Uint8Array | Uint8ClampedArray} bytes */
function latin1(bytes) {
  let text = "";
  for (const byte of bytes.subarray(0, 4097)) text += String.fromCharCode(byte); // no key file is as long
  return text;
}

/**
 * @param {string} text
 * @returns {Uint8Array | undefined}
 */
function fromBase64url(text) {
  if (!/^[A-Za-z0-9_-]{48}$/.test(text)) return undefined;
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
}
