/** What a PNG file says beside its pixels, as timm_encmixer/images/png_file.py reads it: every chunk whole, the record anywhere. */

import { inflated, latin1, viewOf } from "./bytes.js";
import { crc32 } from "./checksum.js";
import { damaged, EncMixerError, shown } from "./errors.js";
import { KEYWORD } from "./image_record.js";
import { exifOfProfile, orientationIn } from "./orientation.js";
import { LARGEST_PX } from "./pixels.js";

export const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
export const SAMPLES = /** @type {{ [colour: number]: number }} */ ({ 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }); // of a pixel, by colour type
const DEPTHS = /** @type {{ [colour: number]: number[] }} */ ({ 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] });
const [PALETTE, PROFILE, XMP] = [3, "Raw profile type exif", "XML:com.adobe.xmp"];
const TEXTS = /** @type {{ [keyword: string]: number }} */ ({ [KEYWORD]: 1 << 16, [PROFILE]: 1 << 20, [XMP]: 1 << 20 }); // that are read, and their most bytes

/**
 * @typedef {{ width: number, height: number, depth: number, colour: number, interlaced: boolean }} Header
 * @typedef {{ header: Header, palette: Uint8Array, compressed: Uint8Array[], orientation: number, record: string | undefined }} PngFile
 */

/** @param {Uint8Array} bytes */
export function isPng(bytes) {
  return SIGNATURE.every((byte, i) => bytes[i] === byte);
}

/**
 * Look at a PNG file.
 *
 * @param {Uint8Array} bytes
 * @param {string} where
 * @returns {Promise<PngFile>}
 */
export async function readPng(bytes, where) {
  /** @type {Header | undefined} */
  let header;
  /** @type {Uint8Array | undefined} */
  let palette;
  /** @type {Uint8Array[]} */
  const compressed = [];
  /** @type {{ [keyword: string]: string }} */
  const texts = {};
  let exif = /** @type {Uint8Array | undefined} */ (undefined);
  let [frames, isFirst] = [0, false]; // of an animation, and whether the picture itself is the first one
  for (const { type, body } of chunks(bytes, where)) {
    if ((type === "IHDR") !== (header === undefined)) throw damaged(where, header ? "several headers" : "no header");
    if (type === "IHDR") header = readHeader(body, where);
    else if (type === "PLTE") palette ??= body;
    else if (type === "IDAT") compressed.push(body);
    else if (type === "eXIf") exif = body;
    else if (type === "acTL" && body.length > 3) frames = viewOf(body).getUint32(0);
    else if (type === "fcTL" && compressed.length === 0) isFirst = true;
    else if (["tEXt", "zTXt", "iTXt"].includes(type)) Object.assign(texts, await textOf(type, body, where));
  }
  frames += frames && !isFirst ? 1 : 0;
  if (frames > 1) throw new EncMixerError(where, "a still image", `${frames} frames`, "extract the frame you mean");
  if (header === undefined) throw damaged(where, "no header");
  if (header.colour === PALETTE && palette === undefined) throw damaged(where, "no palette");
  if (compressed.length === 0) throw damaged(where, "no pixels");
  const xmp = texts[XMP] === undefined ? undefined : new TextEncoder().encode(texts[XMP]);
  const orientation = orientationIn({ exif: exif ?? (texts[PROFILE] === undefined ? undefined : exifOfProfile(texts[PROFILE])), xmp });
  return { header, palette: palette ?? new Uint8Array(0), compressed, orientation, record: texts[KEYWORD] };
}

/** @param {Uint8Array} body @param {string} where @returns {Header} */
function readHeader(body, where) {
  if (body.length !== 13) throw damaged(where, "a wrong header");
  const view = viewOf(body);
  const [width, height, depth, colour] = [view.getUint32(0), view.getUint32(4), body[8], body[9]];
  if (!DEPTHS[colour]?.includes(depth) || width === 0 || height === 0 || body[10] || body[11] || body[12] > 1) {
    throw damaged(where, "a wrong header");
  }
  if (width * height > LARGEST_PX) {
    const expected = `at most ${LARGEST_PX} pixels, against decompression bombs`;
    throw new EncMixerError(where, expected, `${height} x ${width} px`, "scale it down first");
  }
  return { width, height, depth, colour, interlaced: body[12] === 1 };
}

/** @param {Uint8Array} bytes @param {string} where */
function* chunks(bytes, where) {
  const view = viewOf(bytes);
  for (let at = SIGNATURE.length; at + 12 <= bytes.length; ) {
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > bytes.length) break;
    const type = latin1(bytes.subarray(at + 4, at + 8));
    if (crc32(bytes.subarray(at + 4, end)) !== view.getUint32(end)) throw damaged(where, `a wrong checksum in ${shown(type)}`);
    yield { type, body: bytes.subarray(at + 8, end) };
    if (type === "IEND") return;
    at = end + 4;
  }
  throw damaged(where, "it is truncated");
}

/**
 * Return the text of a chunk by its keyword, where it is one of those that are read. Of others nothing is decoded.
 *
 * @param {string} type
 * @param {Uint8Array} body
 * @param {string} where
 * @returns {Promise<{ [keyword: string]: string }>}
 */
async function textOf(type, body, where) {
  const end = body.subarray(0, 80).indexOf(0);
  const keyword = end < 0 ? "" : latin1(body.subarray(0, end));
  if (!Object.hasOwn(TEXTS, keyword)) return {};
  const most = TEXTS[keyword];
  let rest = body.subarray(end + 1);
  let packed = type === "zTXt";
  if (type === "iTXt") { // flag, method, language, translated keyword, text
    packed = rest[0] === 1;
    const language = rest.subarray(0, most).indexOf(0, 2);
    const translated = language < 0 ? -1 : rest.subarray(0, most).indexOf(0, language + 1);
    rest = translated < 0 ? rest.subarray(0, 0) : rest.subarray(translated + 1);
  } else if (packed) {
    rest = rest.subarray(1); // the method
  }
  const data = packed ? await unpacked(rest, most, where) : rest.subarray(0, most);
  return { [keyword]: type === "iTXt" ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(data) : fromLatin1(data) };
}

/** @param {Uint8Array} data @param {number} most Bytes. @param {string} where */
async function unpacked(data, most, where) {
  const text = await inflated([data], most + 1, where).catch(() => new Uint8Array(0));
  return text.length > most ? new Uint8Array(0) : text; // as a damaged one
}

/** @param {Uint8Array} data */
function fromLatin1(data) {
  const parts = [];
  for (let at = 0; at < data.length; at += 4096) parts.push(latin1(data.subarray(at, at + 4096)));
  return parts.join("");
}
