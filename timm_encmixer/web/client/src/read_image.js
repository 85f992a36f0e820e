/** Reading image files, as docs/images.md has it. PNG is decoded here; the browser decodes all other formats. */

import { framesOfGif, isGif, isWebp, readWebp } from "./animations.js";
import { bytesOf } from "./bytes.js";
import { decoded } from "./canvas.js";
import { EncMixerError, whereOf } from "./errors.js";
import { LOSSY, readImageRecord } from "./image_record.js";
import { isJpeg, orientationOf, readJpeg, recordIn, refuseChanged, withoutOrientation } from "./jpeg.js";
import { upright } from "./pixels.js";
import { decodePng, pngPixels } from "./png.js";
import { isPng } from "./png_file.js";
import { asRecord, factsOf } from "./record.js";

/** @type {typeof import("./api").readImage} */
export async function readImage(file, options) {
  const where = whereOf(options, "image");
  const bytes = await bytesOf(file, where);
  if (isPng(bytes)) {
    const { image, orientation } = await pngPixels(bytes, where);
    return image.imageRecord === undefined ? upright(image, orientation) : image; // what follows refuses a ciphertext
  }
  if (isJpeg(bytes)) {
    const jpeg = readJpeg(bytes, where);
    if (recordIn(jpeg) !== undefined) {
      throw new EncMixerError(where, "a plain image", "a ciphertext", "give the plain image; decrypt gets it back");
    }
    return upright(await decoded(withoutOrientation(jpeg), where), orientationOf(jpeg));
  }
  if (isWebp(bytes)) {
    const { frames, orientation, file: still } = readWebp(bytes, where);
    refuseFrames(frames, where);
    return upright(await decoded([still], where), orientation);
  }
  if (isGif(bytes)) refuseFrames(framesOfGif(bytes, where), where);
  return decoded([bytes], where);
}

/** @type {typeof import("./api").readCiphertext} */
export async function readCiphertext(file, model, options) {
  const where = whereOf(options, "ciphertext");
  const [bytes, record] = [await bytesOf(file, where), asRecord(model)];
  if (isPng(bytes) || !isJpeg(bytes)) return decodePng(bytes, { where });
  if (!factsOf(record).takes_jpeg) {
    const remedy = "JPEG changes ciphertext pixels beyond recovery: keep ciphertext as PNG from end to end";
    throw new EncMixerError(where, "a ciphertext PNG", "JPEG", remedy);
  }
  const jpeg = readJpeg(bytes, where);
  refuseChanged(jpeg, record.in_chans, where);
  const text = recordIn(jpeg);
  const imageRecord = text === undefined ? undefined : readImageRecord(text, where, LOSSY);
  const image = await decoded(withoutOrientation(jpeg), where); // ciphertext is not turned
  const channels = record.in_chans;
  const data = new Uint8Array(image.width * image.height * channels);
  for (let from = 0, to = 0; to < data.length; from += 4, to += channels) {
    for (let channel = 0; channel < channels; channel++) data[to + channel] = image.data[from + channel];
  }
  return { data, width: image.width, height: image.height, channels, imageRecord };
}

/** @param {number} frames @param {string} where */
function refuseFrames(frames, where) {
  if (frames > 1) throw new EncMixerError(where, "a still image", `${frames} frames`, "extract the frame you mean");
}
