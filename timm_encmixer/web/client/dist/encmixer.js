/*! encmixer 0.1.0, Apache-2.0, of timm-encmixer. npm run build makes this file. It contains:

@noble/hashes 2.4.0:

The MIT License (MIT)

Copyright (c) 2022 Paul Miller (https://paulmillr.com)

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the “Software”), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in
all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED “AS IS”, WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
THE SOFTWARE.

@noble/ciphers 2.4.0:

The MIT License (MIT)

Copyright (c) 2022 Paul Miller (https://paulmillr.com)
Copyright (c) 2016 Thomas Pornin <pornin@bolet.org>

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the “Software”), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in
all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED “AS IS”, WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
THE SOFTWARE.
*/

// node_modules/@noble/ciphers/utils.js
function isBytes(a) {
  return a instanceof Uint8Array || ArrayBuffer.isView(a) && a.constructor.name === "Uint8Array" && "BYTES_PER_ELEMENT" in a && a.BYTES_PER_ELEMENT === 1;
}
var atitle = (title) => title ? `"${title}" ` : "";
function abool(value, title = "") {
  if (typeof value !== "boolean")
    throw new TypeError(atitle(title) + "expected boolean, got type=" + typeof value);
  return value;
}
function anumber(n, title = "") {
  if (typeof n !== "number")
    throw new TypeError(atitle(title) + "expected number, got " + typeof n);
  if (!Number.isSafeInteger(n) || n < 0)
    throw new RangeError(atitle(title) + "expected integer >= 0, got " + n);
  return n;
}
function abytes(value, length, title = "") {
  if (isBytes(value) && (length === void 0 || value.length === length))
    return value;
  if (length !== void 0)
    anumber(length, "length");
  const bytes = isBytes(value);
  const ofLen = length !== void 0 ? ` of length ${length}` : "";
  const got = bytes ? `length=${value.length}` : `type=${typeof value}`;
  const message = atitle(title) + "expected Uint8Array" + ofLen + ", got " + got;
  if (!bytes)
    throw new TypeError(message);
  throw new RangeError(message);
}
var aobject = (value, label) => {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new TypeError(label === "object" ? "expected valid options object" : `"${label}" expected object, got type=${typeof value}`);
};
function u32(arr) {
  return new Uint32Array(arr.buffer, arr.byteOffset, Math.floor(arr.byteLength / 4));
}
function clean(...arrays) {
  for (let i = 0; i < arrays.length; i++) {
    arrays[i].fill(0);
  }
}
var isLE = /* @__PURE__ */ (() => new Uint8Array(new Uint32Array([287454020]).buffer)[0] === 68)();
function byteSwap(word2) {
  return word2 << 24 & 4278190080 | word2 << 8 & 16711680 | word2 >>> 8 & 65280 | word2 >>> 24 & 255;
}
function byteSwap32(arr) {
  for (let i = 0; i < arr.length; i++) {
    arr[i] = byteSwap(arr[i]);
  }
  return arr;
}
var swap32IfBE = isLE ? (u) => u : byteSwap32;
function overlapBytes(a, b) {
  if (!a.byteLength || !b.byteLength)
    return false;
  return a.buffer === b.buffer && // best we can do, may fail with an obscure Proxy
  a.byteOffset < b.byteOffset + b.byteLength && // a starts before b end
  b.byteOffset < a.byteOffset + a.byteLength;
}
function complexOverlapBytes(input, output) {
  if (overlapBytes(input, output) && input.byteOffset < output.byteOffset)
    throw new Error("complex overlap of input and output is not supported");
}
function checkOpts(defaults, opts) {
  aobject(defaults, "defaults");
  aobject(opts, "opts");
  const merged = Object.assign(defaults, opts);
  return merged;
}
function getOutput(expectedLength, out, onlyAligned = true) {
  if (out === void 0)
    return new Uint8Array(expectedLength);
  abytes(out, expectedLength, "output");
  if (onlyAligned && !isAligned32(out))
    throw new Error("invalid output, must be aligned");
  return out;
}
function isAligned32(bytes) {
  return bytes.byteOffset % 4 === 0;
}
function copyBytes(bytes) {
  return Uint8Array.from(abytes(bytes));
}

// node_modules/@noble/ciphers/_arx.js
var encodeStr = (str) => Uint8Array.from(str.split(""), (c) => c.charCodeAt(0));
var sigma16_32 = /* @__PURE__ */ (() => swap32IfBE(u32(encodeStr("expand 16-byte k"))))();
var sigma32_32 = /* @__PURE__ */ (() => swap32IfBE(u32(encodeStr("expand 32-byte k"))))();
function rotl(a, b) {
  return a << b | a >>> 32 - b;
}
var BLOCK_LEN = 64;
var BLOCK_LEN32 = 16;
var MAX_COUNTER = /* @__PURE__ */ (() => 2 ** 32 - 1)();
var U32_EMPTY = /* @__PURE__ */ Uint32Array.of();
function runCipher(core, sigma, key, nonce, data, output, counter, rounds) {
  const len = data.length;
  const block = new Uint8Array(BLOCK_LEN);
  const b32 = u32(block);
  const isAligned = isLE && isAligned32(data) && isAligned32(output);
  const d32 = isAligned ? u32(data) : U32_EMPTY;
  const o32 = isAligned ? u32(output) : U32_EMPTY;
  if (!isLE) {
    for (let pos = 0; pos < len; counter++) {
      core(sigma, key, nonce, b32, counter, rounds);
      swap32IfBE(b32);
      if (counter >= MAX_COUNTER)
        throw new Error("arx: counter overflow");
      const take = Math.min(BLOCK_LEN, len - pos);
      for (let j = 0, posj; j < take; j++) {
        posj = pos + j;
        output[posj] = data[posj] ^ block[j];
      }
      pos += take;
    }
    return;
  }
  for (let pos = 0; pos < len; counter++) {
    core(sigma, key, nonce, b32, counter, rounds);
    if (counter >= MAX_COUNTER)
      throw new Error("arx: counter overflow");
    const take = Math.min(BLOCK_LEN, len - pos);
    if (isAligned && take === BLOCK_LEN) {
      const pos32 = pos / 4;
      if (pos % 4 !== 0)
        throw new Error("arx: invalid block position");
      for (let j = 0, posj; j < BLOCK_LEN32; j++) {
        posj = pos32 + j;
        o32[posj] = d32[posj] ^ b32[j];
      }
      pos += BLOCK_LEN;
      continue;
    }
    for (let j = 0, posj; j < take; j++) {
      posj = pos + j;
      output[posj] = data[posj] ^ block[j];
    }
    pos += take;
  }
}
function createCipher(core, opts) {
  const { allowShortKeys, extendNonceFn, counterLength, counterRight, rounds } = checkOpts({ allowShortKeys: false, counterLength: 8, counterRight: false, rounds: 20 }, opts);
  if (typeof core !== "function")
    throw new Error("core must be a function");
  anumber(counterLength);
  anumber(rounds);
  abool(counterRight);
  abool(allowShortKeys);
  return (key, nonce, data, output, counter = 0) => {
    abytes(key, void 0, "key");
    abytes(nonce, void 0, "nonce");
    abytes(data, void 0, "data");
    const len = data.length;
    const hasOutput = output !== void 0;
    output = getOutput(len, output, false);
    if (hasOutput)
      complexOverlapBytes(data, output);
    anumber(counter);
    if (counter < 0 || counter >= MAX_COUNTER)
      throw new Error("arx: counter overflow");
    const toClean = [];
    let l = key.length;
    let k;
    let sigma;
    if (l === 32) {
      toClean.push(k = copyBytes(key));
      sigma = sigma32_32;
    } else if (l === 16 && allowShortKeys) {
      k = new Uint8Array(32);
      k.set(key);
      k.set(key, 16);
      sigma = sigma16_32;
      toClean.push(k);
    } else {
      abytes(key, 32, "arx key");
      throw new Error("invalid key size");
    }
    if (!isLE || !isAligned32(nonce))
      toClean.push(nonce = copyBytes(nonce));
    let k32 = u32(k);
    if (extendNonceFn) {
      if (nonce.length !== 24)
        throw new Error("arx: extended nonce must be 24 bytes");
      const n16 = nonce.subarray(0, 16);
      if (isLE)
        extendNonceFn(sigma, k32, u32(n16), k32);
      else {
        const sigmaRaw = swap32IfBE(Uint32Array.from(sigma));
        extendNonceFn(sigmaRaw, k32, u32(n16), k32);
        clean(sigmaRaw);
        swap32IfBE(k32);
      }
      nonce = nonce.subarray(16);
    } else if (!isLE)
      swap32IfBE(k32);
    const nonceNcLen = 16 - counterLength;
    if (nonceNcLen !== nonce.length)
      throw new Error(`arx: nonce must be ${nonceNcLen} or 16 bytes`);
    if (nonceNcLen !== 12) {
      const nc = new Uint8Array(12);
      nc.set(nonce, counterRight ? 0 : 12 - nonce.length);
      nonce = nc;
      toClean.push(nonce);
    }
    const n32 = swap32IfBE(u32(nonce));
    try {
      runCipher(core, sigma, k32, n32, data, output, counter, rounds);
      return output;
    } finally {
      clean(...toClean);
    }
  };
}

// node_modules/@noble/ciphers/chacha.js
function chachaCore(s, k, n, out, cnt, rounds = 20) {
  let y00 = s[0], y01 = s[1], y02 = s[2], y03 = s[3], y04 = k[0], y05 = k[1], y06 = k[2], y07 = k[3], y08 = k[4], y09 = k[5], y10 = k[6], y11 = k[7], y12 = cnt, y13 = n[0], y14 = n[1], y15 = n[2];
  let x00 = y00, x01 = y01, x02 = y02, x03 = y03, x04 = y04, x05 = y05, x06 = y06, x07 = y07, x08 = y08, x09 = y09, x10 = y10, x11 = y11, x12 = y12, x13 = y13, x14 = y14, x15 = y15;
  for (let r = 0; r < rounds; r += 2) {
    x00 = x00 + x04 | 0;
    x12 = rotl(x12 ^ x00, 16);
    x08 = x08 + x12 | 0;
    x04 = rotl(x04 ^ x08, 12);
    x00 = x00 + x04 | 0;
    x12 = rotl(x12 ^ x00, 8);
    x08 = x08 + x12 | 0;
    x04 = rotl(x04 ^ x08, 7);
    x01 = x01 + x05 | 0;
    x13 = rotl(x13 ^ x01, 16);
    x09 = x09 + x13 | 0;
    x05 = rotl(x05 ^ x09, 12);
    x01 = x01 + x05 | 0;
    x13 = rotl(x13 ^ x01, 8);
    x09 = x09 + x13 | 0;
    x05 = rotl(x05 ^ x09, 7);
    x02 = x02 + x06 | 0;
    x14 = rotl(x14 ^ x02, 16);
    x10 = x10 + x14 | 0;
    x06 = rotl(x06 ^ x10, 12);
    x02 = x02 + x06 | 0;
    x14 = rotl(x14 ^ x02, 8);
    x10 = x10 + x14 | 0;
    x06 = rotl(x06 ^ x10, 7);
    x03 = x03 + x07 | 0;
    x15 = rotl(x15 ^ x03, 16);
    x11 = x11 + x15 | 0;
    x07 = rotl(x07 ^ x11, 12);
    x03 = x03 + x07 | 0;
    x15 = rotl(x15 ^ x03, 8);
    x11 = x11 + x15 | 0;
    x07 = rotl(x07 ^ x11, 7);
    x00 = x00 + x05 | 0;
    x15 = rotl(x15 ^ x00, 16);
    x10 = x10 + x15 | 0;
    x05 = rotl(x05 ^ x10, 12);
    x00 = x00 + x05 | 0;
    x15 = rotl(x15 ^ x00, 8);
    x10 = x10 + x15 | 0;
    x05 = rotl(x05 ^ x10, 7);
    x01 = x01 + x06 | 0;
    x12 = rotl(x12 ^ x01, 16);
    x11 = x11 + x12 | 0;
    x06 = rotl(x06 ^ x11, 12);
    x01 = x01 + x06 | 0;
    x12 = rotl(x12 ^ x01, 8);
    x11 = x11 + x12 | 0;
    x06 = rotl(x06 ^ x11, 7);
    x02 = x02 + x07 | 0;
    x13 = rotl(x13 ^ x02, 16);
    x08 = x08 + x13 | 0;
    x07 = rotl(x07 ^ x08, 12);
    x02 = x02 + x07 | 0;
    x13 = rotl(x13 ^ x02, 8);
    x08 = x08 + x13 | 0;
    x07 = rotl(x07 ^ x08, 7);
    x03 = x03 + x04 | 0;
    x14 = rotl(x14 ^ x03, 16);
    x09 = x09 + x14 | 0;
    x04 = rotl(x04 ^ x09, 12);
    x03 = x03 + x04 | 0;
    x14 = rotl(x14 ^ x03, 8);
    x09 = x09 + x14 | 0;
    x04 = rotl(x04 ^ x09, 7);
  }
  let oi = 0;
  out[oi++] = y00 + x00 | 0;
  out[oi++] = y01 + x01 | 0;
  out[oi++] = y02 + x02 | 0;
  out[oi++] = y03 + x03 | 0;
  out[oi++] = y04 + x04 | 0;
  out[oi++] = y05 + x05 | 0;
  out[oi++] = y06 + x06 | 0;
  out[oi++] = y07 + x07 | 0;
  out[oi++] = y08 + x08 | 0;
  out[oi++] = y09 + x09 | 0;
  out[oi++] = y10 + x10 | 0;
  out[oi++] = y11 + x11 | 0;
  out[oi++] = y12 + x12 | 0;
  out[oi++] = y13 + x13 | 0;
  out[oi++] = y14 + x14 | 0;
  out[oi++] = y15 + x15 | 0;
}
var chacha20 = /* @__PURE__ */ createCipher(chachaCore, {
  counterRight: false,
  counterLength: 4,
  allowShortKeys: false
});

