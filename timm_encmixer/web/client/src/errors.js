/** The one error of this module, and how a value is shown in its message. */

export class EncMixerError extends Error {
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
}

/**
 * Return the name for messages that a caller has given, or another one.
 *
 * @param {unknown} options
 * @param {string} otherwise
 */
export function whereOf(options, otherwise) {
  const where = /** @type {any} */ (options)?.where;
  return typeof where === "string" ? where : otherwise;
}

/** @param {string} where @param {string} reason */
export function damaged(where, reason) {
  return new EncMixerError(where, "a whole image", `a damaged one (${reason})`, "take another copy");
}

/** @param {string} text */
function oneLine(text) {
  return text.split(/\s+/).filter(Boolean).join(" ");
}

/**
 * Return a public value as a message shows it.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function shown(value) {
  if (value === undefined || value === null) return "none";
  if (typeof value === "string") return `'${value}'`.slice(0, 100);
  try {
    const isObject = typeof value === "object" && !(value instanceof Number);
    return ((isObject ? JSON.stringify(value) : String(value)) ?? "an object").slice(0, 100);
  } catch {
    return "an object"; // that JSON cannot hold
  }
}
