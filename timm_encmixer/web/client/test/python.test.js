/** The Python package's answers, from the files that tests/web/test_client_js.py makes; results go back to it in the same folder. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { decodePng, encodePng, keyText, makeCipher, preprocess, readImage, readKey, readRecord } from "../dist/encmixer.js";

const folder = process.env.ENCMIXER_CASES;
const skip = folder ? false : "tests/web/test_client_js.py makes the files";
const bytes = (name) => new Uint8Array(readFileSync(join(folder, name)));
const cases = skip ? {} : JSON.parse(readFileSync(join(folder, "cases.json"), "utf8"));
const pixels = (name, [height, width, channels]) => ({ data: bytes(name), width, height, channels });

test("ciphertext is Python's, and decrypts", { skip }, async () => {
  for (const { name, record: fields, shape } of cases.ciphers) {
    const key = readKey(bytes(`${name}.key`));
    assert.equal(keyText(key), Buffer.from(bytes(`${name}.key`)).toString());
    const record = readRecord(fields);
    const cipher = makeCipher(key, record);
    const plain = pixels(`${name}.plain`, shape);
    const ciphertext = cipher.encrypt(plain);
    assert.deepEqual(ciphertext.data, bytes(`${name}.encrypted`), JSON.stringify(fields));
    assert.deepEqual(cipher.decrypt(ciphertext).data, plain.data);
    const written = await decodePng(bytes(`${name}.python.png`)); // with a record, and as Pillow compresses
    assert.equal(written.imageRecord.fingerprint, key.fingerprint);
    assert.deepEqual(cipher.decrypt(written).data, plain.data);
    writeFileSync(join(folder, `${name}.png`), encodePng(ciphertext, { record }));
    writeFileSync(join(folder, `${name}.plain.png`), encodePng(plain));
  }
});

test("preprocessing is Python's within one grey level", { skip }, async (context) => {
  let [equal, largest] = [0, 0];
  for (const { name, record: fields, shape, most: bound } of cases.preprocessing) {
    const image = await readImage(bytes(`${name}.png`));
    const found = preprocess(image, readRecord(fields));
    assert.deepEqual([found.height, found.width, found.channels], shape);
    const expected = bytes(`${name}.expected`);
    const off = found.data.reduce((most, level, i) => Math.max(most, Math.abs(level - expected[i])), 0);
    assert(off <= bound, `${name}: ${off} grey levels off: ${JSON.stringify(fields.plain)}`);
    largest = Math.max(largest, off);
    equal += off === 0;
  }
  context.diagnostic(`${equal} of ${cases.preprocessing.length} images are the same bytes; at most ${largest} grey levels off`);
});

test("PNG files of every kind are read as Python reads them", { skip }, async () => {
  for (const { name, shape } of cases.reading) {
    const found = await readImage(bytes(`${name}.png`));
    assert.deepEqual([found.height, found.width], shape.slice(0, 2), name);
    const withoutAlpha = found.data.filter((_, i) => i % found.channels < shape[2]);
    assert.deepEqual(withoutAlpha, bytes(`${name}.expected`), name);
  }
});

test("records are refused or read as Python does", { skip }, () => {
  for (const { text, record } of cases.records) {
    let found = null;
    try {
      found = Object.fromEntries(Object.entries(readRecord(text)).filter(([, value]) => value !== null));
      if (found.plain) found.plain = Object.fromEntries(Object.entries(found.plain).filter(([, value]) => value !== null));
    } catch (error) {
      assert.equal(error.name, "EncMixerError", error.stack);
    }
    assert.deepEqual(found, record, text.slice(0, 2000));
  }
});

test("the config.json of every version is read", { skip }, () => {
  for (const { name, record } of cases.configs) {
    assert.deepEqual(readRecord(Buffer.from(bytes(name)).toString()), readRecord(record));
  }
});
