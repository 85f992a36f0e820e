/** How many pictures a GIF or WebP file has, and which way up a WebP is: browsers take the first one, and turn nothing. */

import { latin1, viewOf } from "./bytes.js";
import { damaged } from "./errors.js";
import { orientationIn } from "./orientation.js";

const [EXTENSION, PICTURE, END] = [0x21, 0x2c, 0x3b]; // blocks of a GIF

/** @param {Uint8Array} bytes */
export function isGif(bytes) {
  return /^GIF8[79]a$/.test(latin1(bytes.subarray(0, 6)));
}

/** @param {Uint8Array} bytes */
export function isWebp(bytes) {
  return latin1(bytes.subarray(0, 4)) === "RIFF" && latin1(bytes.subarray(8, 12)) === "WEBP";
}

/**
 * Count the pictures of a GIF.
 *
 * @param {Uint8Array} bytes
 * @param {string} where
 */
export function framesOfGif(bytes, where) {
  const colours = (/** @type {number} */ flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  let frames = 0;
  for (let at = 13 + colours(bytes[10]); at < bytes.length; ) {
    const kind = bytes[at];
    if (kind === END) return frames;
    if (kind !== EXTENSION && kind !== PICTURE) return frames; // Pillow reads no further
    if (kind === PICTURE) frames++;
    at += kind === PICTURE ? 11 + colours(bytes[at + 9]) : 2;
    while (bytes[at]) at += 1 + bytes[at];
    at++;
  }
  if (frames === 0) throw damaged(where, "it is truncated");
  return frames;
}

/**
 * Look at a WebP file.
 *
 * @param {Uint8Array} bytes
 * @param {string} where
 * @returns {{ frames: number, orientation: number, file: Uint8Array }} The file is one that browsers do not turn.
 */
export function readWebp(bytes, where) {
  const view = viewOf(bytes);
  if (bytes.length < 8 + view.getUint32(4, true)) throw damaged(where, "it is truncated");
  const file = bytes.slice();
  let [frames, exif, xmp] = [0, /** @type {Uint8Array | undefined} */ (undefined), /** @type {Uint8Array | undefined} */ (undefined)];
  for (let at = 12; at + 8 <= bytes.length; ) {
    const [kind, size] = [latin1(bytes.subarray(at, at + 4)), view.getUint32(at + 4, true)];
    const body = bytes.subarray(at + 8, at + 8 + size);
    if (kind === "ANMF") frames++;
    if (kind === "EXIF") exif = body;
    if (kind === "XMP ") xmp = body;
    if (kind === "EXIF" || kind === "XMP ") file.set([0x73, 0x6b, 0x69, 0x70], at); // a kind that nobody knows
    at += 8 + size + (size & 1);
  }
  return { frames, orientation: orientationIn({ exif, xmp }), file };
}
