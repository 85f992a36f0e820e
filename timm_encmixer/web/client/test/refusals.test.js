/** What is refused, in which words; and that the key shows nowhere. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";

import * as encmixer from "../dist/encmixer.js";

const { decodePng, EncMixerError, encodePng, fingerprint, keyText, makeCipher, newKey, preprocess, readCiphertext, readImage, readKey, readRecord } = encmixer;

const key = readKey("ENCMIXER-KEY-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh_4-4Er");
const plain = { input_size: [3, 32, 32], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };
const fields = { version: 1, cipher: "shuffle+negpos", patch_size: 4, in_chans: 3, fingerprint: key.fingerprint, plain };
const record = readRecord(fields);
const image = { data: Uint8Array.from({ length: 8 * 8 * 3 }, (_, i) => (i * 37) % 251), width: 8, height: 8, channels: 3 };

function refuses(call, where, pattern) {
  assert.throws(call, (error) => {
    assert(error instanceof EncMixerError && error instanceof Error, `${error.stack}`);
    assert.equal(error.where, where);
    assert.equal(error.message, `${error.where}: expected ${error.expected}, got ${error.got}; ${error.remedy}`);
    assert.match(error.message, pattern);
    return !error.message.includes("\n");
  });
}

async function refusesSoon(call, pattern) {
  await assert.rejects(call, (error) => error instanceof EncMixerError && pattern.test(error.message));
}

test("key files that deviate", () => {
  const text = keyText(key);
  assert.equal(readKey(` \r\n${text}\t`).fingerprint, "89e2c27a7d8f4efa");
  assert.equal(readKey(new TextEncoder().encode(text)).fingerprint, key.fingerprint);
  refuses(() => readKey("", { where: "owner.key" }), "owner.key", /starts with ENCMIXER-KEY-1:, got 0 characters/);
  refuses(() => readKey(text.replace("KEY-1", "KEY-2")), "key", /another version; upgrade/);
  refuses(() => readKey(text.slice(0, -2)), "key", /truncated or mistyped/);
  refuses(() => readKey(text.replace("_", "/")), "key", /truncated or mistyped/);
  refuses(() => readKey(text.replace("AAEC", "AAED")), "key", /a character is mistyped/);
  refuses(() => readKey("x".repeat(100_000)), "key", /something else/);
  refuses(() => readKey(undefined), "key", /the file's text or bytes/);
});

test("keys are new, and are what they were", () => {
  const other = newKey();
  assert.notEqual(other.fingerprint, newKey().fingerprint);
  assert.equal(readKey(keyText(other)).fingerprint, fingerprint(other));
});

test("a key, a cipher and an error show no secret", () => {
  const secret = keyText(key).slice(15, 57);
  const cipher = makeCipher(key, record);
  const shown = [String(key), JSON.stringify({ key, cipher }), inspect({ key, cipher }, { depth: 9, showHidden: true })];
  const errors = [() => readKey(keyText(key).slice(0, -2)), () => makeCipher(newKey(), record)].map((call) => {
    try {
      return call();
    } catch (error) {
      return inspect(error);
    }
  });
  for (const text of [...shown, inspect(structuredClone(key)), ...errors]) {
    assert(!text.includes(secret) && !text.includes("1, 2, 3, 4, 5") && !text.includes("1,2,3,4,5") && !text.includes("000102"), text);
  }
  assert.deepEqual(Reflect.ownKeys(key), ["fingerprint"]);
});

test("records out of range", () => {
  const changed = (changes) => () => readRecord({ ...fields, ...changes });
  refuses(() => readRecord(null), "record", /a JSON object, got none/);
  refuses(() => readRecord("{"), "record", /not valid JSON/);
  refuses(changed({ version: 6 }), "record: version", /1 to 5, got 6; upgrade/);
  refuses(changed({ version: 2 }), "record: version", /1, as its fields need, got 2/);
  refuses(changed({ more: 1 }), "record", /the fields base_architecture, .*, got 'more'/);
  refuses(changed({ __proto__: null, ["__proto__"]: 1 }), "record", /got '__proto__'/);
  refuses(changed({ cipher: "rot13" }), "record: cipher", /one of shuffle, .*etc\+scramble, got 'rot13'/);
  refuses(changed({ patch_size: 33 }), "record: patch_size", /2 to 32, got 33/);
  refuses(changed({ fingerprint: undefined }), "record: fingerprint", /16 hexadecimal digits, got none/);
  refuses(changed({ fingerprint: null }), "record: fingerprint", /the key's fingerprint, got none/);
  refuses(changed({ plain: { ...plain, std: [1, 1, 0] } }), "record: plain.std", /3 numbers above 0/);
  refuses(changed({ plain: { ...plain, crop_pct: 0 } }), "record: plain.crop_pct", /a share from 0.01 to 2, got 0/);
  refuses(changed({ version: 3, grid: [2, 2] }), "record: grid", /none for the cipher/);
  refuses(changed({ version: 3, cipher: "scramble" }), "record: grid", /rows and columns for the cipher scramble, got none/);
  refuses(changed({ version: 4, cipher: "etc" }), "record: patch_size", /a multiple of 8 px/);
});

test("config.json without a record, or with two", () => {
  const note = `encmixer:${JSON.stringify(fields)}`;
  const config = { architecture: "convmixer_custom", pretrained_cfg: { notes: ["other", note] } };
  assert.deepEqual(readRecord(config), record);
  assert.deepEqual(readRecord(JSON.stringify({ ...config, encmixer: fields })), record);
  assert.deepEqual(readRecord({ architecture: "convmixer_custom", notes: [note] }), record);
  refuses(() => readRecord({ architecture: "x" }, { where: "a/config.json" }), "a/config.json", /a plain one; encrypt it first/);
  refuses(() => readRecord({ ...config, encmixer: { ...fields, cipher: "shuffle" } }), "config.json", /two different ones/);
  const named = { ...fields, base_architecture: "convmixer_768_32" };
  refuses(() => readRecord({ architecture: "other", encmixer: named }), "config.json", /architecture convmixer_768_32, got 'other'/);
});

test("ciphers of another key, and images that do not fit", () => {
  const cipher = makeCipher(key, record);
  refuses(() => makeCipher(newKey(), record), "key", /the key with fingerprint 89e2c27a7d8f4efa, got one with/);
  refuses(() => makeCipher({ fingerprint: key.fingerprint }, record), "key", /make it with readKey/);
  refuses(() => fingerprint(null), "key", /a key, got none/);
  refuses(() => cipher.encrypt({ ...image, channels: 1, width: 24 }), "image", /3 channels, as the model's record says, got 1/);
  refuses(() => cipher.encrypt({ ...image, width: 9 }), "image", /got 192 bytes for 8 x 9 px, 3 channels/);
  refuses(() => cipher.encrypt({ ...image, data: image.data.slice(0, 7 * 8 * 3), height: 7 }), "image", /multiples of 4 px, got 7 x 8 px/);
  refuses(() => cipher.encrypt(undefined), "image", /ImageData, or/);
  const scrambled = readRecord({ ...fields, version: 3, cipher: "shuffle+scramble", grid: [1, 2] });
  refuses(() => makeCipher(key, scrambled).encrypt(image), "image", /4 x 8 px, the one size/);
  const long = { data: new Uint8Array(3 * 50_000), width: 50_000, height: 1, channels: 3 };
  refuses(() => preprocess(long, readRecord({ ...fields, plain: { ...plain, input_size: [3, 32, 64], crop_mode: "border" } })), "image", /crop it first/);
  refuses(() => preprocess(image, readRecord({ ...fields, patch_size: 5 })), "input_size", /multiples of 5 px, got 32 x 32/);
  refuses(() => preprocess(image, readRecord({ ...fields, plain: null })), "record", /preprocessing, got none/);
});

test("an ImageData's alpha is dropped, and inputs stay as they are", () => {
  const cipher = makeCipher(key, record);
  const data = Uint8ClampedArray.from({ length: 8 * 8 * 4 }, (_, i) => (i % 4 === 3 ? 7 : image.data[(i >> 2) * 3 + (i % 4)]));
  const kept = data.slice();
  assert.deepEqual(cipher.encrypt({ data, width: 8, height: 8 }), cipher.encrypt(image)); // as ImageData, which Node has not
  assert.deepEqual(data, kept);
});

test("PNG: a ciphertext says what it is", async () => {
  const cipher = makeCipher(key, record);
  const ciphertext = await decodePng(encodePng(cipher.encrypt(image), { record }));
  assert.deepEqual(cipher.decrypt(ciphertext).data, image.data);
  refuses(() => cipher.encrypt(ciphertext), "image", /a plain image, got a ciphertext of shuffle\+negpos under the key 89e2c27a7d8f4efa/);
  refuses(() => preprocess(ciphertext, record), "image", /a plain image/);
  refuses(() => cipher.decrypt({ ...ciphertext, data: ciphertext.data.map((x) => x ^ 1) }), "image", /the pixels that were written, got others/);
  refuses(() => cipher.decrypt({ ...ciphertext, width: 4, height: 16 }), "image", /8 x 8 px, as it was written, got 16 x 4 px/);
  const other = newKey();
  const foreign = makeCipher(other, readRecord({ ...fields, fingerprint: other.fingerprint }));
  refuses(() => foreign.decrypt(ciphertext), "image", /got the key 89e2c27a7d8f4efa/);
  refuses(() => makeCipher(key, readRecord({ ...fields, cipher: "shuffle" })).decrypt(ciphertext), "image", /a ciphertext of shuffle, blocks/);
});

test("PNG: damaged, foreign and too large files", async () => {
  const whole = encodePng(image);
  const broken = (at, value) => Uint8Array.from(whole, (byte, i) => (i === at ? value : byte));
  assert.deepEqual((await decodePng(whole.buffer)).data, image.data);
  await refusesSoon(() => decodePng(new Uint8Array(9)), /a PNG, got something else/);
  await refusesSoon(() => decodePng(whole.subarray(0, whole.length - 30), { where: "a.png" }), /^a.png: expected a whole image, got a damaged one/);
  await refusesSoon(() => decodePng(broken(60, 1)), /wrong checksum/);
  await refusesSoon(() => decodePng(encodePng(image).fill(255, 16, 20)), /wrong checksum/);
  await refusesSoon(() => readImage(Uint8Array.of(1, 2, 3)), /a PNG, outside of a browser/);
  await refusesSoon(() => readCiphertext(Uint8Array.of(1, 2, 3), record), /^ciphertext: expected a PNG/);
  const jpeg = (...segments) => Uint8Array.of(0xff, 0xd8, ...segments.flat(), 0xff, 0xda, 0, 2, 1, 1, 0xff, 0xd9);
  await refusesSoon(() => readCiphertext(Uint8Array.of(0xff, 0xd8, 0xff), record), /a ciphertext PNG, got JPEG; JPEG changes/);
  const etc = readRecord({ ...fields, version: 4, cipher: "etc", patch_size: 8 });
  await refusesSoon(() => readCiphertext(Uint8Array.of(0xff, 0xd8, 0xff), etc), /a whole image, got a damaged one/);
  await refusesSoon(() => readCiphertext(jpeg(), etc), /a JPEG, got a damaged one/);
  const frame = (marker, factors) => jpeg([0xff, marker, 0, 17, 8, 0, 8, 0, 8, 3, 1, factors, 0, 2, 0x11, 1, 3, 0x11, 1]);
  await refusesSoon(() => readCiphertext(frame(0xc0, 0x22), etc), /not subsampled \(4:4:4\), got subsampled ones/);
  await refusesSoon(() => readCiphertext(frame(0xc2, 0x11), etc), /a baseline JPEG, as encmixer writes it/);
  await refusesSoon(() => readCiphertext(frame(0xc0, 0x11), etc), /a PNG, outside of a browser/);
  assert.deepEqual((await readCiphertext(encodePng(image, { record }), record)).imageRecord.version, 1);
  const comment = new TextEncoder().encode('encmixer:{"version":2}');
  await refusesSoon(() => readImage(jpeg([0xff, 0xfe, 0, comment.length + 2, ...comment])), /got a ciphertext/);
});

test("whatever a caller gives, the error is this module's", async () => {
  const circular = {};
  circular.self = circular;
  const odd = [undefined, null, 0, NaN, "", "text", true, [], {}, [1], 1n, { a: 1n }, Symbol("s"), () => 1, circular, new Date(), Object.create(null)];
  odd.push({ fingerprint: { toString: "x" } }, { width: Symbol("s"), height: 1, data: new Uint8Array(1) }, { data: image.data, width: 8n, height: 8, channels: 3 });
  const cipher = makeCipher(key, record);
  const { keyText, toImageData } = encmixer;
  const calls = [readKey, keyText, fingerprint, readRecord, makeCipher, preprocess, readImage, encodePng, decodePng, readCiphertext, toImageData];
  calls.push(cipher.encrypt, cipher.decrypt, (one) => makeCipher(key, one), (one) => preprocess(image, one), (one) => encodePng(image, { record: one ?? null }));
  calls.push((one) => readCiphertext(new Uint8Array(9), one), (one) => readRecord({ ...fields, fingerprint: one }), (one) => readRecord({ ...fields, plain: one ?? 1 }));
  calls.push((one) => cipher.decrypt({ ...image, imageRecord: one ?? { fingerprint: key.fingerprint, cipher: record.cipher, patch_size: 4 } }));
  for (const [number, call] of calls.entries()) {
    for (const value of odd) {
      const error = await (async () => call(value))().then(() => null, (thrown) => thrown);
      assert(error instanceof EncMixerError, `${number}: ${call.name || call} of ${inspect(value)}: ${error?.stack}`);
    }
  }
  for (const options of [null, 3, { where: null }, { where: Symbol("s") }]) await refusesSoon(() => decodePng(new Uint8Array(9), options), /^image: expected a PNG/);
});

test("bytes of another realm are bytes", async () => {
  const { runInNewContext } = await import("node:vm");
  const foreign = (bytes) => runInNewContext("(bytes) => Uint8Array.from(bytes)")(Array.from(bytes));
  assert(!(foreign(image.data) instanceof Uint8Array));
  const cipher = makeCipher(key, record);
  assert.deepEqual(cipher.encrypt({ ...image, data: foreign(image.data) }).data, cipher.encrypt(image).data);
  assert.deepEqual((await decodePng(foreign(encodePng(image)))).data, image.data);
  assert.deepEqual((await decodePng(runInNewContext("(bytes) => Uint8Array.from(bytes).buffer")(Array.from(encodePng(image))))).data, image.data);
  assert.equal(readKey(foreign(new TextEncoder().encode(keyText(key)))).fingerprint, key.fingerprint);
});

test("what an old browser does not have is said", async () => {
  const without = async (name, call, pattern) => {
    const descriptor = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value: undefined, configurable: true, writable: true });
    try {
      await refusesSoon(async () => call(), pattern);
    } finally {
      if (descriptor === undefined) delete globalThis[name];
      else Object.defineProperty(globalThis, name, descriptor);
    }
  };
  await without("DecompressionStream", () => decodePng(encodePng(image)), /a browser with DecompressionStream, to read PNG, got one without it; use Chrome/);
  await without("crypto", () => newKey(), /a browser with crypto.getRandomValues, got one without it/);
  globalThis.createImageBitmap = async () => ({ width: 8, height: 8, close() {} }); // which Node has not, and no canvas either
  try {
    await refusesSoon(() => readImage(Uint8Array.of(0x42, 0x4d, 0)), /a canvas to read the image with, got none; save the photo as PNG/);
  } finally {
    delete globalThis.createImageBitmap;
  }
});

test("a long text costs no more than its bytes", async () => {
  const text = new Uint8Array(50_000_000).fill(65);
  text.set(new TextEncoder().encode("Comment\0"));
  const png = encodePng(image);
  const body = new Uint8Array(text.length + 4);
  body.set(new TextEncoder().encode("tEXt"));
  body.set(text, 4);
  const number = (value) => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
  const { crc32 } = await import("../src/checksum.js");
  const file = await new Blob([png.subarray(0, 33), number(text.length), body, number(crc32(body)), png.subarray(33)]).arrayBuffer();
  const before = process.memoryUsage().rss;
  assert.deepEqual((await decodePng(file)).data, image.data);
  assert(process.memoryUsage().rss - before < 2 * text.length);
});

test("nothing is sent or stored", async () => {
  const { readFileSync } = await import("node:fs");
  const text = readFileSync(new URL("../dist/encmixer.js", import.meta.url), "utf8");
  assert.doesNotMatch(text, /\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|localStorage|sessionStorage|indexedDB|cookie|importScripts)\b/);
  assert.doesNotMatch(text, /\b(import|require)\s*\(/);
});
