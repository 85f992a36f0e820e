/** The known-answer vectors of the formats (tests/vectors), which were made without any of the package's code. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import TABLE from "../src/ciphers.json" with { type: "json" };
import { keyText, makeCipher, readKey, readRecord } from "../dist/encmixer.js";

const { cases } = JSON.parse(readFileSync(new URL("../../../../tests/vectors/format-1.json", import.meta.url), "utf8"));
const keyOf = ({ key_file_hex: hex }) => readKey(`ENCMIXER-KEY-1:${Buffer.from(hex, "hex").toString("base64url")}\n`);

for (const vector of cases) {
  test(`key ${vector.fingerprint}`, () => {
    const key = keyOf(vector);
    assert.equal(key.fingerprint, vector.fingerprint);
    assert.equal(keyText(key), `ENCMIXER-KEY-1:${Buffer.from(vector.key_file_hex, "hex").toString("base64url")}\n`);
  });

  for (const parts of vector.ciphers) {
    const { cipher, C: channels, P: patch, grid } = parts;
    test(`${cipher}, C = ${channels}, P = ${patch}, key ${vector.fingerprint}`, () => {
      const version = TABLE.ciphers[cipher].since;
      const record = readRecord({ version, cipher, patch_size: patch, in_chans: channels, fingerprint: vector.fingerprint, ...(grid && { grid }) });
      if (!TABLE.ciphers[cipher].exact) {
        assert.throws(() => makeCipher(keyOf(vector), record), /8-bit ciphertext, got orthogonal.*floating-point tensors/);
        return;
      }
      const [rows, columns] = grid ?? [2, 3];
      const image = noise(rows * patch, columns * patch, channels);
      const whole = makeCipher(keyOf(vector), record);
      const ciphertext = whole.encrypt(image);
      assert.deepEqual(blocks(ciphertext, patch), expected(blocks(image, patch), parts));
      assert.deepEqual(whole.decrypt(ciphertext).data, image.data);
    });
  }
}

function noise(height, width, channels) {
  const data = crypto.getRandomValues(new Uint8Array(height * width * channels));
  return { data, width, height, channels };
}

/** Each block of an image, by rows, flattened by channel, row, column. */
function blocks({ data, width, height, channels }, patch) {
  const found = [];
  for (let top = 0; top < height; top += patch) {
    for (let left = 0; left < width; left += patch) {
      const block = [];
      for (let c = 0; c < channels; c++) {
        for (let y = top; y < top + patch; y++) for (let x = left; x < left + patch; x++) block.push(data[(y * width + x) * channels + c]);
      }
      found.push(block);
    }
  }
  return found;
}

/** The blocks after the parts of a cipher, one after the other, as docs/format.md says it. */
function expected(plain, { cipher, shuffle, negpos, etc, scramble, ...others }) {
  const steps = {
    "shuffle-planes": (found) => found.map((v) => others["shuffle-planes"].map((from) => v[from])),
    shuffle: (found) => found.map((v) => shuffle.map((from) => v[from])),
    negpos: (found) => found.map((v) => v.map((level, i) => (negpos.includes(i) ? 255 - level : level))),
    etc: (found) => found.map((v) => etc.map(([from, sign]) => (sign ? 255 - v[from] : v[from]))),
    scramble: (found) => scramble.map((from) => found[from]),
  };
  return cipher.split("+").reduce((found, part) => steps[part](found), plain);
}