// node_modules/@noble/hashes/utils.js
function isBytes2(a) {
  return a instanceof Uint8Array || ArrayBuffer.isView(a) && a.constructor.name === "Uint8Array" && "BYTES_PER_ELEMENT" in a && a.BYTES_PER_ELEMENT === 1;
}
var atitle2 = (title) => title ? `"${title}" ` : "";
function anumber2(n, title = "") {
  if (typeof n !== "number")
    throw new TypeError(atitle2(title) + "expected number, got " + typeof n);
  if (!Number.isSafeInteger(n) || n < 0)
    throw new RangeError(atitle2(title) + "expected integer >= 0, got " + n);
  return n;
}
function abytes2(value, length, title = "") {
  if (isBytes2(value) && (length === void 0 || value.length === length))
    return value;
  if (length !== void 0)
    anumber2(length, "length");
  const bytes = isBytes2(value);
  const ofLen = length !== void 0 ? ` of length ${length}` : "";
  const got = bytes ? `length=${value.length}` : `type=${typeof value}`;
  const message = atitle2(title) + "expected Uint8Array" + ofLen + ", got " + got;
  if (!bytes)
    throw new TypeError(message);
  throw new RangeError(message);
}
function ahash(h) {
  if (typeof h !== "function" || typeof h.create !== "function")
    throw new TypeError("expected hash wrapped by utils.createHasher");
  anumber2(h.outputLen);
  anumber2(h.blockLen);
  if (h.outputLen < 1 || h.blockLen < 1)
    throw new Error("hash blockLen / outputLen must be >= 1");
}
var aobject2 = (value, label) => {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new TypeError((label === "object" ? "" : `"${label}" `) + "expected object, got type=" + typeof value);
};
var aopts = (value, label) => {
  aobject2(value, label);
  const proto = Object.getPrototypeOf(value);
  if (proto !== Object.prototype && proto !== null)
    throw new TypeError(`"${label}" expected plain object`);
  if (Object.hasOwn(value, "__proto__"))
    throw new TypeError(`"${label}.__proto__" is not allowed`);
};
function aexists(instance, checkFinished = true) {
  if (instance.destroyed)
    throw new Error("hash was destroyed");
  if (checkFinished && instance.finished)
    throw new Error("digest() was already called");
}
function aoutput(out, instance) {
  abytes2(out, void 0, "output");
  const min = instance.outputLen;
  if (!(out.length >= min)) {
    throw new RangeError('"output" expected length >= ' + min);
  }
}
function clean2(...arrays) {
  for (let i = 0; i < arrays.length; i++) {
    arrays[i].fill(0);
  }
}
function createView(arr) {
  return new DataView(arr.buffer, arr.byteOffset, arr.byteLength);
}
function rotr(word2, shift) {
  return word2 << 32 - shift | word2 >>> shift;
}
var hasHexBuiltin = /* @__PURE__ */ (() => (
  // @ts-ignore
  typeof Uint8Array.from([]).toHex === "function" && typeof Uint8Array.fromHex === "function"
))();
var hexes = /* @__PURE__ */ Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
function bytesToHex(bytes) {
  abytes2(bytes);
  if (hasHexBuiltin)
    return bytes.toHex();
  let hex = "";
  for (let i = 0; i < bytes.length; i++) {
    hex += hexes[bytes[i]];
  }
  return hex;
}
function utf8ToBytes(str) {
  if (typeof str !== "string")
    throw new TypeError("string expected");
  const encoded = new TextEncoder().encode(str);
  try {
    return new Uint8Array(encoded);
  } finally {
    clean2(encoded);
  }
}
function concatBytes(...arrays) {
  let sum = 0;
  for (let i = 0; i < arrays.length; i++) {
    const a = arrays[i];
    abytes2(a);
    sum += a.length;
  }
  const res = new Uint8Array(sum);
  for (let i = 0, pad = 0; i < arrays.length; i++) {
    const a = arrays[i];
    res.set(a, pad);
    pad += a.length;
  }
  return res;
}
function checkOpts2(defaults, opts, title = "opts") {
  aopts(defaults, "defaults");
  if (opts !== void 0)
    aopts(opts, title);
  const merged = Object.assign(/* @__PURE__ */ Object.create(null), defaults, opts);
  return merged;
}
function createHasher(hashCons, info = {}) {
  if (typeof hashCons !== "function")
    throw new TypeError('"hashCons" expected function, got type=' + typeof hashCons);
  info = checkOpts2({}, info, "info");
  const hashC = (msg, opts) => hashCons(opts).update(msg).digest();
  const tmp = hashCons(void 0);
  hashC.outputLen = tmp.outputLen;
  hashC.blockLen = tmp.blockLen;
  hashC.canXOF = tmp.canXOF;
  hashC.create = (opts) => hashCons(opts);
  Object.assign(hashC, info);
  return Object.freeze(hashC);
}
var oidNist = (suffix) => ({
  // Current NIST hashAlgs suffixes used here fit in one DER subidentifier octet.
  // Larger suffix values would need base-128 OID encoding and a different length byte.
  oid: Uint8Array.from([6, 9, 96, 134, 72, 1, 101, 3, 4, 2, suffix])
});

// node_modules/@noble/hashes/hmac.js
var _HMAC = class {
  oHash;
  iHash;
  blockLen;
  outputLen;
  canXOF = false;
  finished = false;
  destroyed = false;
  constructor(hash, key) {
    ahash(hash);
    abytes2(key, void 0, "key");
    this.iHash = hash.create();
    if (typeof this.iHash.update !== "function")
      throw new Error("expected Hash instance");
    this.blockLen = this.iHash.blockLen;
    this.outputLen = this.iHash.outputLen;
    const blockLen = this.blockLen;
    const pad = new Uint8Array(blockLen);
    pad.set(key.length > blockLen ? hash.create().update(key).digest() : key);
    for (let i = 0; i < pad.length; i++)
      pad[i] ^= 54;
    this.iHash.update(pad);
    this.oHash = hash.create();
    for (let i = 0; i < pad.length; i++)
      pad[i] ^= 54 ^ 92;
    this.oHash.update(pad);
    clean2(pad);
  }
  update(buf) {
    aexists(this);
    this.iHash.update(buf);
    return this;
  }
  digestInto(out) {
    aexists(this);
    aoutput(out, this);
    this.finished = true;
    const buf = out.subarray(0, this.outputLen);
    this.iHash.digestInto(buf);
    this.oHash.update(buf);
    this.oHash.digestInto(buf);
    this.destroy();
  }
  digest() {
    const out = new Uint8Array(this.oHash.outputLen);
    this.digestInto(out);
    return out;
  }
  _cloneInto(to) {
    to ||= Object.create(Object.getPrototypeOf(this), {});
    const { oHash, iHash, finished, destroyed, blockLen, outputLen, canXOF } = this;
    to = to;
    to.finished = finished;
    to.destroyed = destroyed;
    to.blockLen = blockLen;
    to.outputLen = outputLen;
    to.canXOF = canXOF;
    to.oHash = oHash._cloneInto(to.oHash);
    to.iHash = iHash._cloneInto(to.iHash);
    return to;
  }
  clone() {
    return this._cloneInto();
  }
  destroy() {
    this.destroyed = true;
    this.oHash.destroy();
    this.iHash.destroy();
  }
};
var hmac = /* @__PURE__ */ (() => {
  const hmac_ = ((hash, key, message) => new _HMAC(hash, key).update(message).digest());
  hmac_.create = (hash, key) => new _HMAC(hash, key);
  return hmac_;
})();

// node_modules/@noble/hashes/hkdf.js
var HKDF_COUNTER = /* @__PURE__ */ Uint8Array.of(0);
var EMPTY_BUFFER = /* @__PURE__ */ Uint8Array.of();
function expand(hash, prk, info, length = 32, _recycled) {
  ahash(hash);
  anumber2(length, "length");
  abytes2(prk, void 0, "prk");
  const olen = hash.outputLen;
  if (prk.length < olen)
    throw new Error('"prk" must be at least HashLen octets');
  if (length > 255 * olen)
    throw new Error("Length must be <= 255*HashLen");
  const blocks = Math.ceil(length / olen);
  if (info === void 0)
    info = EMPTY_BUFFER;
  else
    abytes2(info, void 0, "info");
  if (!blocks) {
    if (_recycled)
      clean2(prk);
    return new Uint8Array();
  }
  const okm = _recycled && blocks === 1 ? prk : new Uint8Array(blocks * olen);
  const { iHash, oHash } = hmac.create(hash, prk);
  const T = _recycled ? prk : new Uint8Array(olen);
  const worker = blocks > 1 ? _recycled?.iHash || hash.create() : void 0;
  for (let counter = 0; counter < blocks - 1; counter++) {
    HKDF_COUNTER[0] = counter + 1;
    const iWork = iHash._cloneInto(worker);
    if (counter)
      iWork.update(T);
    iWork.update(info).update(HKDF_COUNTER).digestInto(T);
    oHash._cloneInto(worker).update(T).digestInto(T);
    okm.set(T, olen * counter);
  }
  HKDF_COUNTER[0] = blocks;
  if (blocks > 1)
    iHash.update(T);
  iHash.update(info).update(HKDF_COUNTER).digestInto(T);
  oHash.update(T).digestInto(T);
  okm.set(T, olen * (blocks - 1));
  iHash.destroy();
  oHash.destroy();
  worker?.destroy();
  if (T !== okm)
    clean2(T);
  clean2(HKDF_COUNTER);
  if (length === okm.length)
    return okm;
  const res = okm.slice(0, length);
  clean2(okm);
  return res;
}
var hkdf = (hash, ikm, salt, info, length) => {
  ahash(hash);
  if (salt === void 0)
    salt = new Uint8Array(hash.outputLen);
  const HMAC = hmac.create(hash, salt).update(ikm);
  return expand(hash, HMAC.digest(), info, length, HMAC);
};

