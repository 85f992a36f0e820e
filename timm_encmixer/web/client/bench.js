/** Prints megapixels a second, best of five rounds. Run: npm run bench */
import { performance } from "node:perf_hooks";

import { decodePng, encodePng, makeCipher, newKey, preprocess, readRecord } from "./dist/encmixer.js";

const key = newKey();
const grey = [0.5, 0.5, 0.5];
const plain = { input_size: [3, 224, 224], mean: grey, std: grey, interpolation: "bicubic", crop_pct: 0.875, crop_mode: "center" };
const record = (fields) => readRecord({ version: 1, patch_size: 16, in_chans: 3, fingerprint: key.fingerprint, plain, ...fields });
const noise = (side, channels) => {
  const data = new Uint8Array(side * side * channels).map((_, i) => (i * 2654435761) >>> 24);
  return { data, width: side, height: side, channels };
};

const photo = noise(2048, 4);
const image = noise(1024, 3);
const common = record({ cipher: "shuffle+negpos" });
await print("preprocess 2048 x 2048 px to 224 x 224 px", photo, () => preprocess(photo, common));
for (const fields of [
  { cipher: "shuffle+negpos" },
  { version: 3, cipher: "shuffle+negpos+scramble", grid: [64, 64] },
  { version: 4, cipher: "etc" },
]) {
  const cipher = makeCipher(key, record(fields));
  const ciphertext = cipher.encrypt(image);
  await print(`encrypt ${fields.cipher}`, image, () => cipher.encrypt(image));
  await print(`decrypt ${fields.cipher}`, image, () => cipher.decrypt(ciphertext));
}
const file = encodePng(image, { record: common });
await print("encodePng", image, () => encodePng(image, { record: common }));
await print("decodePng", image, () => decodePng(file));

async function print(name, { width, height }, call) {
  let best = Infinity;
  for (let round = 0; round < 5; round++) {
    const begin = performance.now();
    await call();
    best = Math.min(best, performance.now() - begin);
  }
  console.log(`${((width * height) / 1e6 / (best / 1e3)).toFixed(1).padStart(8)} Mpx/s  ${name}`);
}
