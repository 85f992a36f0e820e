/**
 * PNG without a canvas, which may change pixels (colour management, premultiplied alpha). Written: 8 bits, grey or RGB, uncompressed,
 * because ciphertext hardly compresses. Read: all of PNG, as Pillow reads it. Source: PNG specification, third edition; RFC 1950, 1951.
 */

import { bytesOf, inflated, joined, viewOf } from "./bytes.js";
import { adler32, crc32 } from "./checksum.js";
import { damaged, EncMixerError, whereOf } from "./errors.js";
import { imageRecordOf, KEYWORD, LOSSLESS, readImageRecord } from "./image_record.js";
import { asPixels, toChannels } from "./pixels.js";
import { isPng, readPng, SAMPLES, SIGNATURE } from "./png_file.js";
import { asRecord } from "./record.js";

const MOST_STORED = 65535; // bytes in a stored block of deflate
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]]; // Adam7

/**
 * @typedef {import("./api").Pixels} Pixels
 * @typedef {import("./png_file.js").Header} Header
 */

/** @type {typeof import("./api").encodePng} */
export function encodePng(image, options) {
  const record = options?.record;
  const given = asPixels(image);
  const pixels = toChannels(given, given.channels < 3 ? 1 : 3);
  const { width, height, channels } = pixels;
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, channels === 1 ? 0 : 2], 8);
  const text = record === undefined ? undefined : `${KEYWORD}\0${JSON.stringify(imageRecordOf(pixels, asRecord(record)))}`;
  return joined([
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", header),
    ...(text === undefined ? [] : [chunk("tEXt", Uint8Array.from(text, (character) => character.charCodeAt(0)))]),
    chunk("IDAT", stored(unfilteredRows(pixels))),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

/** @type {typeof import("./api").decodePng} */
export async function decodePng(file, options) {
  return (await pngPixels(file, whereOf(options, "image"))).image;
}

/**
 * The pixels of a PNG file as they are in it, with its record, and EXIF's orientation, by which only a photo is turned.
 *
 * @param {unknown} file
 * @param {string} where
 * @returns {Promise<{ image: Pixels, orientation: number }>}
 */
export async function pngPixels(file, where) {
  const bytes = await bytesOf(file, where);
  if (!isPng(bytes)) throw new EncMixerError(where, "a PNG", "something else", "check the file");
  const { header, palette, compressed, orientation, record } = await readPng(bytes, where);
  const imageRecord = record === undefined ? undefined : readImageRecord(record, where, LOSSLESS);
  const passes = header.interlaced ? PASSES : [[0, 0, 1, 1]];
  const sizes = passes.map(([x, y, across, down]) => passSize(header, x, y, across, down));
  const size = sizes.reduce((sum, { rows, rowBytes }) => sum + rows * (1 + rowBytes), 0);
  const data = await inflated(compressed, size, where);
  if (data.length < size) throw damaged(where, "it is truncated");
  const image = unpacked(header, palette, passes, sizes, data, where);
  return { image: imageRecord === undefined ? image : { ...image, imageRecord }, orientation };
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