// node_modules/@noble/hashes/_u64.js
var fromNumH = (n) => n / 2 ** 32 | 0;
var fromNumL = (n) => n >>> 0;
function setU64FromNum(view, byteOffset, n, isLE2) {
  const h = fromNumH(n);
  const l = fromNumL(n);
  view.setUint32(byteOffset, isLE2 ? l : h, isLE2);
  view.setUint32(byteOffset + 4, isLE2 ? h : l, isLE2);
}

// node_modules/@noble/hashes/_md.js
function Chi(a, b, c) {
  return a & b ^ ~a & c;
}
function Maj(a, b, c) {
  return a & b ^ a & c ^ b & c;
}
var HashMD = class {
  blockLen;
  outputLen;
  canXOF = false;
  padOffset;
  isLE;
  // For partial updates less than block size
  buffer;
  view;
  finished = false;
  length = 0;
  pos = 0;
  destroyed = false;
  constructor(blockLen, outputLen, padOffset, isLE2) {
    this.blockLen = blockLen;
    this.outputLen = outputLen;
    this.padOffset = padOffset;
    this.isLE = isLE2;
    this.buffer = new Uint8Array(blockLen);
    this.view = createView(this.buffer);
  }
  update(data) {
    aexists(this);
    abytes2(data);
    const { view, buffer, blockLen } = this;
    const len = data.length;
    let processed = false;
    for (let pos = 0; pos < len; ) {
      const take = Math.min(blockLen - this.pos, len - pos);
      if (take === blockLen) {
        const dataView = createView(data);
        for (; blockLen <= len - pos; pos += blockLen)
          this.process(dataView, pos);
        processed = true;
        continue;
      }
      buffer.set(pos === 0 && take === len ? data : data.subarray(pos, pos + take), this.pos);
      this.pos += take;
      pos += take;
      if (this.pos === blockLen) {
        this.process(view, 0);
        this.pos = 0;
        processed = true;
      }
    }
    this.length += data.length;
    if (processed)
      this.roundClean();
    return this;
  }
  digestInto(out) {
    aexists(this);
    aoutput(out, this);
    this.finished = true;
    const { buffer, view, blockLen, isLE: isLE2 } = this;
    let { pos } = this;
    buffer[pos++] = 128;
    buffer.fill(0, pos);
    if (this.padOffset > blockLen - pos) {
      this.process(view, 0);
      buffer.fill(0);
    }
    setU64FromNum(view, blockLen - 8, this.length * 8, isLE2);
    this.process(view, 0);
    this.roundClean();
    const oview = out === buffer ? view : createView(out);
    const len = this.outputLen;
    const outLen = len / 4;
    const state = this.get();
    if (len % 4 || outLen > state.length)
      throw new Error("invalid outputLen");
    for (let i = 0; i < outLen; i++)
      oview.setUint32(4 * i, state[i], isLE2);
  }
  digest() {
    const { buffer, outputLen } = this;
    this.digestInto(buffer);
    const res = buffer.slice(0, outputLen);
    this.destroy();
    return res;
  }
  _cloneIntoMeta(to) {
    const { buffer, length, finished, destroyed, pos } = this;
    to.destroyed = destroyed;
    to.finished = finished;
    to.length = length;
    to.pos = pos;
    if (pos)
      to.buffer.set(buffer);
    return to;
  }
  clone() {
    return this._cloneInto();
  }
};
var SHA256_IV = /* @__PURE__ */ Uint32Array.from([
  1779033703,
  3144134277,
  1013904242,
  2773480762,
  1359893119,
  2600822924,
  528734635,
  1541459225
]);

// node_modules/@noble/hashes/sha2.js
var SHA256_K = /* @__PURE__ */ Uint32Array.from([
  1116352408,
  1899447441,
  3049323471,
  3921009573,
  961987163,
  1508970993,
  2453635748,
  2870763221,
  3624381080,
  310598401,
  607225278,
  1426881987,
  1925078388,
  2162078206,
  2614888103,
  3248222580,
  3835390401,
  4022224774,
  264347078,
  604807628,
  770255983,
  1249150122,
  1555081692,
  1996064986,
  2554220882,
  2821834349,
  2952996808,
  3210313671,
  3336571891,
  3584528711,
  113926993,
  338241895,
  666307205,
  773529912,
  1294757372,
  1396182291,
  1695183700,
  1986661051,
  2177026350,
  2456956037,
  2730485921,
  2820302411,
  3259730800,
  3345764771,
  3516065817,
  3600352804,
  4094571909,
  275423344,
  430227734,
  506948616,
  659060556,
  883997877,
  958139571,
  1322822218,
  1537002063,
  1747873779,
  1955562222,
  2024104815,
  2227730452,
  2361852424,
  2428436474,
  2756734187,
  3204031479,
  3329325298
]);
var SHA256_W = /* @__PURE__ */ new Uint32Array(64);
var SHA2_32B = class extends HashMD {
  // We cannot use array here since array allows indexing by variable
  // which means optimizer/compiler cannot use registers.
  // Numeric initializers matter: starting the fields as `undefined` changes
  // V8's field representation and makes sha256 3x slower (measured).
  A = 0;
  B = 0;
  C = 0;
  D = 0;
  E = 0;
  F = 0;
  G = 0;
  H = 0;
  constructor(outputLen, IV) {
    super(64, outputLen, 8, false);
    this.A = IV[0] | 0;
    this.B = IV[1] | 0;
    this.C = IV[2] | 0;
    this.D = IV[3] | 0;
    this.E = IV[4] | 0;
    this.F = IV[5] | 0;
    this.G = IV[6] | 0;
    this.H = IV[7] | 0;
  }
  get() {
    const { A, B, C, D, E, F, G, H } = this;
    return [A, B, C, D, E, F, G, H];
  }
  // prettier-ignore
  set(A, B, C, D, E, F, G, H) {
    this.A = A | 0;
    this.B = B | 0;
    this.C = C | 0;
    this.D = D | 0;
    this.E = E | 0;
    this.F = F | 0;
    this.G = G | 0;
    this.H = H | 0;
  }
  _cloneInto(to) {
    (to ||= new this.constructor()).set(...this.get());
    return this._cloneIntoMeta(to);
  }
  process(view, offset) {
    for (let i = 0; i < 16; i++, offset += 4)
      SHA256_W[i] = view.getUint32(offset, false);
    for (let i = 16; i < 64; i++) {
      const W15 = SHA256_W[i - 15];
      const W2 = SHA256_W[i - 2];
      const s0 = rotr(W15, 7) ^ rotr(W15, 18) ^ W15 >>> 3;
      const s1 = rotr(W2, 17) ^ rotr(W2, 19) ^ W2 >>> 10;
      SHA256_W[i] = s1 + SHA256_W[i - 7] + s0 + SHA256_W[i - 16] | 0;
    }
    let { A, B, C, D, E, F, G, H } = this;
    for (let i = 0; i < 64; i++) {
      const sigma1 = rotr(E, 6) ^ rotr(E, 11) ^ rotr(E, 25);
      const T1 = H + sigma1 + Chi(E, F, G) + SHA256_K[i] + SHA256_W[i] | 0;
      const sigma0 = rotr(A, 2) ^ rotr(A, 13) ^ rotr(A, 22);
      const T2 = sigma0 + Maj(A, B, C) | 0;
      H = G;
      G = F;
      F = E;
      E = D + T1 | 0;
      D = C;
      C = B;
      B = A;
      A = T1 + T2 | 0;
    }
    A = A + this.A | 0;
    B = B + this.B | 0;
    C = C + this.C | 0;
    D = D + this.D | 0;
    E = E + this.E | 0;
    F = F + this.F | 0;
    G = G + this.G | 0;
    H = H + this.H | 0;
    this.set(A, B, C, D, E, F, G, H);
  }
  roundClean() {
    clean2(SHA256_W);
  }
  destroy() {
    this.destroyed = true;
    this.set(0, 0, 0, 0, 0, 0, 0, 0);
    clean2(this.buffer);
  }
};
var _SHA256 = class extends SHA2_32B {
  constructor() {
    super(32, SHA256_IV);
  }
};
var sha256 = /* @__PURE__ */ createHasher(
  () => new _SHA256(),
  /* @__PURE__ */ oidNist(1)
);

// src/errors.js
var EncMixerError = class extends Error {
  /**
   * @param {string} where Argument, field or file at fault.
   * @param {string} expected What would have been right.
   * @param {string} got What was there instead, without secrets.
   * @param {string} remedy What the user can do about it.
   */
  constructor(where, expected, got, remedy) {
    super(oneLine(`${where}: expected ${expected}, got ${got}; ${remedy}`));
    this.name = "EncMixerError";
    this.where = oneLine(where);
    this.expected = oneLine(expected);
    this.got = oneLine(got);
    this.remedy = oneLine(remedy);
  }
};
function whereOf(options, otherwise) {
  const where = (
    /** @type {any} */
    options?.where
  );
  return typeof where === "string" ? where : otherwise;
}
function damaged(where, reason) {
  return new EncMixerError(where, "a whole image", `a damaged one (${reason})`, "take another copy");
}
function oneLine(text) {
  return text.split(/\s+/).filter(Boolean).join(" ");
}
function shown(value) {
  if (value === void 0 || value === null) return "none";
  if (typeof value === "string") return `'${value}'`.slice(0, 100);
  try {
    const isObject2 = typeof value === "object" && !(value instanceof Number);
    return ((isObject2 ? JSON.stringify(value) : String(value)) ?? "an object").slice(0, 100);
  } catch {
    return "an object";
  }
}

// src/bytes.js
function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
function joined(parts) {
  const whole2 = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole2.set(part, at);
    at += part.length;
  }
  return whole2;
}
function latin1(bytes) {
  return String.fromCharCode(...bytes);
}
function isBytes3(value) {
  return ["[object Uint8Array]", "[object Uint8ClampedArray]"].includes(Object.prototype.toString.call(value)) && ArrayBuffer.isView(value);
}
async function bytesOf(file, where) {
  if (isBytes3(file)) return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  const kind = Object.prototype.toString.call(file);
  if (kind === "[object ArrayBuffer]") return new Uint8Array(
    /** @type {ArrayBuffer} */
    file
  );
  if (kind === "[object Blob]" || kind === "[object File]") {
    const content = await /** @type {Blob} */
    file.arrayBuffer().catch(() => void 0);
    if (content === void 0) throw new EncMixerError(where, "a file to read", "one that cannot be read", "choose the file again");
    return new Uint8Array(content);
  }
  throw new EncMixerError(where, "a File, Blob, ArrayBuffer or Uint8Array", shown(file), "give the image's file");
}
async function inflated(compressed, size, where) {
  if (typeof DecompressionStream !== "function") {
    const remedy = "use Chrome 80, Firefox 113, Safari 16.4, Node 18 or a later one";
    throw new EncMixerError(where, "a browser with DecompressionStream, to read PNG", "one without it", remedy);
  }
  const result = new Uint8Array(size);
  let filled = 0;
  const source = new Blob(
    /** @type {BlobPart[]} */
    compressed
  ).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = source.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const some = part.value.subarray(0, size - filled);
      result.set(some, filled);
      filled += some.length;
      if (some.length < part.value.length) {
        await reader.cancel();
        break;
      }
    }
  } catch {
    throw damaged(where, "its compressed data cannot be read");
  }
  return result.subarray(0, filled);
}

