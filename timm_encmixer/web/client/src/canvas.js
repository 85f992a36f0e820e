/** Decoding by the browser, through a canvas; one that returns other pixels than were drawn is found first. */

import { joined } from "./bytes.js";
import { EncMixerError } from "./errors.js";
import { LARGEST_PX } from "./pixels.js";

const KNOWN_PX = 64; // side of the pixels that are drawn first
const HEVC = /^....ftyp(.{4})*?(hei[cxms]|hev[cx])/s;

/**
 * Let the browser decode a file, without colour management, and turned by no EXIF that the caller has taken out.
 *
 * @param {Uint8Array[]} parts Of the file, one behind the other.
 * @param {string} where
 * @returns {Promise<import("./api").Pixels>}
 */
export async function decoded(parts, where) {
  if (typeof createImageBitmap !== "function") {
    throw new EncMixerError(where, "a PNG, outside of a browser", "another format", "convert it to PNG first");
  }
  // "from-image" applies what the format itself says; the other two keep the file's own numbers
  const options = /** @type {const} */ ({ imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const file = joined(parts); // Firefox 140 decodes no Blob of several parts
  const bitmap = await createImageBitmap(new Blob([/** @type {BlobPart} */ (file)]), options).catch(() => {
    throw unknown(file, where);
  });
  try {
    const { width, height } = bitmap;
    if (width * height > LARGEST_PX) {
      throw new EncMixerError(where, `at most ${LARGEST_PX} pixels`, `${height} x ${width} px`, "scale it down first");
    }
    refuseNoise(where);
    const context = contextOf(width, height, where);
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

/**
 * Refuse a canvas that returns other pixels than were drawn on it: browsers set to resist fingerprinting add noise, or return white.
 *
 * @param {string} where
 */
function refuseNoise(where) {
  const context = contextOf(KNOWN_PX, KNOWN_PX, where);
  const drawn = context.createImageData(KNOWN_PX, KNOWN_PX);
  for (let i = 0; i < drawn.data.length; i++) drawn.data[i] = i % 4 === 3 ? 255 : (i * 2654435761) >>> 24;
  context.putImageData(drawn, 0, 0);
  const { data } = context.getImageData(0, 0, KNOWN_PX, KNOWN_PX, { colorSpace: "srgb" });
  if (drawn.data.some((level, i) => level !== data[i])) {
    const remedy = "save the photo as PNG, which is read without a canvas, or allow this page to read its canvas";
    throw new EncMixerError(where, "a canvas that returns the pixels drawn on it", "noise, against fingerprinting", remedy);
  }
}

/**
 * @param {number} width
 * @param {number} height
 * @param {string} where
 * @returns {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D}
 */
function contextOf(width, height, where) {
  const canvas =
    typeof OffscreenCanvas === "function"
      ? new OffscreenCanvas(width, height)
      : typeof document === "object" && Object.assign(document.createElement("canvas"), { width, height });
  const settings = /** @type {const} */ ({ colorSpace: "srgb", willReadFrequently: true });
  const context = /** @type {any} */ (canvas || undefined)?.getContext("2d", settings) ?? null;
  if (context === null) throw new EncMixerError(where, "a canvas to read the image with", "none", "save the photo as PNG, or try another browser");
  return context;
}

/** @param {Uint8Array} bytes @param {string} where */
function unknown(bytes, where) {
  const head = String.fromCharCode(...bytes.subarray(0, 64));
  if (HEVC.test(head)) return new EncMixerError(where, "an image that this browser reads", "HEIC", "convert it to JPEG or PNG first");
  return new EncMixerError(where, "an image", "no format that this browser knows, or a damaged file", "check the file");
}

/** @param {Uint8ClampedArray} data RGBA. */
function hasAlpha(data) {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return true;
  return false;
}
