/**
 * PNG without a canvas, which may change pixels (colour management, premultiplied alpha). Written: 8 bits, grey or RGB, uncompressed,
 * because ciphertext hardly compresses. Read: all of PNG, as Pillow reads it. Source: PNG specification, third edition; RFC 1950, 1951.
 */

import { adler32, crc32 } from "./checksum.js";
import { EncMixerError, shown } from "./errors.js";
import { imageRecordOf, KEYWORD, LOSSLESS, readImageRecord } from "./image_record.js";
import { asPixels, LARGEST_PX, toChannels, upright } from "./pixels.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const MOST_STORED = 65535; // bytes in a stored block of deflate
const SAMPLES = /** @type {{ [colour: number]: number }} */ ({ 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }); // of a pixel, by colour type
const DEPTHS = /** @type {{ [colour: number]: number[] }} */ ({ 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] });
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]]; // Adam7

/**
 * @typedef {import("./api").Pixels} Pixels
 * @typedef {{ width: number, height: number, depth: number, colour: number, interlaced: boolean }} Header
 */

/** @param {Uint8Array} bytes */
export function isPng(bytes) {
  return SIGNATURE.every((byte, i) => bytes[i] === byte);
}

/** @type {typeof import("./api").encodePng} */
export function encodePng(image, { record } = {}) {
  const given = asPixels(image);
  const pixels = toChannels(given, given.channels < 3 ? 1 : 3);
  const { width, height, channels } = pixels;
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, channels === 1 ? 0 : 2], 8);
  const text = record && `${KEYWORD}\0${JSON.stringify(imageRecordOf(pixels, record))}`;
  return joined([
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", header),
    ...(text === undefined ? [] : [chunk("tEXt", Uint8Array.from(text, (character) => character.charCodeAt(0)))]),
    chunk("IDAT", stored(unfilteredRows(pixels))),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

/** @type {typeof import("./api").decodePng} */
export async function decodePng(file, { where = "image" } = {}) {
  const bytes = file instanceof Uint8Array ? file : new Uint8Array(file);
  if (!isPng(bytes)) throw new EncMixerError(where, "a PNG", "something else", "check the file");
  /** @type {Header | undefined} */
  let header;
  /** @type {Uint8Array} */
  let palette = new Uint8Array(0);
  /** @type {Uint8Array[]} */
  const compressed = [];
  let [orientation, text] = [1, /** @type {string | undefined} */ (undefined)];
  for (const { type, body } of chunks(bytes, where)) {
    if (type === "IHDR") header = readHeader(body, where);
    else if (type === "PLTE") palette = body;
    else if (type === "IDAT") compressed.push(body);
    else if (type === "eXIf") orientation = orientationOf(body);
    else if (type === "acTL" && body.length > 3 && viewOf(body).getUint32(0) > 1) {
      throw new EncMixerError(where, "a still image", `${viewOf(body).getUint32(0)} frames`, "extract the frame you mean");
    } else if (type === "tEXt") {
      const latin = Array.from(body, (byte) => String.fromCharCode(byte)).join("");
      if (latin.startsWith(`${KEYWORD}\0`)) text = latin.slice(KEYWORD.length + 1);
    }
  }
  if (header === undefined) throw damaged(where, "no header");
  const imageRecord = text === undefined ? undefined : readImageRecord(text, where, LOSSLESS);
  const passes = header.interlaced ? PASSES : [[0, 0, 1, 1]];
  const sizes = passes.map(([x, y, across, down]) => passSize(/** @type {Header} */ (header), x, y, across, down));
  const data = await inflated(compressed, sizes.reduce((sum, { rows, rowBytes }) => sum + rows * (1 + rowBytes), 0), where);
  const image = unpacked(header, palette, passes, sizes, data, where);
  return imageRecord === undefined ? upright(image, orientation) : { ...image, imageRecord };
}

/**
 * Undo the rows' filters, and return the pixels: 16 bits become 8, palettes become RGB.
 *
 * @param {Header} header
 * @param {Uint8Array} palette
 * @param {number[][]} passes
 * @param {ReturnType<typeof passSize>[]} sizes
 * @param {Uint8Array} data
 * @param {string} where
 * @returns {Pixels}
 */
function unpacked({ width, height, depth, colour }, palette, passes, sizes, data, where) {
  const samples = SAMPLES[colour];
  const channels = colour === 3 ? 3 : samples;
  const result = new Uint8Array(width * height * channels);
  const scale = colour === 3 ? 1 : 255 / (2 ** Math.min(depth, 8) - 1);
  let begin = 0;
  passes.forEach(([left, top, across, down], pass) => {
    const { columns, rows, rowBytes } = sizes[pass];
    unfilter(data, begin, rows, rowBytes, Math.max(1, (samples * depth) / 8), where);
    for (let y = 0; y < rows; y++, begin += 1 + rowBytes) {
      if (depth === 8 && colour !== 3 && passes.length === 1) {
        result.set(data.subarray(begin + 1, begin + 1 + rowBytes), y * rowBytes);
        continue;
      }
      for (let x = 0; x < columns; x++) {
        const to = ((top + y * down) * width + left + x * across) * channels;
        for (let sample = 0; sample < samples; sample++) {
          const bit = (x * samples + sample) * depth;
          const at = begin + 1 + (bit >> 3);
          if (depth === 16) {
            // Pillow takes the upper byte, except of grey, which timm_encmixer scales
            result[to + sample] = colour === 0 ? Math.floor(((data[at] << 8) + data[at + 1] + 128) / 257) : data[at];
            continue;
          }
          const value = depth === 8 ? data[at] : (data[at] >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
          if (colour === 3) for (let c = 0; c < 3; c++) result[to + c] = palette[3 * value + c] ?? 0;
          else result[to + sample] = value * scale;
        }
      }
    }
  });
  return { data: result, width, height, channels };
}

/** @param {Uint8Array} data @param {number} begin @param {number} rows @param {number} rowBytes @param {number} step @param {string} where */
function unfilter(data, begin, rows, rowBytes, step, where) {
  for (let row = 0; row < rows; row++, begin += 1 + rowBytes) {
    const filter = data[begin];
    if (filter > 4) throw damaged(where, "an unknown filter");
    if (filter === 0) continue;
    for (let i = 0; i < rowBytes; i++) {
      const at = begin + 1 + i;
      const left = i >= step ? data[at - step] : 0;
      const up = row > 0 ? data[at - rowBytes - 1] : 0;
      const corner = row > 0 && i >= step ? data[at - rowBytes - 1 - step] : 0;
      data[at] += filter === 1 ? left : filter === 2 ? up : filter === 3 ? (left + up) >> 1 : paeth(left, up, corner);
    }
  }
}

/** @param {number} left @param {number} up @param {number} corner */
function paeth(left, up, corner) {
  const [toLeft, toUp, toCorner] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
}

/** @param {Header} header @param {number} x @param {number} y @param {number} across @param {number} down */
function passSize({ width, height, depth, colour }, x, y, across, down) {
  const columns = Math.max(0, Math.ceil((width - x) / across));
  const rows = columns === 0 ? 0 : Math.max(0, Math.ceil((height - y) / down));
  return { columns, rows, rowBytes: Math.ceil((columns * SAMPLES[colour] * depth) / 8) };
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
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "IEND") return;
    if (crc32(bytes.subarray(at + 4, end)) !== view.getUint32(end)) throw damaged(where, `a wrong checksum in ${shown(type)}`);
    yield { type, body: bytes.subarray(at + 8, end) };
    at = end + 4;
  }
  throw damaged(where, "it is truncated");
}

/** @param {Uint8Array[]} compressed @param {number} size Bytes to expect; no more are kept. @param {string} where */
async function inflated(compressed, size, where) {
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
  if (filled < size) throw damaged(where, "it is truncated");
  return result;
}

/**
 * Return EXIF's orientation, 1 where there is none.
 *
 * @param {Uint8Array} exif A TIFF header and what follows it.
 */
function orientationOf(exif) {
  const view = viewOf(exif);
  const order = exif.length >= 8 ? view.getUint16(0) : 0;
  if (order !== 0x4949 && order !== 0x4d4d) return 1;
  const little = order === 0x4949;
  const begin = view.getUint32(4, little);
  const count = begin + 2 <= exif.length ? view.getUint16(begin, little) : 0;
  for (let entry = begin + 2; entry < begin + 2 + 12 * count && entry + 12 <= exif.length; entry += 12) {
    if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little);
  }
  return 1;
}

