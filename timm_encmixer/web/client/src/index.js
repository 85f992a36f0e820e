/** Client-side encryption of images for models that timm-encmixer encrypted. The types are in api.d.ts. */

export { makeCipher } from "./cipher.js";
export { EncMixerError } from "./errors.js";
export { fingerprint, keyText, newKey, readKey } from "./key.js";
export { toImageData } from "./pixels.js";
export { decodePng, encodePng } from "./png.js";
export { preprocess } from "./preprocess.js";
export { readCiphertext, readImage } from "./read_image.js";
export { readRecord } from "./record.js";
