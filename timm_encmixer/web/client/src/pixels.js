/** 8-bit images in memory: what is taken, and how it is brought to the model's channels, as docs/images.md has it. */

import { isBytes } from "./bytes.js";
import { EncMixerError, shown } from "./errors.js";

export const LARGEST_PX = 89478485; // Pillow's limit against decompression bombs

/**
 * @typedef {import("./api").Pixels} Pixels
 * @typedef {import("./api").ImageLike} ImageLike
 */

/**
 * Check an image, which may be a page's ImageData.
 *
 * @param {ImageLike} image
 * @returns {Pixels}
 */
export function asPixels(image) {
  const { data, width, height } = /** @type {any} */ (image ?? {});
  const channels = /** @type {any} */ (image)?.channels ?? 4; // ImageData has no such field
  const bytes = isBytes(data);
  const sides = [width, height].every((side) => Number.isInteger(side) && side > 0);
  if (!bytes || !sides || ![1, 2, 3, 4].includes(channels) || data.length !== width * height * channels) {
    const got = bytes ? `${data.length} bytes for ${shown(height)} x ${shown(width)} px, ${shown(channels)} channels` : "something else";
    throw new EncMixerError("image", "ImageData, or { data, width, height, channels } of 8-bit pixels", got, "readImage makes one");
  }
  return /** @type {Pixels} */ (channels === /** @type {any} */ (image).channels ? image : { data, width, height, channels });
}

/**
 * Return an image of 1 or 3 channels. Alpha is dropped, not blended; grey is repeated; colours become Pillow's luma.
 *
 * @param {Pixels} image
 * @param {number} channels
 * @returns {Pixels}
 */
export function toChannels(image, channels) {
  if (channels !== 1 && channels !== 3) {
    throw new EncMixerError("record: in_chans", "1 or 3 channels for images", `${channels}`, "use the Python package for tensors");
  }
  if (image.channels === channels) return image;
  const { data, width, height, channels: given } = image;
  const result = new Uint8Array(width * height * channels);
  for (let from = 0, to = 0; to < result.length; from += given, to += channels) {
    if (channels === 3) {
      const coloured = given === 4;
      result[to] = data[from];
      result[to + 1] = data[coloured ? from + 1 : from];
      result[to + 2] = data[coloured ? from + 2 : from];
    } else {
      result[to] = given === 2 ? data[from] : (19595 * data[from] + 38470 * data[from + 1] + 7471 * data[from + 2] + 0x8000) >> 16;
    }
  }
  return { data: result, width, height, channels };
}

/**
 * Return a ciphertext in its model's channels, where that changes no pixel: programs that make files smaller write greyscale for
 * grey colours, for example.
 *
 * @param {Pixels} image
 * @param {number} channels
 * @returns {Pixels}
 */
export function byPixels(image, channels) {
  if (image.channels === channels) return image;
  const { data, channels: given } = image;
  const hasColours = () => data.some((_, i) => i % given === 0 && (data[i] !== data[i + 1] || data[i] !== data[i + 2]));
  if (channels === 1 && given > 2 && hasColours()) {
    throw new EncMixerError("image", "1 channel, as the model's record says", "colours", "it is not a ciphertext of this model");
  }
  return { ...toChannels(image, channels), imageRecord: image.imageRecord };
}

/** @type {typeof import("./api").toImageData} */
export function toImageData(image) {
  if (typeof ImageData !== "function") throw new EncMixerError("image", "a page, which has ImageData", "none", "use the pixels themselves");
  const { data, width, height, channels } = asPixels(image);
  const result = new Uint8ClampedArray(4 * width * height);
  for (let from = 0, to = 0; to < result.length; from += channels, to += 4) {
    const coloured = channels > 2;
    result[to] = data[from];
    result[to + 1] = data[coloured ? from + 1 : from];
    result[to + 2] = data[coloured ? from + 2 : from];
    result[to + 3] = 255;
  }
  return new ImageData(result, width, height);
}

/**
 * Turn an image upright.
 *
 * @param {Pixels} image
 * @param {number} orientation EXIF's number; anything but 2 to 8 changes nothing.
 * @returns {Pixels}
 */
export function upright(image, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return image;
  const { data, width, height, channels } = image;
  const swapped = orientation >= 5; // width and height
  const mirrored = [2, 3, 7, 8].includes(orientation); // the file's columns run backwards
  const flipped = [3, 4, 6, 7].includes(orientation); // the file's rows run backwards
  const turned = { data: new Uint8Array(data.length), width: swapped ? height : width, height: swapped ? width : height, channels };
  let to = 0;
  for (let y = 0; y < turned.height; y++) {
    for (let x = 0; x < turned.width; x++) {
      const across = swapped ? y : x;
      const down = swapped ? x : y;
      let from = ((flipped ? height - 1 - down : down) * width + (mirrored ? width - 1 - across : across)) * channels;
      for (let channel = 0; channel < channels; channel++) turned.data[to++] = data[from++];
    }
  }
  return turned;
}