// src/key.js
var KEY_BYTES = 32;
var CHECKSUM_BYTES = 4;
var PREFIX = "ENCMIXER-KEY-1:";
var WHITE = /^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$/g;
var bytesOf2;
var SecretKey = class {
  /** @type {Uint8Array} */
  #bytes;
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    this.fingerprint = bytesToHex(derive(this, "fingerprint", 8));
    Object.freeze(this);
  }
  static {
    bytesOf2 = (key) => {
      if (typeof key !== "object" || key === null || !(#bytes in key)) {
        throw new EncMixerError("key", "a key", key === void 0 || key === null ? "none" : typeof key, "make it with readKey or newKey");
      }
      return key.#bytes;
    };
  }
  toString() {
    return `<SecretKey ${this.fingerprint}>`;
  }
  toJSON() {
    return this.toString();
  }
};
function readKey(file, options) {
  const where = whereOf(options, "key");
  const text = typeof file === "string" ? file : isBytes3(file) ? latin12(file) : void 0;
  const expected = `one line of text that starts with ${PREFIX}`;
  const remedy = "give the file that `encmixer key new` wrote, or a backup of it";
  if (text === void 0) throw new EncMixerError(where, expected, typeof file, "give the file's text or bytes");
  const line = text.replace(WHITE, "");
  if (!line.startsWith("ENCMIXER-KEY-")) {
    throw new EncMixerError(where, expected, `${text.length} characters of something else`, remedy);
  }
  if (!line.startsWith(PREFIX)) {
    throw new EncMixerError(where, expected, "a key file of another version", "upgrade encmixer");
  }
  const raw = fromBase64url(line.slice(PREFIX.length));
  if (raw?.length !== KEY_BYTES + CHECKSUM_BYTES) {
    throw new EncMixerError(where, `${expected} and 48 characters`, "a truncated or mistyped line", remedy);
  }
  const bytes = raw.slice(0, KEY_BYTES);
  if (checksum(bytes).some((byte, i) => byte !== raw[KEY_BYTES + i])) {
    throw new EncMixerError(where, "a checksum that fits the key", "another one: a character is mistyped", remedy);
  }
  return new SecretKey(bytes);
}
function newKey() {
  if (typeof crypto !== "object") throw new EncMixerError("key", "a browser with crypto.getRandomValues", "one without it", "use a later one");
  return new SecretKey(crypto.getRandomValues(new Uint8Array(KEY_BYTES)));
}
function keyText(key) {
  const bytes = bytesOf2(key);
  const text = btoa(String.fromCharCode(...bytes, ...checksum(bytes)));
  return `${PREFIX}${text.replaceAll("+", "-").replaceAll("/", "_")}
`;
}
function fingerprint(key) {
  bytesOf2(key);
  return key.fingerprint;
}
function derive(key, purpose, length = KEY_BYTES) {
  return hkdf(sha256, bytesOf2(key), void 0, utf8ToBytes(`timm-encmixer/v1/${purpose}`), length);
}
function checksum(bytes) {
  return sha256(concatBytes(utf8ToBytes("timm-encmixer/key-file/v1/"), bytes)).slice(0, CHECKSUM_BYTES);
}
function latin12(bytes) {
  let text = "";
  for (const byte of bytes.subarray(0, 4097)) text += String.fromCharCode(byte);
  return text;
}
function fromBase64url(text) {
  if (!/^[A-Za-z0-9_-]{48}$/.test(text)) return void 0;
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
}

// src/ciphers.json
var ciphers_default = {
  default: "shuffle+negpos",
  parts: {
    shuffle: { moves: "numbers", inverts: false },
    negpos: { moves: "nothing", inverts: true },
    orthogonal: { moves: "nothing", inverts: false },
    "shuffle-planes": { moves: "numbers of a channel", inverts: false },
    etc: { moves: "sub-blocks", inverts: true },
    scramble: { moves: "blocks", inverts: false }
  },
  ciphers: {
    shuffle: { parts: ["shuffle"], scrambles: false, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 1 },
    negpos: { parts: ["negpos"], scrambles: false, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 1 },
    "shuffle+negpos": { parts: ["shuffle", "negpos"], scrambles: false, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 1 },
    orthogonal: { parts: ["orthogonal"], scrambles: false, exact: false, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 1 },
    "shuffle-planes": { parts: ["shuffle-planes"], scrambles: false, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: true, since: 5 },
    etc: { parts: ["etc"], scrambles: false, exact: true, takes_jpeg: true, side_multiple: 8, keeps_normalisation: false, since: 4 },
    scramble: { parts: ["scramble"], scrambles: true, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 3 },
    "shuffle+scramble": { parts: ["shuffle", "scramble"], scrambles: true, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 3 },
    "negpos+scramble": { parts: ["negpos", "scramble"], scrambles: true, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 3 },
    "shuffle+negpos+scramble": { parts: ["shuffle", "negpos", "scramble"], scrambles: true, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 3 },
    "orthogonal+scramble": { parts: ["orthogonal", "scramble"], scrambles: true, exact: false, takes_jpeg: false, side_multiple: 1, keeps_normalisation: false, since: 3 },
    "shuffle-planes+scramble": { parts: ["shuffle-planes", "scramble"], scrambles: true, exact: true, takes_jpeg: false, side_multiple: 1, keeps_normalisation: true, since: 5 },
    "etc+scramble": { parts: ["etc", "scramble"], scrambles: true, exact: true, takes_jpeg: true, side_multiple: 8, keeps_normalisation: false, since: 4 }
  }
};

// src/json.js
var MARK = "not written as a whole number";
var Written = class extends Number {
  /** @param {string} text */
  constructor(text) {
    super(text);
    this.text = text;
  }
  toString() {
    return this.text;
  }
};
function parseExact(text) {
  JSON.parse(text);
  const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;
  const marked = text.replace(tokens, (token) => token[0] === '"' || /^-?\d+$/.test(token) ? token : `{"${MARK}":"${token}"}`);
  return JSON.parse(marked, (_, value) => {
    const isNumber = typeof value === "object" && value !== null && !Array.isArray(value) && typeof value[MARK] === "string";
    return isNumber ? new Written(value[MARK]) : value;
  });
}
function plainNumbers(value) {
  if (Array.isArray(value)) return value.map(plainNumbers);
  return value instanceof Number ? Number(value) : value;
}

