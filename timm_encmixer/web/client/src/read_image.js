/** Reading image files. PNG is decoded here; the browser decodes all other formats. */

import { EncMixerError } from "./errors.js";
import { KEYWORD, LOSSY, readImageRecord } from "./image_record.js";
import { LARGEST_PX } from "./pixels.js";
import { decodePng, isPng } from "./png.js";
import { factsOf } from "./record.js";

const COMMENT = `${KEYWORD}:`; // how the comment of a JPEG begins that holds a record
const [COM, EXIF, BASELINE] = [0xfe, 0xe1, 0xc0]; // markers; those of frames are BASELINE to BASELINE + 15 but for three
const NO_FRAMES = [0xc4, 0xc8, 0xcc];

/** @type {typeof import("./api").readImage} */
export async function readImage(file, { where = "image" } = {}) {
  const bytes = await bytesOf(file);
  if (isPng(bytes)) return decodePng(bytes, { where });
  if (segmentsOf(bytes).some((segment) => textOf(segment).startsWith(COMMENT))) {
    throw new EncMixerError(where, "a plain image", "a ciphertext", "give the plain image; decrypt gets it back");
  }
  return decoded([bytes], where);
}

/** @type {typeof import("./api").readCiphertext} */
export async function readCiphertext(file, record, { where = "ciphertext" } = {}) {
  const bytes = await bytesOf(file);
  const takesJpeg = factsOf(record).takes_jpeg;
  if (isPng(bytes) || !isJpeg(bytes)) return decodePng(bytes, { where });
  if (!takesJpeg) {
    const remedy = "JPEG changes ciphertext pixels beyond recovery: keep ciphertext as PNG from end to end";
    throw new EncMixerError(where, "a ciphertext PNG", "JPEG", remedy);
  }
  const segments = segmentsOf(bytes);
  refuseChanged(segments, where);
  const comment = segments.map(textOf).find((text) => text.startsWith(COMMENT));
  const imageRecord = comment === undefined ? undefined : readImageRecord(comment.slice(COMMENT.length), where, LOSSY);
  const image = await decoded(withoutExif(bytes, segments), where);
  const grey = frameOf(segments)?.data[5] === 1;
  const channels = grey ? 1 : 3;
  const data = new Uint8Array(image.width * image.height * channels);
  for (let from = 0, to = 0; to < data.length; from += 4, to += channels) {
    for (let channel = 0; channel < channels; channel++) data[to + channel] = image.data[from + channel];
  }
  return { data, width: image.width, height: image.height, channels, imageRecord };
}

/** @param {Blob | ArrayBuffer | Uint8Array} file */
async function bytesOf(file) {
  return file instanceof Uint8Array ? file : new Uint8Array(file instanceof Blob ? await file.arrayBuffer() : file);
}

/**
 * Let the browser decode a file, and turn it upright.
 *
 * @param {Uint8Array[]} parts Of the file, one behind the other.
 * @param {string} where
 * @returns {Promise<import("./api").Pixels>}
 */
async function decoded(parts, where) {
  if (typeof createImageBitmap !== "function") {
    throw new EncMixerError(where, "a PNG, outside of a browser", "another format", "convert it to PNG first");
  }
  // "from-image" applies EXIF's orientation; the other two keep the file's own numbers
  const options = /** @type {const} */ ({ imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const bitmap = await createImageBitmap(new Blob(/** @type {BlobPart[]} */ (parts)), options).catch(() => {
    throw new EncMixerError(where, "an image", "no format that this browser knows, or a damaged file", "check the file");
  });
  try {
    const { width, height } = bitmap;
    if (width * height > LARGEST_PX) {
      throw new EncMixerError(where, `at most ${LARGEST_PX} pixels`, `${height} x ${width} px`, "scale it down first");
    }
    const context = new OffscreenCanvas(width, height).getContext("2d", { colorSpace: "srgb", willReadFrequently: true });
    if (context === null) throw new EncMixerError(where, "a canvas to read the image with", "none", "try another browser");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height, { colorSpace: "srgb" });
    if (hasAlpha(data)) {
      const got = "transparent ones, whose colours a browser's canvas changes";
      throw new EncMixerError(where, "opaque pixels, in formats other than PNG", got, "save it as PNG first");
    }
    return { data, width, height, channels: 4 };
  } finally {
    bitmap.close();
  }
}

/** @param {Uint8ClampedArray} data RGBA. */
function hasAlpha(data) {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return true;
  return false;
}

/** @param {Uint8Array} bytes */
function isJpeg(bytes) {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

/**
 * The segments of a JPEG before its pixels; none of another file.
 *
 * @typedef {{ marker: number, data: Uint8Array, start: number, end: number }} Segment
 * @param {Uint8Array} bytes
 * @returns {Segment[]}
 */
function segmentsOf(bytes) {
  const found = [];
  for (let at = 2; isJpeg(bytes) && at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; ) {
    const end = at + 2 + (bytes[at + 2] << 8) + bytes[at + 3];
    found.push({ marker: bytes[at + 1], data: bytes.subarray(at + 4, end), start: at, end });
    at = end;
  }
  return found;
}

/**
 * A JPEG without EXIF: ciphertext is not turned, and browsers cannot be told so.
 *
 * @param {Uint8Array} bytes
 * @param {Segment[]} segments Of it.
 */
function withoutExif(bytes, segments) {
  const kept = segments.filter(({ marker }) => marker !== EXIF).map(({ start, end }) => bytes.subarray(start, end));
  return [bytes.subarray(0, 2), ...kept, bytes.subarray(segments.at(-1)?.end ?? 2)];
}

/** @param {Segment} segment Its text, where it is a comment. */
function textOf({ marker, data }) {
  return marker === COM ? new TextDecoder().decode(data) : "";
}

/** @param {Segment[]} segments */
function frameOf(segments) {
  return segments.find(({ marker }) => marker >= BASELINE && marker < BASELINE + 16 && !NO_FRAMES.includes(marker));
}

/**
 * Refuse a JPEG that other software has written in a way that mixes neighbouring squares of 8 x 8 px, as far as it shows.
 *
 * @param {Segment[]} segments
 * @param {string} where
 */
function refuseChanged(segments, where) {
  const remedy = "take the file that encmixer wrote, or save it as baseline JPEG with 4:4:4 sampling";
  const frame = frameOf(segments);
  if (frame === undefined) throw new EncMixerError(where, "a JPEG", "a damaged one", "take another copy");
  const factors = Array.from({ length: frame.data[5] }, (_, i) => frame.data[7 + 3 * i]);
  if (new Set(factors).size > 1) {
    throw new EncMixerError(where, "a JPEG whose colours are not subsampled (4:4:4)", "subsampled ones", remedy);
  }
  if (frame.marker !== BASELINE) {
    throw new EncMixerError(where, "a baseline JPEG, as encmixer writes it", "another one, which was saved again", remedy);
  }
}
