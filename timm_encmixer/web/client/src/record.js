/** The public record of an encryption, versions 1 to 5, and the same in a model's config.json. Format: docs/format.md, "Record". */

import TABLE from "./ciphers.json" with { type: "json" };
import { EncMixerError, shown, whereOf } from "./errors.js";
import { parseExact, plainNumbers } from "./json.js";

const [FIRST_VERSION, LAST_VERSION] = [1, 5];
const CIPHERS = Object.keys(TABLE.ciphers);
const NOTE_PREFIX = "encmixer:";
const LARGEST_IMAGE = 2 ** 28; // numbers
const LARGEST_BLOCK = 2 ** 18; // numbers in a block, and blocks in an image
const LARGEST_MATRIX = 4096;
const REMEDY = "take the record from an artefact that timm-encmixer wrote";

/**
 * @typedef {import("./api").ModelRecord} ModelRecord
 * @typedef {{ [name: string]: unknown }} Json
 * @typedef {{ expected: string, fits: (value: any) => boolean, needed?: boolean, otherwise?: unknown }} Field
 */

/** @param {number} low @param {number} high */
const whole = (low, high) => (/** @type {unknown} */ value) =>
  Number.isInteger(value) && /** @type {number} */ (value) >= low && /** @type {number} */ (value) <= high;
/** @param {number} length */
const sides = (length) => (/** @type {unknown} */ value) => Array.isArray(value) && value.length === length && value.every(whole(1, 65536));
/** @param {unknown} value */
const name = (value) => typeof value === "string" && value.length >= 1 && [...value].length <= 1024;
/** @param {unknown} value */
const share = (value) => within(plainNumbers(value), 0.01, 2);
/** @param {unknown} value */
const numbers = (value) => Array.isArray(value) && value.every((one) => within(plainNumbers(one), -1e6, 1e6));
/** @param {unknown} value @param {number} low @param {number} high */
const within = (value, low, high) => typeof value === "number" && value >= low && value <= high;
/** @param {string[]} known */
const oneOf = (known) => (/** @type {unknown} */ value) => typeof value === "string" && known.includes(value);