// src/record.js
var [FIRST_VERSION, LAST_VERSION] = [1, 5];
var CIPHERS = Object.keys(ciphers_default.ciphers);
var NOTE_PREFIX = "encmixer:";
var LARGEST_IMAGE = 2 ** 28;
var LARGEST_BLOCK = 2 ** 18;
var LARGEST_MATRIX = 4096;
var REMEDY = "take the record from an artefact that timm-encmixer wrote";
var whole = (low, high) => (value) => Number.isInteger(value) && /** @type {number} */
value >= low && /** @type {number} */
value <= high;
var sides = (length) => (value) => Array.isArray(value) && value.length === length && value.every(whole(1, 65536));
var name = (value) => typeof value === "string" && value.length >= 1 && [...value].length <= 1024;
var share = (value) => within(plainNumbers(value), 0.01, 2);
var numbers = (value) => Array.isArray(value) && value.every((one) => within(plainNumbers(one), -1e6, 1e6));
var within = (value, low, high) => typeof value === "number" && value >= low && value <= high;
var oneOf = (known) => (value) => typeof value === "string" && known.includes(value);
var SIZE = "channels, height and width, whole numbers from 1 to 65536";
var PLAIN = {
  input_size: { expected: SIZE, fits: sides(3), needed: true },
  mean: { expected: "numbers from -1000000 to 1000000", fits: numbers, needed: true },
  std: { expected: "numbers from -1000000 to 1000000", fits: numbers, needed: true },
  interpolation: {
    expected: "a filter of timm's",
    fits: oneOf(["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]),
    otherwise: "bicubic"
  },
  crop_pct: { expected: "a share from 0.01 to 2", fits: share, otherwise: 0.875 },
  crop_mode: { expected: "a crop mode of timm's", fits: oneOf(["center", "squash", "border"]), otherwise: "center" },
  test_input_size: { expected: SIZE, fits: sides(3), otherwise: null },
  test_crop_pct: { expected: "a share from 0.01 to 2", fits: share, otherwise: null }
};
var RECORD = {
  version: { expected: "a whole number", fits: whole(FIRST_VERSION, LAST_VERSION), needed: true },
  cipher: { expected: `one of ${CIPHERS.join(", ")}`, fits: oneOf(CIPHERS), otherwise: ciphers_default.default },
  patch_size: { expected: "a whole number from 2 to 32", fits: whole(2, 32), needed: true },
  in_chans: { expected: "a whole number from 1 to 1024", fits: whole(1, 1024), otherwise: 3 },
  fingerprint: {
    expected: "16 hexadecimal digits",
    fits: (value) => typeof value === "string" && /^[0-9a-f]{16}$/.test(value),
    otherwise: null
  },
  stem: { expected: "a module's name", fits: name, otherwise: null },
  constant: { expected: "a tensor's name", fits: name, otherwise: null },
  grid: { expected: "two whole numbers from 1 to 65536", fits: sides(2), otherwise: null },
  positions: { expected: "a tensor's name", fits: name, otherwise: null },
  base_architecture: { expected: "a name of timm's", fits: name, otherwise: null },
  plain: { expected: "the plain model's preprocessing", fits: isObject, otherwise: null }
};
function readRecord(source, options) {
  const value = typeof source === "string" ? parsed(source, whereOf(options, "record")) : source;
  if (isObject(value) && "architecture" in value) return ofConfig(value, whereOf(options, "config.json"));
  return ofRecord(value, whereOf(options, "record"));
}
var KNOWN = /* @__PURE__ */ new WeakSet();
function asRecord(value) {
  return isObject(value) && KNOWN.has(value) ? (
    /** @type {any} */
    value
  ) : ofRecord(value, "record");
}
function factsOf(record) {
  return (
    /** @type {{ [name: string]: CipherFacts }} */
    ciphers_default.ciphers[record.cipher]
  );
}
function ofConfig(config, where) {
  const cfg = isObject(config.pretrained_cfg) ? config.pretrained_cfg : config;
  const notes = Array.isArray(cfg.notes) ? cfg.notes : [];
  const note = notes.find((one) => typeof one === "string" && one.startsWith(NOTE_PREFIX));
  const inNotes = note && ofRecord(parsed(note.slice(NOTE_PREFIX.length), "pretrained_cfg notes"), "pretrained_cfg notes");
  const atTop = isObject(config) && (config.encmixer ?? null) !== null && ofRecord(config.encmixer, `${where}: encmixer`);
  const record = atTop || inNotes;
  if (!record) throw new EncMixerError(where, "an encrypted model with its record", "a plain one", "encrypt it first");
  const remedy = "take config and weights from the same encryption";
  if (atTop && inNotes && JSON.stringify(atTop) !== JSON.stringify(inNotes)) {
    throw new EncMixerError(where, "one record at the top of config.json and in pretrained_cfg.notes", "two different ones", remedy);
  }
  if (record.base_architecture !== null && record.base_architecture !== config.architecture) {
    throw new EncMixerError(where, `the record's architecture ${record.base_architecture}`, shown(config.architecture), remedy);
  }
  return record;
}
function ofRecord(value, where) {
  if (!isObject(value)) throw new EncMixerError(where, "a JSON object", kindOf(value), REMEDY);
  if (!whole(FIRST_VERSION, LAST_VERSION)(value.version)) {
    throw new EncMixerError(`${where}: version`, `${FIRST_VERSION} to ${LAST_VERSION}`, shown(value.version), "upgrade encmixer");
  }
  const plain = value.plain === void 0 || value.plain === null ? null : ofPlain(value.plain, `${where}: plain`);
  const record = (
    /** @type {any} */
    { ...fields(RECORD, value, where, `${where}: `), plain }
  );
  const facts = factsOf(record);
  const needed = Math.max(facts.since, record.grid !== null || record.positions !== null ? 3 : record.constant !== null ? 2 : 1);
  if (record.version !== needed) {
    throw new EncMixerError(`${where}: version`, `${needed}, as its fields need`, shown(record.version), "upgrade encmixer");
  }
  if (record.patch_size % facts.side_multiple) {
    const expected = `a multiple of ${facts.side_multiple} px for the cipher ${record.cipher}`;
    throw new EncMixerError(`${where}: patch_size`, expected, `${record.patch_size} px`, REMEDY);
  }
  if (record.constant !== null && facts.keeps_normalisation) {
    const expected = `none for the cipher ${record.cipher}, which leaves no constant`;
    throw new EncMixerError(`${where}: constant`, expected, shown(record.constant), REMEDY);
  }
  checkGrid(record, facts, where);
  const largest = facts.exact ? LARGEST_BLOCK : LARGEST_MATRIX;
  if (record.in_chans * record.patch_size ** 2 > largest) {
    const got = `${record.in_chans} x ${record.patch_size} x ${record.patch_size}`;
    throw new EncMixerError(`${where}: in_chans`, `blocks of up to ${largest} numbers for ${record.cipher}`, got, REMEDY);
  }
  if (plain !== null && plain.input_size[0] !== record.in_chans) {
    const expected = `${record.in_chans} channels as in in_chans`;
    throw new EncMixerError(`${where}: plain.input_size`, expected, `${plain.input_size[0]}`, REMEDY);
  }
  if (record.fingerprint === null) {
    throw new EncMixerError(`${where}: fingerprint`, "the key's fingerprint", "none", REMEDY);
  }
  KNOWN.add(record);
  return deepFrozen(record);
}
function checkGrid(record, { scrambles }, where) {
  if (!scrambles && (record.grid !== null || record.positions !== null)) {
    throw new EncMixerError(`${where}: grid`, `none for the cipher ${record.cipher}`, shown(record.grid), REMEDY);
  }
  if (scrambles && record.grid === null) {
    const remedy = "give rows and columns of blocks: height / patch_size and width / patch_size";
    throw new EncMixerError(`${where}: grid`, `rows and columns for the cipher ${record.cipher}`, "none", remedy);
  }
  if (record.grid !== null && record.grid[0] * record.grid[1] > LARGEST_BLOCK) {
    throw new EncMixerError(`${where}: grid`, `${LARGEST_BLOCK} blocks at most`, shown(record.grid), REMEDY);
  }
}
function ofPlain(value, where) {
  const plain = (
    /** @type {any} */
    fields(PLAIN, value, where, `${where}.`)
  );
  const [channels, height, width] = plain.input_size;
  if (channels * height * width / plain.crop_pct ** 2 > LARGEST_IMAGE) {
    const got = `${plain.input_size.join(" x ")} / ${plain.crop_pct}`;
    throw new EncMixerError(`${where}.input_size`, `up to ${LARGEST_IMAGE} values before the crop`, got, REMEDY);
  }
  for (
    const [field, low] of
    /** @type {[string, number][]} */
    [["mean", -Infinity], ["std", 0]]
  ) {
    if (plain[field].length !== channels || !plain[field].every((one) => one > low)) {
      const expected = `${channels} numbers${field === "std" ? " above 0" : ""}`;
      throw new EncMixerError(`${where}.${field}`, expected, shown(plain[field]), `give one ${field} per input channel`);
    }
  }
  return plain;
}
function fields(table, value, where, prefix) {
  if (!isObject(value)) throw new EncMixerError(where, "a JSON object", kindOf(value), REMEDY);
  const unknown2 = Object.keys(value).filter((one) => !Object.hasOwn(table, one)).sort()[0];
  const missing = Object.keys(table).filter((one) => table[one].needed && !Object.hasOwn(value, one)).sort()[0];
  if (unknown2 !== void 0 || missing !== void 0) {
    const got = unknown2 !== void 0 ? shown(unknown2) : `no ${missing}`;
    throw new EncMixerError(where, `the fields ${Object.keys(table).sort().join(", ")}`, got, REMEDY);
  }
  const found = {};
  for (const [field, { expected, fits, otherwise }] of Object.entries(table)) {
    const given = Object.hasOwn(value, field) ? value[field] : otherwise;
    if (!(given === null && otherwise === null) && !fits(given)) {
      throw new EncMixerError(`${prefix}${field}`, expected, shown(given), REMEDY);
    }
    found[field] = plainNumbers(given);
  }
  return found;
}
function parsed(text, where) {
  try {
    return parseExact(text);
  } catch {
    throw new EncMixerError(where, "JSON", "text that is not valid JSON", REMEDY);
  }
}
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
function kindOf(value) {
  return value === null || value === void 0 ? "none" : Array.isArray(value) ? "a list" : typeof value;
}
function deepFrozen(value) {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(deepFrozen);
    Object.freeze(value);
  }
  return value;
}

// src/derivation.js
var WORDS = 2 ** 32;
var CHUNK_BLOCKS = 256;
var SUB_BLOCK_PX = 8;
var KeyStream = class {
  /** @param {Uint8Array} seed */
  constructor(seed) {
    this.seed = seed;
    this.counter = 0;
    this.words = new DataView(new ArrayBuffer(0));
    this.next = 0;
  }
  word() {
    if (this.next === this.words.byteLength) {
      const stream = chacha20(this.seed, new Uint8Array(12), new Uint8Array(64 * CHUNK_BLOCKS), void 0, this.counter);
      this.words = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
      this.counter += CHUNK_BLOCKS;
      this.next = 0;
    }
    const word2 = this.words.getUint32(this.next, true);
    this.next += 4;
    return word2;
  }
  /** @param {number} bound A uniform number below it: words past the last whole multiple are thrown away. */
  below(bound) {
    const limit = WORDS - WORDS % bound;
    for (; ; ) {
      const word2 = this.word();
      if (word2 < limit) return word2 % bound;
    }
  }
  /** @param {number} size */
  permutation(size) {
    const order = identity(size);
    for (let last = size - 1; last > 0; last--) {
      const chosen = this.below(last + 1);
      const kept = order[last];
      order[last] = order[chosen];
      order[chosen] = kept;
    }
    return order;
  }
};
function deriveMap(key, record) {
  const { cipher, in_chans: channels, patch_size: patch, grid } = record;
  const size = channels * patch ** 2;
  let whole2 = { source: identity(size), mask: new Uint8Array(size), order: null };
  for (const part of factsOf(record).parts) {
    const purpose = `cipher=${cipher}/part=${part}/C=${channels}/P=${patch}`;
    if (
      /** @type {{ [part: string]: { moves: string } }} */
      ciphers_default.parts[part].moves === "blocks"
    ) {
      const [rows, columns] = (
        /** @type {readonly [number, number]} */
        grid
      );
      const order = new KeyStream(derive(key, `${purpose}/grid=${rows}x${columns}`)).permutation(rows * columns);
      whole2 = { ...whole2, order };
    } else {
      whole2 = then(whole2, PARTS[part](new KeyStream(derive(key, purpose)), channels, patch));
    }
  }
  return whole2;
}
function inverse({ source, mask, order }) {
  const back = inverted(source);
  return { source: back, mask: mask.map((_, i) => mask[back[i]]), order: order && inverted(order) };
}
var PARTS = { shuffle, negpos, "shuffle-planes": shufflePlanes, etc };
function shuffle(stream, channels, patch) {
  const size = channels * patch ** 2;
  return { source: stream.permutation(size), mask: new Uint8Array(size), order: null };
}
function shufflePlanes(stream, channels, patch) {
  const plane = patch ** 2;
  const source = new Int32Array(channels * plane);
  for (let channel = 0; channel < channels; channel++) {
    source.set(stream.permutation(plane).map((position) => channel * plane + position), channel * plane);
  }
  return { source, mask: new Uint8Array(source.length), order: null };
}
function negpos(stream, channels, patch) {
  const size = channels * patch ** 2;
  const mask = new Uint8Array(size);
  for (const position of stream.permutation(size).subarray(0, Math.floor(size / 2))) mask[position] = 255;
  return { source: identity(size), mask, order: null };
}
function etc(stream, channels, patch) {
  const side = patch / SUB_BLOCK_PX;
  const source = new Int32Array(channels * patch ** 2);
  const mask = new Uint8Array(source.length);
  const origins = stream.permutation(side * side);
  origins.forEach((origin, target) => {
    const turn = stream.below(8);
    const sign = stream.below(2);
    const colours = channels === 3 ? stream.permutation(3) : identity(channels);
    for (let channel = 0; channel < channels; channel++) {
      for (let row = 0; row < SUB_BLOCK_PX; row++) {
        for (let column = 0; column < SUB_BLOCK_PX; column++) {
          let fromRow = turn & 2 ? SUB_BLOCK_PX - 1 - row : row;
          let fromColumn = turn & 1 ? SUB_BLOCK_PX - 1 - column : column;
          if (turn & 4) [fromRow, fromColumn] = [fromColumn, fromRow];
          const here = place(channel, target, row, column);
          source[here] = place(colours[channel], origin, fromRow, fromColumn);
          mask[here] = sign ? 255 : 0;
        }
      }
    }
  });
  return { source, mask, order: null };
  function place(channel, subBlock, row, column) {
    const y = Math.floor(subBlock / side) * SUB_BLOCK_PX + row;
    return (channel * patch + y) * patch + subBlock % side * SUB_BLOCK_PX + column;
  }
}
function then(first, second) {
  return {
    source: second.source.map((position) => first.source[position]),
    mask: second.mask.map((bits, i) => bits ^ first.mask[second.source[i]]),
    order: first.order
  };
}
function identity(size) {
  return Int32Array.from({ length: size }, (_, i) => i);
}
function inverted(order) {
  const back = new Int32Array(order.length);
  order.forEach((from, to) => {
    back[from] = to;
  });
  return back;
}

// src/checksum.js
var TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 3988292384 ^ byte >>> 1 : byte >>> 1;
  return byte;
});
function crc32(bytes) {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = TABLE[(crc ^ bytes[i]) & 255] ^ crc >>> 8;
  return ~crc >>> 0;
}
function adler32(bytes) {
  let low = 1;
  let high = 0;
  for (let start = 0; start < bytes.length; start += 3800) {
    for (let i = start; i < Math.min(start + 3800, bytes.length); i++) {
      low += bytes[i];
      high += low;
    }
    low %= 65521;
    high %= 65521;
  }
  return (high << 16 | low) >>> 0;
}

// src/image_record.js
var KEYWORD = "encmixer";
var FIELDS = ["version", "cipher", "patch_size", "size", "fingerprint", "digest"];
var LOSSLESS = 1;
var LOSSY = 2;
var ORIGINAL = "decrypt the file that was written: ciphertext must not be resized, cropped, turned or recompressed";
function imageRecordOf(ciphertext, { cipher, patch_size, fingerprint: fingerprint2 }) {
  return { version: LOSSLESS, cipher, patch_size, size: [ciphertext.height, ciphertext.width], fingerprint: fingerprint2, digest: digest(ciphertext) };
}
function readImageRecord(text, where, version) {
  const remedy = "upgrade encmixer, or take another copy";
  let value;
  try {
    value = parseExact(text);
  } catch {
    throw new EncMixerError(`${where}: record`, "JSON", "text that is not valid JSON", remedy);
  }
  const isWhole = (one, most) => Number.isInteger(one) && Number(one) >= 1 && Number(one) <= most;
  const isHex = (one, digits) => typeof one === "string" && digits.test(one);
  const fits = typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).every((name2) => FIELDS.includes(name2)) && (Object.hasOwn(value, "version") ? value.version : LOSSLESS) === version && typeof value.cipher === "string" && value.cipher.length <= 64 && isWhole(value.patch_size, 1024) && Array.isArray(value.size) && value.size.length === 2 && value.size.every((side) => isWhole(side, 2 ** 31 - 1)) && isHex(value.fingerprint, /^[0-9a-f]{16}$/) && (version === LOSSLESS ? isHex(value.digest, /^[0-9a-f]{8}$/) : !Object.hasOwn(value, "digest"));
  if (!fits) throw new EncMixerError(`${where}: record`, "what docs/format.md describes", shown(text), remedy);
  return { version, ...value };
}
function checkCiphertext(image, model) {
  const found = image.imageRecord;
  if (found === void 0 || found === null) return;
  if (found.fingerprint !== model.fingerprint) {
    const remedy = "decrypt it with that key, or encrypt the plain image again";
    throw new EncMixerError("image", `a ciphertext under the key ${model.fingerprint}`, `the key ${word(found.fingerprint)}`, remedy);
  }
  if (found.cipher !== model.cipher || found.patch_size !== model.patch_size) {
    const expected = `a ciphertext of ${model.cipher}, blocks of ${model.patch_size} px`;
    const got = `${word(found.cipher)}, blocks of ${word(found.patch_size)} px`;
    throw new EncMixerError("image", expected, got, "name the model that it was encrypted for");
  }
  const [height, width] = Array.isArray(found.size) ? found.size : [0, 0];
  if (height !== image.height || width !== image.width) {
    const expected = `${word(height)} x ${word(width)} px, as it was written`;
    throw new EncMixerError("image", expected, `${image.height} x ${image.width} px`, ORIGINAL);
  }
  if (found.version === LOSSLESS && found.digest !== digest(image)) throw new EncMixerError("image", "the pixels that were written", "others", ORIGINAL);
}
function refuseCiphertext({ imageRecord }) {
  if (imageRecord === void 0 || imageRecord === null) return;
  const got = `a ciphertext of ${word(imageRecord.cipher)} under the key ${word(imageRecord.fingerprint)}`;
  throw new EncMixerError("image", "a plain image", got, "give the plain image; decrypt gets it back");
}
function word(value) {
  return typeof value === "string" ? value : shown(value);
}
function digest({ data }) {
  return crc32(data).toString(16).padStart(8, "0");
}