/** @param {Pixels} pixels */
function unfilteredRows({ data, width, height, channels }) {
  const step = width * channels;
  const rows = new Uint8Array(height * (1 + step)); // each begins with 0: no filter
  for (let y = 0; y < height; y++) rows.set(data.subarray(y * step, (y + 1) * step), y * (1 + step) + 1);
  return rows;
}

/** @param {Uint8Array} data Returned as a zlib stream of stored blocks. */
function stored(data) {
  /** @type {Uint8Array[]} */
  const parts = [Uint8Array.of(0x78, 0x01)];
  for (let start = 0; start < data.length; start += MOST_STORED) {
    const some = data.subarray(start, start + MOST_STORED);
    const last = start + MOST_STORED >= data.length ? 1 : 0;
    parts.push(Uint8Array.of(last, some.length & 255, some.length >> 8, ~some.length & 255, (~some.length >> 8) & 255), some);
  }
  const sum = new Uint8Array(4);
  viewOf(sum).setUint32(0, adler32(data));
  return joined([...parts, sum]);
}

/** @param {string} type @param {Uint8Array} body */
function chunk(type, body) {
  const whole = new Uint8Array(body.length + 12);
  const view = viewOf(whole);
  view.setUint32(0, body.length);
  whole.set(Uint8Array.from(type, (character) => character.charCodeAt(0)), 4);
  whole.set(body, 8);
  view.setUint32(body.length + 8, crc32(whole.subarray(4, body.length + 8)));
  return whole;
}

/** @param {Uint8Array[]} parts */
function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Uint8Array} bytes */
function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** @param {string} where @param {string} reason */
function damaged(where, reason) {
  return new EncMixerError(where, "a whole image", `a damaged one (${reason})`, "take another copy");
}
