/** From a key and a record to the keyed map of a block, and of the blocks. Format: docs/format.md, "Derivation" and "Ciphers". */

import { chacha20 } from "@noble/ciphers/chacha.js";

import { derive } from "./key.js";
import TABLE from "./ciphers.json" with { type: "json" };
import { factsOf } from "./record.js";

const WORDS = 2 ** 32;
const CHUNK_BLOCKS = 256; // of 64 bytes, of the stream, at a time
const SUB_BLOCK_PX = 8;

/**
 * The map u[i] = v[source[i]], reflected (255 - x) where mask[i] is 255; block b of the result is made of block order[b].
 *
 * @typedef {{ source: Int32Array, mask: Uint8Array, order: Int32Array | null }} BlockMap
 */

/** The ChaCha20 stream of one seed as numbers, from counter 0 and with nonce 0, read from front to back. */
class KeyStream {
  /** @param {Uint8Array} seed */
  constructor(seed) {
    this.seed = seed;
    this.counter = 0;
    this.words = new DataView(new ArrayBuffer(0));
    this.next = 0;
  }

  word() {
    if (this.next === this.words.byteLength) {
      const stream = chacha20(this.seed, new Uint8Array(12), new Uint8Array(64 * CHUNK_BLOCKS), undefined, this.counter);
      this.words = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
      this.counter += CHUNK_BLOCKS;
      this.next = 0;
    }
    const word = this.words.getUint32(this.next, true);
    this.next += 4;
    return word;
  }

  /** @param {number} bound A uniform number below it: words past the last whole multiple are thrown away. */
  below(bound) {
    const limit = WORDS - (WORDS % bound);
    for (;;) {
      const word = this.word();
      if (word < limit) return word % bound;
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
}

/**
 * Derive each part of `a+b` from a purpose of its own and compose them, a first.
 *
 * @param {import("./api").SecretKey} key
 * @param {import("./api").ModelRecord} record Of a cipher with uint8 ciphertext.
 * @returns {BlockMap}
 */
export function deriveMap(key, record) {
  const { cipher, in_chans: channels, patch_size: patch, grid } = record;
  const size = channels * patch ** 2;
  /** @type {BlockMap} */
  let whole = { source: identity(size), mask: new Uint8Array(size), order: null };
  for (const part of factsOf(record).parts) {
    const purpose = `cipher=${cipher}/part=${part}/C=${channels}/P=${patch}`;
    if (/** @type {{ [part: string]: { moves: string } }} */ (TABLE.parts)[part].moves === "blocks") {
      const [rows, columns] = /** @type {readonly [number, number]} */ (grid); // readRecord has seen to it
      const order = new KeyStream(derive(key, `${purpose}/grid=${rows}x${columns}`)).permutation(rows * columns);
      whole = { ...whole, order };
    } else {
      whole = then(whole, PARTS[part](new KeyStream(derive(key, purpose)), channels, patch));
    }
  }
  return whole;
}

/**
 * Return the map that undoes another one.
 *
 * @param {BlockMap} map
 * @returns {BlockMap}
 */
export function inverse({ source, mask, order }) {
  const back = inverted(source);
  return { source: back, mask: mask.map((_, i) => mask[back[i]]), order: order && inverted(order) };
}

/** @type {{ [part: string]: (stream: KeyStream, channels: number, patch: number) => BlockMap }} */
const PARTS = { shuffle, negpos, "shuffle-planes": shufflePlanes, etc };

/** @param {KeyStream} stream @param {number} channels @param {number} patch @returns {BlockMap} */
function shuffle(stream, channels, patch) {
  const size = channels * patch ** 2;
  return { source: stream.permutation(size), mask: new Uint8Array(size), order: null };
}

/** @param {KeyStream} stream @param {number} channels @param {number} patch @returns {BlockMap} */
function shufflePlanes(stream, channels, patch) {
  const plane = patch ** 2;
  const source = new Int32Array(channels * plane);
  for (let channel = 0; channel < channels; channel++) {
    source.set(stream.permutation(plane).map((position) => channel * plane + position), channel * plane);
  }
  return { source, mask: new Uint8Array(source.length), order: null };
}

/** @param {KeyStream} stream @param {number} channels @param {number} patch @returns {BlockMap} */
function negpos(stream, channels, patch) {
  const size = channels * patch ** 2;
  const mask = new Uint8Array(size);
  for (const position of stream.permutation(size).subarray(0, Math.floor(size / 2))) mask[position] = 255;
  return { source: identity(size), mask, order: null };
}

/** @param {KeyStream} stream @param {number} channels @param {number} patch @returns {BlockMap} */
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

  /** @param {number} channel @param {number} subBlock @param {number} row @param {number} column */
  function place(channel, subBlock, row, column) {
    const y = Math.floor(subBlock / side) * SUB_BLOCK_PX + row;
    return (channel * patch + y) * patch + (subBlock % side) * SUB_BLOCK_PX + column;
  }
}

/** @param {BlockMap} first @param {BlockMap} second @returns {BlockMap} */
function then(first, second) {
  return {
    source: second.source.map((position) => first.source[position]),
    mask: second.mask.map((bits, i) => bits ^ first.mask[second.source[i]]),
    order: first.order,
  };
}

/** @param {number} size */
function identity(size) {
  return Int32Array.from({ length: size }, (_, i) => i);
}

/** @param {Int32Array} order */
function inverted(order) {
  const back = new Int32Array(order.length);
  order.forEach((from, to) => {
    back[from] = to;
  });
  return back;
}
