/** The plain model's preprocessing, as timm_encmixer/images/preprocessing.py does it: resizing, then the crop. */

import { EncMixerError } from "./errors.js";
import { refuseCiphertext } from "./image_record.js";
import { asPixels, toChannels } from "./pixels.js";
import { asRecord } from "./record.js";
import { resize } from "./resize.js";

const LARGEST_PX = 2 ** 30; // of an image between resizing and crop

/**
 * @typedef {import("./api").Pixels} Pixels
 * @typedef {[height: number, width: number]} Size
 */

/** @type {typeof import("./api").preprocess} */
export function preprocess(image, record) {
  const { plain, patch_size: patch } = asRecord(record);
  if (plain === null) throw new EncMixerError("record", "the plain model's preprocessing", "none", "use the model's config.json");
  const [channels, height, width] = plain.input_size;
  if (height % patch || width % patch) {
    const remedy = "the rest would stay plain: give the model an input size that fits";
    throw new EncMixerError("input_size", `multiples of ${patch} px`, `${height} x ${width} px`, remedy);
  }
  const given = asPixels(image);
  refuseCiphertext(given);
  const size = resizedTo(given, plain);
  if (size.includes(0) || size[0] * size[1] > LARGEST_PX) {
    const got = `${given.height} x ${given.width} px, which would become ${size[0]} x ${size[1]} px`;
    throw new EncMixerError("image", "sides that can be brought to the model's input size", got, "crop it first");
  }
  const pixels = toChannels(given, channels);
  const fill = plain.crop_mode === "border" ? plain.mean.map((mean) => clamped(rounded(255 * mean))) : Array(channels).fill(0);
  const resized = size[0] === pixels.height && size[1] === pixels.width ? pixels : resize(pixels, size[1], size[0], plain.interpolation);
  return centre(resized, height, width, fill);
}

/**
 * Return height and width after resizing.
 *
 * @param {Pixels} image
 * @param {import("./api").PlainPreprocessing} plain
 * @returns {Size}
 */
function resizedTo(image, { input_size: [, height, width], crop_pct: share, crop_mode: mode }) {
  /** @type {Size} */
  const scaled = [Math.floor(height / share), Math.floor(width / share)];
  const ratios = [image.height / scaled[0], image.width / scaled[1]];
  if (mode === "squash") return scaled;
  if (mode === "border") return divided(image, Math.max(...ratios));
  return scaled[0] === scaled[1] ? shorterSide(image, scaled[0]) : divided(image, Math.min(...ratios));
}

/** @param {Pixels} image @param {number} side @returns {Size} With the shorter side `side`; torchvision rounds the longer one down. */
function shorterSide({ height, width }, side) {
  const longer = Math.trunc((side * Math.max(height, width)) / Math.min(height, width));
  return width <= height ? [longer, side] : [side, longer];
}

/** @param {Pixels} image @param {number} ratio @returns {Size} */
function divided({ height, width }, ratio) {
  return [rounded(height / ratio), rounded(width / ratio)];
}

/**
 * Crop to the centre, after adding a border where the image is smaller.
 *
 * @param {Pixels} image
 * @param {number} height
 * @param {number} width
 * @param {number[]} fill Of the border, by channel.
 * @returns {Pixels}
 */
function centre(image, height, width, fill) {
  const { data, channels } = image;
  const [top, left] = [begin(image.height, height), begin(image.width, width)]; // negative inside a border
  const result = new Uint8Array(height * width * channels);
  for (let i = 0; i < result.length; i++) result[i] = fill[i % channels];
  const [first, last] = [Math.max(0, -left), Math.min(width, image.width - left)]; // columns that the image has
  for (let y = Math.max(0, -top); y < Math.min(height, image.height - top); y++) {
    const row = ((y + top) * image.width + left) * channels;
    result.set(data.subarray(row + first * channels, row + last * channels), (y * width + first) * channels);
  }
  return { data: result, width, height, channels };
}

/** @param {number} given @param {number} wanted Lengths of a side. */
function begin(given, wanted) {
  const missing = Math.max(0, wanted - given);
  return rounded((given + missing - wanted) / 2) - Math.floor(missing / 2);
}

/** @param {number} value Halves go to the even neighbour, as Python rounds. */
function rounded(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

/** @param {number} level */
function clamped(level) {
  return Math.min(255, Math.max(0, level));
}