// src/pixels.js
var LARGEST_PX = 89478485;
function asPixels(image) {
  const { data, width, height } = (
    /** @type {any} */
    image ?? {}
  );
  const channels = (
    /** @type {any} */
    image?.channels ?? 4
  );
  const bytes = isBytes3(data);
  const sides2 = [width, height].every((side) => Number.isInteger(side) && side > 0);
  if (!bytes || !sides2 || ![1, 2, 3, 4].includes(channels) || data.length !== width * height * channels) {
    const got = bytes ? `${data.length} bytes for ${shown(height)} x ${shown(width)} px, ${shown(channels)} channels` : "something else";
    throw new EncMixerError("image", "ImageData, or { data, width, height, channels } of 8-bit pixels", got, "readImage makes one");
  }
  return (
    /** @type {Pixels} */
    channels === /** @type {any} */
    image.channels ? image : { data, width, height, channels }
  );
}
function toChannels(image, channels) {
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
      result[to] = given === 2 ? data[from] : 19595 * data[from] + 38470 * data[from + 1] + 7471 * data[from + 2] + 32768 >> 16;
    }
  }
  return { data: result, width, height, channels };
}
function byPixels(image, channels) {
  if (image.channels === channels) return image;
  const { data, channels: given } = image;
  const hasColours = () => data.some((_, i) => i % given === 0 && (data[i] !== data[i + 1] || data[i] !== data[i + 2]));
  if (channels === 1 && given > 2 && hasColours()) {
    throw new EncMixerError("image", "1 channel, as the model's record says", "colours", "it is not a ciphertext of this model");
  }
  return { ...toChannels(image, channels), imageRecord: image.imageRecord };
}
function toImageData(image) {
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
function upright(image, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return image;
  const { data, width, height, channels } = image;
  const swapped = orientation >= 5;
  const mirrored = [2, 3, 7, 8].includes(orientation);
  const flipped = [3, 4, 6, 7].includes(orientation);
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

// src/cipher.js
var RESIZE_REMEDY = "resize or crop it first: preprocess does";
function makeCipher(key, model) {
  const record = asRecord(model);
  if (fingerprint(key) !== record.fingerprint) {
    const [expected, got] = [`the key with fingerprint ${record.fingerprint}`, `one with fingerprint ${key.fingerprint}`];
    throw new EncMixerError("key", expected, got, "ask the model's owner for its key");
  }
  if (!factsOf(record).exact) {
    const remedy = "its ciphertext is floating-point tensors, which no image file holds: use the Python package";
    throw new EncMixerError("record: cipher", "a cipher with 8-bit ciphertext", record.cipher, remedy);
  }
  const forth = deriveMap(key, record);
  const back = inverse(forth);
  return Object.freeze({
    record,
    encrypt(image) {
      const pixels = asPixels(image);
      refuseCiphertext(pixels);
      return applied(forth, withoutAlpha(pixels, record), record);
    },
    decrypt(image) {
      const pixels = byPixels(asPixels(image), record.in_chans);
      checkCiphertext(pixels, record);
      return applied(back, pixels, record);
    }
  });
}
function withoutAlpha(image, { in_chans: channels }) {
  if (image.channels === channels) return image;
  if (image.channels !== channels + 1 || image.channels === 3) {
    const expected = `${channels} ${channels === 1 ? "channel" : "channels"}, as the model's record says`;
    throw new EncMixerError("image", expected, `${image.channels}`, "preprocess brings it to the model's channels");
  }
  return { ...toChannels(image, channels), imageRecord: image.imageRecord };
}
function applied({ source, mask, order }, { data, width, height, channels }, { patch_size: patch, grid }) {
  if (width % patch || height % patch) {
    const expected = `height and width that are multiples of ${patch} px`;
    throw new EncMixerError("image", expected, `${height} x ${width} px`, RESIZE_REMEDY);
  }
  const [rows, columns] = [height / patch, width / patch];
  if (grid !== null && (grid[0] !== rows || grid[1] !== columns)) {
    const expected = `${grid[0] * patch} x ${grid[1] * patch} px, the one size whose blocks the record permutes`;
    throw new EncMixerError("image", expected, `${height} x ${width} px`, RESIZE_REMEDY);
  }
  const result = new Uint8Array(data.length);
  const size = source.length;
  const [from, to, bits] = [new Int32Array(size), new Int32Array(size), new Uint8Array(size)];
  for (let i = 0; i < size; i++) {
    const channel = i % channels;
    const pixel = (i - channel) / channels;
    const position = channel * patch ** 2 + pixel;
    to[i] = offset(position);
    from[i] = offset(source[position]);
    bits[i] = mask[position];
  }
  for (let block = 0; block < rows * columns; block++) {
    const target = corner(block);
    const origin = corner(order === null ? block : order[block]);
    for (let i = 0; i < size; i++) result[target + to[i]] = data[origin + from[i]] ^ bits[i];
  }
  return { data: result, width, height, channels };
  function offset(position) {
    const pixel = position % patch ** 2;
    return (Math.floor(pixel / patch) * width + pixel % patch) * channels + Math.floor(position / patch ** 2);
  }
  function corner(block) {
    return (Math.floor(block / columns) * width + block % columns) * patch * channels;
  }
}

// src/orientation.js
var TAG = 274;
var LARGEST_XMP = 1 << 20;
function orientationIn({ exif, xmp }) {
  const found = exif && tagIn(withoutPrefix(exif), TAG);
  if (found !== void 0) return found;
  const text = xmp === void 0 ? "" : new TextDecoder().decode(xmp.subarray(0, LARGEST_XMP));
  return Number(/tiff:Orientation(?:="|>)([0-9])/.exec(text)?.[1] ?? 1);
}
function tagIn(tiff, tag) {
  const view = viewOf(tiff);
  const order = tiff.length >= 8 ? view.getUint16(0) : 0;
  if (order !== 18761 && order !== 19789) return void 0;
  const little = order === 18761;
  const begin2 = view.getUint32(4, little);
  const count = begin2 + 2 <= tiff.length ? view.getUint16(begin2, little) : 0;
  let found;
  for (let entry = begin2 + 2; entry < begin2 + 2 + 12 * count && entry + 12 <= tiff.length; entry += 12) {
    if (view.getUint16(entry, little) !== tag) continue;
    const [kind, values] = [view.getUint16(entry + 2, little), view.getUint32(entry + 4, little)];
    const read = { 1: () => tiff[entry + 8], 3: () => view.getUint16(entry + 8, little), 4: () => view.getUint32(entry + 8, little) }[kind];
    found = values === 1 && read ? read() : 1;
  }
  return found;
}
function exifOfProfile(text) {
  const digits = text.split("\n").slice(3).join("").replace(/\s/g, "");
  if (digits.length % 2 || /[^0-9a-fA-F]/.test(digits)) return new Uint8Array(0);
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}
function withoutPrefix(exif) {
  while ([69, 120, 105, 102, 0, 0].every((byte, i) => exif[i] === byte)) exif = exif.subarray(6);
  return exif;
}

// src/png_file.js
var SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
var SAMPLES = (
  /** @type {{ [colour: number]: number }} */
  { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }
);
var DEPTHS = (
  /** @type {{ [colour: number]: number[] }} */
  { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] }
);
var [PALETTE, PROFILE, XMP] = [3, "Raw profile type exif", "XML:com.adobe.xmp"];
var TEXTS = (
  /** @type {{ [keyword: string]: number }} */
  { [KEYWORD]: 1 << 16, [PROFILE]: 1 << 20, [XMP]: 1 << 20 }
);
function isPng(bytes) {
  return SIGNATURE.every((byte, i) => bytes[i] === byte);
}
async function readPng(bytes, where) {
  let header;
  let palette;
  const compressed = [];
  const texts = {};
  let exif = (
    /** @type {Uint8Array | undefined} */
    void 0
  );
  let [frames, isFirst] = [0, false];
  for (const { type, body } of chunks(bytes, where)) {
    if (type === "IHDR" !== (header === void 0)) throw damaged(where, header ? "several headers" : "no header");
    if (type === "IHDR") header = readHeader(body, where);
    else if (type === "PLTE") palette ??= body;
    else if (type === "IDAT") compressed.push(body);
    else if (type === "eXIf") exif = body;
    else if (type === "acTL" && body.length > 3) frames = viewOf(body).getUint32(0);
    else if (type === "fcTL" && compressed.length === 0) isFirst = true;
    else if (["tEXt", "zTXt", "iTXt"].includes(type)) Object.assign(texts, await textOf(type, body, where));
  }
  frames += frames && !isFirst ? 1 : 0;
  if (frames > 1) throw new EncMixerError(where, "a still image", `${frames} frames`, "extract the frame you mean");
  if (header === void 0) throw damaged(where, "no header");
  if (header.colour === PALETTE && palette === void 0) throw damaged(where, "no palette");
  if (compressed.length === 0) throw damaged(where, "no pixels");
  const xmp = texts[XMP] === void 0 ? void 0 : new TextEncoder().encode(texts[XMP]);
  const orientation = orientationIn({ exif: exif ?? (texts[PROFILE] === void 0 ? void 0 : exifOfProfile(texts[PROFILE])), xmp });
  return { header, palette: palette ?? new Uint8Array(0), compressed, orientation, record: texts[KEYWORD] };
}
function readHeader(body, where) {
  if (body.length !== 13) throw damaged(where, "a wrong header");
  const view = viewOf(body);
  const [width, height, depth, colour] = [view.getUint32(0), view.getUint32(4), body[8], body[9]];
  if (!DEPTHS[colour]?.includes(depth) || width === 0 || height === 0 || body[10] || body[11] || body[12] > 1) {
    throw damaged(where, "a wrong header");
  }
  if (width * height > LARGEST_PX) {
    const expected = `at most ${LARGEST_PX} pixels, against decompression bombs`;
    throw new EncMixerError(where, expected, `${height} x ${width} px`, "scale it down first");
  }
  return { width, height, depth, colour, interlaced: body[12] === 1 };
}
function* chunks(bytes, where) {
  const view = viewOf(bytes);
  for (let at = SIGNATURE.length; at + 12 <= bytes.length; ) {
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > bytes.length) break;
    const type = latin1(bytes.subarray(at + 4, at + 8));
    if (crc32(bytes.subarray(at + 4, end)) !== view.getUint32(end)) throw damaged(where, `a wrong checksum in ${shown(type)}`);
    yield { type, body: bytes.subarray(at + 8, end) };
    if (type === "IEND") return;
    at = end + 4;
  }
  throw damaged(where, "it is truncated");
}
async function textOf(type, body, where) {
  const end = body.subarray(0, 80).indexOf(0);
  const keyword = end < 0 ? "" : latin1(body.subarray(0, end));
  if (!Object.hasOwn(TEXTS, keyword)) return {};
  const most = TEXTS[keyword];
  let rest = body.subarray(end + 1);
  let packed = type === "zTXt";
  if (type === "iTXt") {
    packed = rest[0] === 1;
    const language = rest.subarray(0, most).indexOf(0, 2);
    const translated = language < 0 ? -1 : rest.subarray(0, most).indexOf(0, language + 1);
    rest = translated < 0 ? rest.subarray(0, 0) : rest.subarray(translated + 1);
  } else if (packed) {
    rest = rest.subarray(1);
  }
  const data = packed ? await unpacked(rest, most, where) : rest.subarray(0, most);
  return { [keyword]: type === "iTXt" ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(data) : fromLatin1(data) };
}
async function unpacked(data, most, where) {
  const text = await inflated([data], most + 1, where).catch(() => new Uint8Array(0));
  return text.length > most ? new Uint8Array(0) : text;
}
function fromLatin1(data) {
  const parts = [];
  for (let at = 0; at < data.length; at += 4096) parts.push(latin1(data.subarray(at, at + 4096)));
  return parts.join("");
}

// src/png.js
var MOST_STORED = 65535;
var PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
function encodePng(image, options) {
  const record = options?.record;
  const given = asPixels(image);
  const pixels = toChannels(given, given.channels < 3 ? 1 : 3);
  const { width, height, channels } = pixels;
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, channels === 1 ? 0 : 2], 8);
  const text = record === void 0 ? void 0 : `${KEYWORD}\0${JSON.stringify(imageRecordOf(pixels, asRecord(record)))}`;
  return joined([
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", header),
    ...text === void 0 ? [] : [chunk("tEXt", Uint8Array.from(text, (character) => character.charCodeAt(0)))],
    chunk("IDAT", stored(unfilteredRows(pixels))),
    chunk("IEND", new Uint8Array(0))
  ]);
}
async function decodePng(file, options) {
  return (await pngPixels(file, whereOf(options, "image"))).image;
}
async function pngPixels(file, where) {
  const bytes = await bytesOf(file, where);
  if (!isPng(bytes)) throw new EncMixerError(where, "a PNG", "something else", "check the file");
  const { header, palette, compressed, orientation, record } = await readPng(bytes, where);
  const imageRecord = record === void 0 ? void 0 : readImageRecord(record, where, LOSSLESS);
  const passes = header.interlaced ? PASSES : [[0, 0, 1, 1]];
  const sizes = passes.map(([x, y, across, down]) => passSize(header, x, y, across, down));
  const size = sizes.reduce((sum, { rows, rowBytes }) => sum + rows * (1 + rowBytes), 0);
  const data = await inflated(compressed, size, where);
  if (data.length < size) throw damaged(where, "it is truncated");
  const image = unpacked2(header, palette, passes, sizes, data, where);
  return { image: imageRecord === void 0 ? image : { ...image, imageRecord }, orientation };
}
function unpacked2({ width, height, depth, colour }, palette, passes, sizes, data, where) {
  const samples = SAMPLES[colour];
  const channels = colour === 3 ? 3 : samples;
  const result = new Uint8Array(width * height * channels);
  const scale = colour === 3 ? 1 : 255 / (2 ** Math.min(depth, 8) - 1);
  let begin2 = 0;
  passes.forEach(([left, top, across, down], pass) => {
    const { columns, rows, rowBytes } = sizes[pass];
    unfilter(data, begin2, rows, rowBytes, Math.max(1, samples * depth / 8), where);
    for (let y = 0; y < rows; y++, begin2 += 1 + rowBytes) {
      if (depth === 8 && colour !== 3 && passes.length === 1) {
        result.set(data.subarray(begin2 + 1, begin2 + 1 + rowBytes), y * rowBytes);
        continue;
      }
      for (let x = 0; x < columns; x++) {
        const to = ((top + y * down) * width + left + x * across) * channels;
        for (let sample = 0; sample < samples; sample++) {
          const bit = (x * samples + sample) * depth;
          const at = begin2 + 1 + (bit >> 3);
          if (depth === 16) {
            result[to + sample] = colour === 0 ? Math.floor(((data[at] << 8) + data[at + 1] + 128) / 257) : data[at];
            continue;
          }
          const value = depth === 8 ? data[at] : data[at] >> 8 - depth - (bit & 7) & 2 ** depth - 1;
          if (colour === 3) for (let c = 0; c < 3; c++) result[to + c] = palette[3 * value + c] ?? 0;
          else result[to + sample] = value * scale;
        }
      }
    }
  });
  return { data: result, width, height, channels };
}
function unfilter(data, begin2, rows, rowBytes, step, where) {
  for (let row = 0; row < rows; row++, begin2 += 1 + rowBytes) {
    const filter = data[begin2];
    if (filter > 4) throw damaged(where, "an unknown filter");
    if (filter === 0) continue;
    for (let i = 0; i < rowBytes; i++) {
      const at = begin2 + 1 + i;
      const left = i >= step ? data[at - step] : 0;
      const up = row > 0 ? data[at - rowBytes - 1] : 0;
      const corner = row > 0 && i >= step ? data[at - rowBytes - 1 - step] : 0;
      data[at] += filter === 1 ? left : filter === 2 ? up : filter === 3 ? left + up >> 1 : paeth(left, up, corner);
    }
  }
}
function paeth(left, up, corner) {
  const [toLeft, toUp, toCorner] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
}
function passSize({ width, height, depth, colour }, x, y, across, down) {
  const columns = Math.max(0, Math.ceil((width - x) / across));
  const rows = columns === 0 ? 0 : Math.max(0, Math.ceil((height - y) / down));
  return { columns, rows, rowBytes: Math.ceil(columns * SAMPLES[colour] * depth / 8) };
}
function unfilteredRows({ data, width, height, channels }) {
  const step = width * channels;
  const rows = new Uint8Array(height * (1 + step));
  for (let y = 0; y < height; y++) rows.set(data.subarray(y * step, (y + 1) * step), y * (1 + step) + 1);
  return rows;
}
function stored(data) {
  const parts = [Uint8Array.of(120, 1)];
  for (let start = 0; start < data.length; start += MOST_STORED) {
    const some = data.subarray(start, start + MOST_STORED);
    const last = start + MOST_STORED >= data.length ? 1 : 0;
    parts.push(Uint8Array.of(last, some.length & 255, some.length >> 8, ~some.length & 255, ~some.length >> 8 & 255), some);
  }
  const sum = new Uint8Array(4);
  viewOf(sum).setUint32(0, adler32(data));
  return joined([...parts, sum]);
}
function chunk(type, body) {
  const whole2 = new Uint8Array(body.length + 12);
  const view = viewOf(whole2);
  view.setUint32(0, body.length);
  whole2.set(Uint8Array.from(type, (character) => character.charCodeAt(0)), 4);
  whole2.set(body, 8);
  view.setUint32(body.length + 8, crc32(whole2.subarray(4, body.length + 8)));
  return whole2;
}

