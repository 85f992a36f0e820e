/** Reading a plain image file. PNG is decoded here; the browser decodes all other formats. */

import { EncMixerError } from "./errors.js";
import { KEYWORD } from "./image_record.js";
import { LARGEST_PX } from "./pixels.js";
import { decodePng, isPng } from "./png.js";

/** @type {typeof import("./api").readImage} */
export async function readImage(file, { where = "image" } = {}) {
  const bytes = file instanceof Uint8Array ? file : new Uint8Array(file instanceof Blob ? await file.arrayBuffer() : file);
  if (isPng(bytes)) return decodePng(bytes, { where });
  if (hasComment(bytes, `${KEYWORD}:`)) {
    throw new EncMixerError(where, "a plain image", "a ciphertext", "give the plain image; the Python package decrypts JPEG");
  }
  if (typeof createImageBitmap !== "function") {
    throw new EncMixerError(where, "a PNG, outside of a browser", "another format", "convert it to PNG first");
  }
  // "from-image" applies EXIF's orientation; the other two keep the file's own numbers
  const options = /** @type {const} */ ({ imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const bitmap = await createImageBitmap(new Blob([/** @type {BlobPart} */ (bytes)]), options).catch(() => {
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

/**
 * Whether the bytes are a JPEG with a comment that begins so.
 *
 * @param {Uint8Array} bytes
 * @param {string} begin
 */
function hasComment(bytes, begin) {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return false;
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; ) {
    if (bytes[at + 1] === 0xfe && String.fromCharCode(...bytes.subarray(at + 4, at + 4 + begin.length)) === begin) return true;
    at += 2 + (bytes[at + 2] << 8) + bytes[at + 3];
  }
  return false;
}
