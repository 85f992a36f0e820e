/**
 * What an image file is, and what a record is: the tables of tests/vectors, which Python's readers and the recipes of servers pass too.
 * Outside of a browser only PNG is decoded.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { EncMixerError, makeCipher, preprocess, readCiphertext, readImage, readKey, readRecord } from "../dist/encmixer.js";
import { readImageRecord } from "../src/image_record.js";

const table = (name) => JSON.parse(readFileSync(new URL(`../../../../tests/vectors/${name}.json`, import.meta.url), "utf8"));
const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const key = readKey("ENCMIXER-KEY-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh_4-4Er");
const { models, files } = table("files");
const decodes = typeof createImageBitmap === "function";
const OUTSIDE = /a PNG, outside of a browser/;
const DECODERS_DIFFER = 40; // grey levels at most, of JPEG pixels and of those that were encoded

for (const row of files.filter(({ browser = true }) => browser || !decodes)) {
  test(`a file: ${row.name}`, async () => {
    const file = bytesOf(row.file);
    const isPng = file[0] === 0x89 && file[1] === 0x50;
    const call = row.role === "plain" ? () => asPhoto(file, row) : () => asCiphertext(file, row);
    if (row.answer === "refused") return refuses(call, isPng || decodes ? new RegExp(row.reason) : new RegExp(`${row.reason}|${OUTSIDE.source}`));
    if (!isPng && !decodes) return refuses(call, OUTSIDE);
    const found = await call();
    const wanted = bytesOf(row.pixels);
    assert.deepEqual([found.height, found.width, found.channels], row.shape);
    const off = wanted.reduce((most, level, i) => Math.max(most, Math.abs(level - found.data[i])), 0);
    assert(off <= (row.lossy ? DECODERS_DIFFER : 0), `${off} grey levels off`);
    assert.equal(found.data.length, wanted.length);
  });
}

async function asPhoto(file, { shape: [height, width] = [8, 16] }) {
  const plain = { ...models.colour.plain, input_size: [3, height, width], crop_mode: "squash" };
  return preprocess(await readImage(file), readRecord({ ...models.colour, plain }));
}

/** The ciphertext as it was taken: what is decrypted is encrypted again. */
async function asCiphertext(file, { model, answer }) {
  const record = readRecord(models[model]);
  const cipher = makeCipher(key, record);
  const found = await readCiphertext(file, record);
  const plain = cipher.decrypt(found);
  assert.equal(found.imageRecord !== undefined, answer !== "unmarked");
  return cipher.encrypt(plain);
}

async function refuses(call, pattern) {
  const error = await call().then(() => null, (thrown) => thrown);
  assert(error instanceof EncMixerError && pattern.test(error.message), `${error}`);
}

test("records are what the table says", () => {
  for (const { name, kind, text, answer } of table("records").records) {
    const call = kind === "model" ? () => readRecord(text) : () => readImageRecord(text, "image", kind === "PNG" ? 1 : 2);
    let found = "read";
    try {
      call();
    } catch (error) {
      assert(error.name === "EncMixerError", `${name}: ${error.stack}`);
      found = "refused";
    }
    assert.equal(found, answer, name);
  }
});