// src/resize.js
var PRECISION_BITS = 32 - 8 - 2;
var HALF = 1 << PRECISION_BITS - 1;
var FILTERS = {
  box: { support: 0.5, weight: (x) => x > -0.5 && x <= 0.5 ? 1 : 0 },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: {
    support: 1,
    weight: (x) => Math.abs(x) >= 1 ? 0 : sinc(x) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(x * Math.PI))
  },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: (x) => x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0 }
};
function resize(image, width, height, interpolation) {
  if (interpolation === "nearest") return nearest(image, width, height);
  const filter = FILTERS[interpolation];
  const across = (given) => width === given.width ? given : horizontal(given, width, filter);
  const down = (given) => height === given.height ? given : vertical(given, height, filter);
  const shrinks = image.height - height;
  const isTall = shrinks > 0 && shrinks > 2 * (image.width - width);
  return isTall ? across(down(image)) : down(across(image));
}
function horizontal({ data, width: given, height, channels }, width, filter) {
  const { first, count, weights, most } = coefficients(given, width, filter);
  const result = new Uint8Array(width * height * channels);
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * given * channels;
    for (let x = 0; x < width; x++) {
      const begin2 = row + first[x] * channels;
      const end = begin2 + count[x] * channels;
      if (channels === 3) {
        let [red, green, blue] = [HALF, HALF, HALF];
        for (let from = begin2, k = x * most; from < end; from += 3, k++) {
          const weight = weights[k];
          red += data[from] * weight;
          green += data[from + 1] * weight;
          blue += data[from + 2] * weight;
        }
        result[to++] = clipped(red);
        result[to++] = clipped(green);
        result[to++] = clipped(blue);
      } else {
        let grey = HALF;
        for (let from = begin2, k = x * most; from < end; from++, k++) grey += data[from] * weights[k];
        result[to++] = clipped(grey);
      }
    }
  }
  return { data: result, width, height, channels };
}
function vertical({ data, width, height: given, channels }, height, filter) {
  const { first, count, weights, most } = coefficients(given, height, filter);
  const step = width * channels;
  const result = new Uint8Array(height * step);
  const sums = new Float64Array(step);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]; k++) {
      const weight = weights[y * most + k];
      const row = (first[y] + k) * step;
      for (let i = 0; i < step; i++) sums[i] += data[row + i] * weight;
    }
    for (let i = 0, to = y * step; i < step; i++, to++) result[to] = clipped(sums[i]);
  }
  return { data: result, width, height, channels };
}
function coefficients(given, wanted, { support, weight }) {
  const scale = given / wanted;
  const stretch = Math.max(1, scale);
  const reach = support * stretch;
  const most = Math.ceil(reach) * 2 + 1;
  const first = new Int32Array(wanted);
  const count = new Int32Array(wanted);
  const weights = new Int32Array(wanted * most);
  const exact = new Float64Array(most);
  for (let x = 0; x < wanted; x++) {
    const centre2 = (x + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre2 - reach + 0.5));
    const number = Math.min(given, Math.trunc(centre2 + reach + 0.5)) - low;
    let sum = 0;
    for (let k = 0; k < number; k++) {
      exact[k] = weight((k + low - centre2 + 0.5) * (1 / stretch));
      sum += exact[k];
    }
    for (let k = 0; k < number; k++) {
      const share2 = (sum === 0 ? exact[k] : exact[k] / sum) * (1 << PRECISION_BITS);
      weights[x * most + k] = Math.trunc(share2 < 0 ? share2 - 0.5 : share2 + 0.5);
    }
    first[x] = low;
    count[x] = number;
  }
  return { first, count, weights, most };
}
function nearest({ data, width: given, height: rows, channels }, width, height) {
  const across = places(given, width);
  const down = places(rows, height);
  const result = new Uint8Array(width * height * channels);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (down[y] * given + across[x]) * channels;
      for (let channel = 0; channel < channels; channel++) result[to++] = data[from + channel];
    }
  }
  return { data: result, width, height, channels };
}
function places(given, wanted) {
  const scale = given / wanted;
  const found = new Int32Array(wanted);
  for (let i = 0, place = scale * 0.5; i < wanted; i++, place += scale) found[i] = Math.min(given - 1, Math.trunc(place));
  return found;
}
function clipped(sum) {
  const level = sum >> PRECISION_BITS;
  return level < 0 ? 0 : level > 255 ? 255 : level;
}
function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}
function bicubic(signed) {
  const a = -0.5;
  const x = Math.abs(signed);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// src/preprocess.js
var LARGEST_PX2 = 2 ** 30;
function preprocess(image, record) {
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
  if (size.includes(0) || size[0] * size[1] > LARGEST_PX2) {
    const got = `${given.height} x ${given.width} px, which would become ${size[0]} x ${size[1]} px`;
    throw new EncMixerError("image", "sides that can be brought to the model's input size", got, "crop it first");
  }
  const pixels = toChannels(given, channels);
  const fill = plain.crop_mode === "border" ? plain.mean.map((mean) => clamped(rounded(255 * mean))) : Array(channels).fill(0);
  const resized = size[0] === pixels.height && size[1] === pixels.width ? pixels : resize(pixels, size[1], size[0], plain.interpolation);
  return centre(resized, height, width, fill);
}
function resizedTo(image, { input_size: [, height, width], crop_pct: share2, crop_mode: mode }) {
  const scaled = [Math.floor(height / share2), Math.floor(width / share2)];
  const ratios = [image.height / scaled[0], image.width / scaled[1]];
  if (mode === "squash") return scaled;
  if (mode === "border") return divided(image, Math.max(...ratios));
  return scaled[0] === scaled[1] ? shorterSide(image, scaled[0]) : divided(image, Math.min(...ratios));
}
function shorterSide({ height, width }, side) {
  const longer = Math.trunc(side * Math.max(height, width) / Math.min(height, width));
  return width <= height ? [longer, side] : [side, longer];
}
function divided({ height, width }, ratio) {
  return [rounded(height / ratio), rounded(width / ratio)];
}
function centre(image, height, width, fill) {
  const { data, channels } = image;
  const [top, left] = [begin(image.height, height), begin(image.width, width)];
  const result = new Uint8Array(height * width * channels);
  for (let i = 0; i < result.length; i++) result[i] = fill[i % channels];
  const [first, last] = [Math.max(0, -left), Math.min(width, image.width - left)];
  for (let y = Math.max(0, -top); y < Math.min(height, image.height - top); y++) {
    const row = ((y + top) * image.width + left) * channels;
    result.set(data.subarray(row + first * channels, row + last * channels), (y * width + first) * channels);
  }
  return { data: result, width, height, channels };
}
function begin(given, wanted) {
  const missing = Math.max(0, wanted - given);
  return rounded((given + missing - wanted) / 2) - Math.floor(missing / 2);
}
function rounded(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest < 0.5 || rest === 0.5 && low % 2 === 0 ? low : low + 1;
}
function clamped(level) {
  return Math.min(255, Math.max(0, level));
}

// src/animations.js
var [EXTENSION, PICTURE, END] = [33, 44, 59];
function isGif(bytes) {
  return /^GIF8[79]a$/.test(latin1(bytes.subarray(0, 6)));
}
function isWebp(bytes) {
  return latin1(bytes.subarray(0, 4)) === "RIFF" && latin1(bytes.subarray(8, 12)) === "WEBP";
}
function framesOfGif(bytes, where) {
  const colours = (flags) => flags & 128 ? 3 << (flags & 7) + 1 : 0;
  let frames = 0;
  for (let at = 13 + colours(bytes[10]); at < bytes.length; ) {
    const kind = bytes[at];
    if (kind === END) return frames;
    if (kind !== EXTENSION && kind !== PICTURE) return frames;
    if (kind === PICTURE) frames++;
    at += kind === PICTURE ? 11 + colours(bytes[at + 9]) : 2;
    while (bytes[at]) at += 1 + bytes[at];
    at++;
  }
  if (frames === 0) throw damaged(where, "it is truncated");
  return frames;
}
function readWebp(bytes, where) {
  const view = viewOf(bytes);
  if (bytes.length < 8 + view.getUint32(4, true)) throw damaged(where, "it is truncated");
  const file = bytes.slice();
  let [frames, exif, xmp] = [
    0,
    /** @type {Uint8Array | undefined} */
    void 0,
    /** @type {Uint8Array | undefined} */
    void 0
  ];
  for (let at = 12; at + 8 <= bytes.length; ) {
    const [kind, size] = [latin1(bytes.subarray(at, at + 4)), view.getUint32(at + 4, true)];
    const body = bytes.subarray(at + 8, at + 8 + size);
    if (kind === "ANMF") frames++;
    if (kind === "EXIF") exif = body;
    if (kind === "XMP ") xmp = body;
    if (kind === "EXIF" || kind === "XMP ") file.set([115, 107, 105, 112], at);
    at += 8 + size + (size & 1);
  }
  return { frames, orientation: orientationIn({ exif, xmp }), file };
}

// src/canvas.js
var KNOWN_PX = 64;
var HEVC = /^....ftyp(.{4})*?(hei[cxms]|hev[cx])/s;
async function decoded(parts, where) {
  if (typeof createImageBitmap !== "function") {
    throw new EncMixerError(where, "a PNG, outside of a browser", "another format", "convert it to PNG first");
  }
  const options = (
    /** @type {const} */
    { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" }
  );
  const file = joined(parts);
  const bitmap = await createImageBitmap(new Blob([
    /** @type {BlobPart} */
    file
  ]), options).catch(() => {
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
function refuseNoise(where) {
  const context = contextOf(KNOWN_PX, KNOWN_PX, where);
  const drawn = context.createImageData(KNOWN_PX, KNOWN_PX);
  for (let i = 0; i < drawn.data.length; i++) drawn.data[i] = i % 4 === 3 ? 255 : i * 2654435761 >>> 24;
  context.putImageData(drawn, 0, 0);
  const { data } = context.getImageData(0, 0, KNOWN_PX, KNOWN_PX, { colorSpace: "srgb" });
  if (drawn.data.some((level, i) => level !== data[i])) {
    const remedy = "save the photo as PNG, which is read without a canvas, or allow this page to read its canvas";
    throw new EncMixerError(where, "a canvas that returns the pixels drawn on it", "noise, against fingerprinting", remedy);
  }
}
function contextOf(width, height, where) {
  const canvas = typeof OffscreenCanvas === "function" ? new OffscreenCanvas(width, height) : typeof document === "object" && Object.assign(document.createElement("canvas"), { width, height });
  const settings = (
    /** @type {const} */
    { colorSpace: "srgb", willReadFrequently: true }
  );
  const context = (
    /** @type {any} */
    (canvas || void 0)?.getContext("2d", settings) ?? null
  );
  if (context === null) throw new EncMixerError(where, "a canvas to read the image with", "none", "save the photo as PNG, or try another browser");
  return context;
}
function unknown(bytes, where) {
  const head = String.fromCharCode(...bytes.subarray(0, 64));
  if (HEVC.test(head)) return new EncMixerError(where, "an image that this browser reads", "HEIC", "convert it to JPEG or PNG first");
  return new EncMixerError(where, "an image", "no format that this browser knows, or a damaged file", "check the file");
}
function hasAlpha(data) {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return true;
  return false;
}

// src/jpeg.js
var COMMENT = `${KEYWORD}:`;
var [COM, APP1, APP2, SCAN, END2, FILL] = [254, 225, 226, 218, 217, 255];
var [BASELINE, EXTENDED] = [192, 193];
var NO_FRAMES = [196, 200, 204];
var PICTURES = 45057;
var LONGEST_COMMENT = 1 << 12;
var [EXIF, XMP2, MPF] = ["Exif\0\0", "http://ns.adobe.com/xap/1.0/\0", "MPF\0"];
function isJpeg(bytes) {
  return bytes[0] === 255 && bytes[1] === 216 && bytes[2] === 255;
}
function readJpeg(bytes, where) {
  const segments = (
    /** @type {Segment[]} */
    []
  );
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 255) {
    const marker = bytes[at + 1];
    if (marker === FILL || marker === 1 || marker >= 208 && marker <= 216) {
      at += marker === FILL ? 1 : 2;
      continue;
    }
    const end = at + 2 + (bytes[at + 2] << 8) + bytes[at + 3];
    segments.push({ marker, data: bytes.subarray(at + 4, end), start: at, end });
    at = end;
    if (marker === SCAN) break;
  }
  const comments = segments.filter(({ marker }) => marker === COM).map(({ data }) => data);
  for (; ; at++) {
    at = bytes.indexOf(255, at);
    if (at < 0 || at + 1 >= bytes.length) throw damaged(where, "it is truncated");
    if (bytes[at + 1] === END2) break;
    if (bytes[at + 1] === COM) comments.push(bytes.subarray(at + 4, at + 2 + Math.min((bytes[at + 2] << 8) + bytes[at + 3], LONGEST_COMMENT)));
  }
  return { bytes, segments, comments };
}
function recordIn({ comments }) {
  const found = comments.filter((data) => begins(data, COMMENT)).at(-1);
  return found && new TextDecoder().decode(found.subarray(COMMENT.length));
}
function orientationOf({ segments }) {
  const parts = (
    /** @param {string} prefix */
    (prefix) => segments.filter(({ marker, data }) => marker === APP1 && begins(data, prefix)).map(({ data }) => data.subarray(prefix.length))
  );
  return orientationIn({ exif: parts(EXIF)[0], xmp: parts(XMP2).at(-1) });
}
function withoutOrientation({ bytes, segments }) {
  const parts = [bytes.subarray(0, 2), ...segments.filter(({ marker }) => marker !== APP1).map(({ start, end }) => bytes.subarray(start, end))];
  return [...parts, bytes.subarray(segments.at(-1)?.end ?? 2)];
}
function refuseChanged({ segments }, channels, where) {
  const remedy = "take the file that encmixer wrote, or save it as baseline JPEG with 4:4:4 sampling";
  const frame = segments.find(({ marker }) => marker >= BASELINE && marker < BASELINE + 16 && !NO_FRAMES.includes(marker));
  if (frame === void 0) throw new EncMixerError(where, "a JPEG", "a damaged one", "take another copy");
  const factors = Array.from({ length: frame.data[5] }, (_, i) => frame.data[7 + 3 * i]);
  if (new Set(factors).size > 1) {
    throw new EncMixerError(where, "a JPEG whose colours are not subsampled (4:4:4)", "subsampled ones", remedy);
  }
  if (frame.marker !== BASELINE && frame.marker !== EXTENDED) {
    throw new EncMixerError(where, "a baseline JPEG, as encmixer writes it", "another one, which was saved again", remedy);
  }
  const pictures = segments.filter(({ marker, data }) => marker === APP2 && begins(data, MPF)).map(({ data }) => tagIn(data.subarray(MPF.length), PICTURES) ?? 1);
  if (pictures.some((count) => count > 1)) {
    throw new EncMixerError(where, "a ciphertext PNG or JPEG", "MPO: a JPEG with a second picture", "give the file that encmixer wrote");
  }
  if (factors.length !== channels) {
    throw new EncMixerError(where, `a JPEG of ${channels} channels`, `${factors.length} channels`, "it is not a ciphertext of this model");
  }
}
function begins(data, prefix) {
  return latin1(data.subarray(0, prefix.length)) === prefix;
}

// src/read_image.js
async function readImage(file, options) {
  const where = whereOf(options, "image");
  const bytes = await bytesOf(file, where);
  if (isPng(bytes)) {
    const { image, orientation } = await pngPixels(bytes, where);
    return image.imageRecord === void 0 ? upright(image, orientation) : image;
  }
  if (isJpeg(bytes)) {
    const jpeg = readJpeg(bytes, where);
    if (recordIn(jpeg) !== void 0) {
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
async function readCiphertext(file, model, options) {
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
  const imageRecord = text === void 0 ? void 0 : readImageRecord(text, where, LOSSY);
  const image = await decoded(withoutOrientation(jpeg), where);
  const channels = record.in_chans;
  const data = new Uint8Array(image.width * image.height * channels);
  for (let from = 0, to = 0; to < data.length; from += 4, to += channels) {
    for (let channel = 0; channel < channels; channel++) data[to + channel] = image.data[from + channel];
  }
  return { data, width: image.width, height: image.height, channels, imageRecord };
}
function refuseFrames(frames, where) {
  if (frames > 1) throw new EncMixerError(where, "a still image", `${frames} frames`, "extract the frame you mean");
}
export {
  EncMixerError,
  decodePng,
  encodePng,
  fingerprint,
  keyText,
  makeCipher,
  newKey,
  preprocess,
  readCiphertext,
  readImage,
  readKey,
  readRecord,
  toImageData
};
