/** Which way up a photo is, as its file says: as timm_encmixer/images/orientation.py has it, which says where that comes from. */

import { viewOf } from "./bytes.js";

const TAG = 0x0112;
const LARGEST_XMP = 1 << 20; // bytes that are looked at

/**
 * Return EXIF's number, 1 where there is none.
 *
 * @param {{ exif?: Uint8Array, xmp?: Uint8Array }} metadata
 */
export function orientationIn({ exif, xmp }) {
  const found = exif && tagIn(withoutPrefix(exif), TAG);
  if (found !== undefined) return found;
  const text = xmp === undefined ? "" : new TextDecoder().decode(xmp.subarray(0, LARGEST_XMP));
  return Number(/tiff:Orientation(?:="|>)([0-9])/.exec(text)?.[1] ?? 1);
}

/**
 * Return the value of a tag in the first directory of a TIFF file; 1 for values of another kind, nothing where there is no such tag.
 *
 * @param {Uint8Array} tiff
 * @param {number} tag
 * @returns {number | undefined}
 */
export function tagIn(tiff, tag) {
  const view = viewOf(tiff);
  const order = tiff.length >= 8 ? view.getUint16(0) : 0;
  if (order !== 0x4949 && order !== 0x4d4d) return undefined;
  const little = order === 0x4949;
  const begin = view.getUint32(4, little);
  const count = begin + 2 <= tiff.length ? view.getUint16(begin, little) : 0;
  let found;
  for (let entry = begin + 2; entry < begin + 2 + 12 * count && entry + 12 <= tiff.length; entry += 12) {
    if (view.getUint16(entry, little) !== tag) continue; // the last one counts
    const [kind, values] = [view.getUint16(entry + 2, little), view.getUint32(entry + 4, little)];
    const read = { 1: () => tiff[entry + 8], 3: () => view.getUint16(entry + 8, little), 4: () => view.getUint32(entry + 8, little) }[kind];
    found = values === 1 && read ? read() : 1;
  }
  return found;
}

/** @param {string} text The EXIF that ImageMagick writes into a text chunk of PNG: three lines, then hexadecimal digits. */
export function exifOfProfile(text) {
  const digits = text.split("\n").slice(3).join("").replace(/\s/g, "");
  if (digits.length % 2 || /[^0-9a-fA-F]/.test(digits)) return new Uint8Array(0);
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** @param {Uint8Array} exif */
function withoutPrefix(exif) {
  while ([0x45, 0x78, 0x69, 0x66, 0, 0].every((byte, i) => exif[i] === byte)) exif = exif.subarray(6); // "Exif"
  return exif;
}