const SIZE = "channels, height and width, whole numbers from 1 to 65536";
/** @type {{ [name: string]: Field }} */
const PLAIN = {
  input_size: { expected: SIZE, fits: sides(3), needed: true },
  mean: { expected: "numbers from -1000000 to 1000000", fits: numbers, needed: true },
  std: { expected: "numbers from -1000000 to 1000000", fits: numbers, needed: true },
  interpolation: {
    expected: "a filter of timm's",
    fits: oneOf(["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]),
    otherwise: "bicubic",
  },
  crop_pct: { expected: "a share from 0.01 to 2", fits: share, otherwise: 0.875 },
  crop_mode: { expected: "a crop mode of timm's", fits: oneOf(["center", "squash", "border"]), otherwise: "center" },
  test_input_size: { expected: SIZE, fits: sides(3), otherwise: null },
  test_crop_pct: { expected: "a share from 0.01 to 2", fits: share, otherwise: null },
};
/** @type {{ [name: string]: Field }} */
const RECORD = {
  version: { expected: "a whole number", fits: whole(FIRST_VERSION, LAST_VERSION), needed: true },
  cipher: { expected: `one of ${CIPHERS.join(", ")}`, fits: oneOf(CIPHERS), otherwise: TABLE.default },
  patch_size: { expected: "a whole number from 2 to 32", fits: whole(2, 32), needed: true },
  in_chans: { expected: "a whole number from 1 to 1024", fits: whole(1, 1024), otherwise: 3 },
  fingerprint: {
    expected: "16 hexadecimal digits",
    fits: (value) => typeof value === "string" && /^[0-9a-f]{16}$/.test(value),
    otherwise: null,
  },
  stem: { expected: "a module's name", fits: name, otherwise: null },
  constant: { expected: "a tensor's name", fits: name, otherwise: null },
  grid: { expected: "two whole numbers from 1 to 65536", fits: sides(2), otherwise: null },
  positions: { expected: "a tensor's name", fits: name, otherwise: null },
  base_architecture: { expected: "a name of timm's", fits: name, otherwise: null },
  plain: { expected: "the plain model's preprocessing", fits: isObject, otherwise: null },
};

/** @type {typeof import("./api").readRecord} */
export function readRecord(source, options) {
  const value = typeof source === "string" ? parsed(source, whereOf(options, "record")) : source;
  if (isObject(value) && "architecture" in value) return ofConfig(value, whereOf(options, "config.json"));
  return ofRecord(value, whereOf(options, "record"));
}

/** @type {WeakSet<object>} */
const KNOWN = new WeakSet(); // that were read here

/**
 * Check what a caller gives as a record; one that `readRecord` returned is taken as it is.
 *
 * @param {unknown} value
 * @returns {ModelRecord}
 */
export function asRecord(value) {
  return isObject(value) && KNOWN.has(value) ? /** @type {any} */ (value) : ofRecord(value, "record");
}

/**
 * What is known of a record's cipher, from the package's table.
 *
 * @typedef {{ parts: string[], scrambles: boolean, exact: boolean, takes_jpeg: boolean, side_multiple: number, keeps_normalisation: boolean, since: number }} CipherFacts
 * @param {ModelRecord} record
 * @returns {CipherFacts}
 */
export function factsOf(record) {
  return /** @type {{ [name: string]: CipherFacts }} */ (TABLE.ciphers)[record.cipher];
}

/**
 * The record of a config.json: at its top level, and in the notes of `pretrained_cfg`; they must agree.
 *
 * @param {Json} config
 * @param {string} where
 */
function ofConfig(config, where) {
  const cfg = isObject(config.pretrained_cfg) ? config.pretrained_cfg : config; // timm's first form had one level
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

/**
 * @param {unknown} value
 * @param {string} where
 * @returns {ModelRecord}
 */
function ofRecord(value, where) {
  if (!isObject(value)) throw new EncMixerError(where, "a JSON object", kindOf(value), REMEDY);
  if (!whole(FIRST_VERSION, LAST_VERSION)(value.version)) {
    throw new EncMixerError(`${where}: version`, `${FIRST_VERSION} to ${LAST_VERSION}`, shown(value.version), "upgrade encmixer");
  }
  const plain = value.plain === undefined || value.plain === null ? null : ofPlain(value.plain, `${where}: plain`);
  const record = /** @type {any} */ ({ ...fields(RECORD, value, where, `${where}: `), plain });
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
    throw new EncMixerError(`${where}: fingerprint`, "the key's fingerprint", "none", REMEDY); // or a wrong key would go unnoticed
  }
  KNOWN.add(record);
  return deepFrozen(record);
}

/**
 * @param {any} record
 * @param {CipherFacts} facts
 * @param {string} where
 */
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

/**
 * @param {unknown} value
 * @param {string} where
 * @returns {import("./api").PlainPreprocessing}
 */
function ofPlain(value, where) {
  const plain = /** @type {any} */ (fields(PLAIN, value, where, `${where}.`));
  const [channels, height, width] = plain.input_size;
  if ((channels * height * width) / plain.crop_pct ** 2 > LARGEST_IMAGE) {
    const got = `${plain.input_size.join(" x ")} / ${plain.crop_pct}`;
    throw new EncMixerError(`${where}.input_size`, `up to ${LARGEST_IMAGE} values before the crop`, got, REMEDY);
  }
  for (const [field, low] of /** @type {[string, number][]} */ ([["mean", -Infinity], ["std", 0]])) {
    if (plain[field].length !== channels || !plain[field].every((/** @type {number} */ one) => one > low)) {
      const expected = `${channels} numbers${field === "std" ? " above 0" : ""}`;
      throw new EncMixerError(`${where}.${field}`, expected, shown(plain[field]), `give one ${field} per input channel`);
    }
  }
  return plain;
}

/**
 * Return the fields of a JSON object, all of them, in the order of their table; null where one has no value.
 *
 * @param {{ [name: string]: Field }} table
 * @param {unknown} value
 * @param {string} where
 * @param {string} prefix Of a field's name in messages.
 * @returns {Json}
 */
function fields(table, value, where, prefix) {
  if (!isObject(value)) throw new EncMixerError(where, "a JSON object", kindOf(value), REMEDY);
  const unknown = Object.keys(value).filter((one) => !Object.hasOwn(table, one)).sort()[0];
  const missing = Object.keys(table).filter((one) => table[one].needed && !Object.hasOwn(value, one)).sort()[0];
  if (unknown !== undefined || missing !== undefined) {
    const got = unknown !== undefined ? shown(unknown) : `no ${missing}`;
    throw new EncMixerError(where, `the fields ${Object.keys(table).sort().join(", ")}`, got, REMEDY);
  }
  /** @type {Json} */
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

/**
 * @param {string} text
 * @param {string} where
 */
function parsed(text, where) {
  try {
    return parseExact(text);
  } catch {
    throw new EncMixerError(where, "JSON", "text that is not valid JSON", REMEDY);
  }
}

/**
 * @param {unknown} value
 * @returns {value is Json}
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {unknown} value */
function kindOf(value) {
  return value === null || value === undefined ? "none" : Array.isArray(value) ? "a list" : typeof value;
}

/**
 * @template T
 * @param {T} value
 * @returns {T}
 */
function deepFrozen(value) {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(deepFrozen);
    Object.freeze(value);
  }
  return value;
}
