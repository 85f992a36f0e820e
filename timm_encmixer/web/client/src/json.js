/** JSON whose whole numbers are told from others: 4 is one, 4.0 and 4e0 are not, as in Python. */

const MARK = "not written as a whole number";

/** A number that is not written as a whole one. */
class Written extends Number {
  /** @param {string} text */
  constructor(text) {
    super(text);
    this.text = text;
  }

  toString() {
    return this.text;
  }
}

/**
 * Parse JSON. A number with a fraction or an exponent becomes an object, which `plainNumbers` makes a number again.
 *
 * @param {string} text
 * @returns {unknown}
 * @throws {SyntaxError} It is not valid JSON.
 */
export function parseExact(text) {
  JSON.parse(text); // so that what is changed now is valid JSON
  const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;
  const marked = text.replace(tokens, (token) => (token[0] === '"' || /^-?\d+$/.test(token) ? token : `{"${MARK}":"${token}"}`));
  return JSON.parse(marked, (_, value) => {
    const isNumber = typeof value === "object" && value !== null && !Array.isArray(value) && typeof value[MARK] === "string";
    return isNumber ? new Written(value[MARK]) : value;
  });
}

/**
 * @param {unknown} value A number or a list of numbers of `parseExact`, or anything else.
 * @returns {any} The same with usual numbers.
 */
export function plainNumbers(value) {
  if (Array.isArray(value)) return value.map(plainNumbers);
  return value instanceof Number ? Number(value) : value;
}
