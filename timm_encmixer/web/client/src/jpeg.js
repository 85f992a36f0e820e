/** JPEG without its pixels: comments, orientation, and whether other software has written the file. As Python reads it. */

import { latin1 } from "./bytes.js";
import { damaged, EncMixerError } from "./errors.js";
import { KEYWORD } from "./image_record.js";
import { orientationIn, tagIn } from "./orientation.js";

const COMMENT = `${KEYWORD}:`; // how the comment begins that holds a record
const [COM, APP1, APP2, SCAN, END, FILL] = [0xfe, 0xe1, 0xe2, 0xda, 0xd9, 0xff]; // markers
const [BASELINE, EXTENDED] = [0xc0, 0xc1]; // frames; others are up to BASELINE + 15, but for three
const NO_FRAMES = [0xc4, 0xc8, 0xcc];
const PICTURES = 0xb001; // the tag of how many pictures a phone's file has
const LONGEST_COMMENT = 1 << 12; // behind the first scan
const [EXIF, XMP, MPF] = ["Exif\0\0", "http://ns.adobe.com/xap/1.0/\0", "MPF\0"]; // how segments begin

/**
 * A JPEG file.
 *
 * @typedef {{ marker: number, data: Uint8Array, start: number, end: number }} Segment
 * @typedef {{ bytes: Uint8Array, segments: Segment[], comments: Uint8Array[] }} Jpeg
 */

/** @param {Uint8Array} bytes */
export function isJpeg(bytes) {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

/**
 * Read the segments before the pixels, and all comments of the first picture.
 *
 * @param {Uint8Array} bytes
 * @param {string} where
 * @returns {Jpeg}
 */
export function readJpeg(bytes, where) {
  const segments = /** @type {Segment[]} */ ([]);
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker === FILL || marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += marker === FILL ? 1 : 2;
      continue;
    }
    const end = at + 2 + (bytes[at + 2] << 8) + bytes[at + 3];
    segments.push({ marker, data: bytes.subarray(at + 4, end), start: at, end });
    at = end;
    if (marker === SCAN) break;
  }
  const comments = segments.filter(({ marker }) => marker === COM).map(({ data }) => data);
  for (; ; at++) { // in compressed pixels no marker can be: what looks like one is one
    at = bytes.indexOf(0xff, at);
    if (at < 0 || at + 1 >= bytes.length) throw damaged(where, "it is truncated");
    if (bytes[at + 1] === END) break;
    if (bytes[at + 1] === COM) comments.push(bytes.subarray(at + 4, at + 2 + Math.min((bytes[at + 2] << 8) + bytes[at + 3], LONGEST_COMMENT)));
  }
  return { bytes, segments, comments };
}

/**
 * The text of the last comment that holds a record.
 *
 * @param {Jpeg} jpeg
 * @returns {string | undefined}
 */
export function recordIn({ comments }) {
  const found = comments.filter((data) => begins(data, COMMENT)).at(-1);
  return found && new TextDecoder().decode(found.subarray(COMMENT.length));
}

/** @param {Jpeg} jpeg */
export function orientationOf({ segments }) {
  const parts = /** @param {string} prefix */ (prefix) => segments.filter(({ marker, data }) => marker === APP1 && begins(data, prefix)).map(({ data }) => data.subarray(prefix.length));
  return orientationIn({ exif: parts(EXIF)[0], xmp: parts(XMP).at(-1) });
}

/**
 * The file without EXIF and XMP, so that no browser turns it.
 *
 * @param {Jpeg} jpeg
 */
export function withoutOrientation({ bytes, segments }) {
  const parts = [bytes.subarray(0, 2), ...segments.filter(({ marker }) => marker !== APP1).map(({ start, end }) => bytes.subarray(start, end))];
  return [...parts, bytes.subarray(segments.at(-1)?.end ?? 2)];
}

/**
 * Refuse a ciphertext that other software has written in a way that mixes neighbouring squares of 8 x 8 px, as far as it shows.
 *
 * @param {Jpeg} jpeg
 * @param {number} channels Of the model.
 * @param {string} where
 */
export function refuseChanged({ segments }, channels, where) {
  const remedy = "take the file that encmixer wrote, or save it as baseline JPEG with 4:4:4 sampling";
  const frame = segments.find(({ marker }) => marker >= BASELINE && marker < BASELINE + 16 && !NO_FRAMES.includes(marker));
  if (frame === undefined) throw new EncMixerError(where, "a JPEG", "a damaged one", "take another copy");
  const factors = Array.from({ length: frame.data[5] }, (_, i) => frame.data[7 + 3 * i]);
  if (new Set(factors).size > 1) {
    throw new EncMixerError(where, "a JPEG whose colours are not subsampled (4:4:4)", "subsampled ones", remedy);
  }
  if (frame.marker !== BASELINE && frame.marker !== EXTENDED) {
    throw new EncMixerError(where, "a baseline JPEG, as encmixer writes it", "another one, which was saved again", remedy);
  }
  const pictures = segments.filter(({ marker, data }) => marker === APP2 && begins(data, MPF)).map(({ data }) => tagIn(data.subarray(MPF.length), PICTURES) ?? 1);
  if (pictures.some((count) => count > 1)) {
    throw new EncMixerError(where, "a ciphertext PNG or JPEG", "MPO: a JPEG with a second picture", "give the file that encmixer wrote");
  }
  if (factors.length !== channels) {
    throw new EncMixerError(where, `a JPEG of ${channels} channels`, `${factors.length} channels`, "it is not a ciphertext of this model");
  }
}

/** @param {Uint8Array} data @param {string} prefix */
function begins(data, prefix) {
  return latin1(data.subarray(0, prefix.length)) === prefix;
}
