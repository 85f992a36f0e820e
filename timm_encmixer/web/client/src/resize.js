/**
 * Pillow's resizing of 8-bit images, step by step, so that the results are the same bytes. Source: src/libImaging of Pillow 13,
 * Resample.c (filters with antialiasing, in fixed-point arithmetic) and Geometry.c (nearest).
 */

const PRECISION_BITS = 32 - 8 - 2;
const HALF = 1 << (PRECISION_BITS - 1);

/**
 * @typedef {import("./api").Pixels} Pixels
 * @typedef {{ support: number, weight: (x: number) => number }} Filter
 */

/** @type {{ [name: string]: Filter }} */
const FILTERS = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: {
    support: 1,
    weight: (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(x * Math.PI))),
  },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/**
 * Resize an image.
 *
 * @param {Pixels} image
 * @param {number} width
 * @param {number} height
 * @param {string} interpolation A filter of the record.
 * @returns {Pixels}
 */
export function resize(image, width, height, interpolation) {
  if (interpolation === "nearest") return nearest(image, width, height);
  const filter = FILTERS[interpolation];
  const across = (/** @type {Pixels} */ given) => (width === given.width ? given : horizontal(given, width, filter));
  const down = (/** @type {Pixels} */ given) => (height === given.height ? given : vertical(given, height, filter));
  const shrinks = image.height - height;
  const isTall = shrinks > 0 && shrinks > 2 * (image.width - width); // Pillow before 13 goes across first always
  return isTall ? across(down(image)) : down(across(image));
}

/** @param {Pixels} image @param {number} width @param {Filter} filter @returns {Pixels} */
function horizontal({ data, width: given, height, channels }, width, filter) {
  const { first, count, weights, most } = coefficients(given, width, filter);
  const result = new Uint8Array(width * height * channels);
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * given * channels;
    for (let x = 0; x < width; x++) {
      const begin = row + first[x] * channels;
      const end = begin + count[x] * channels;
      if (channels === 3) {
        let [red, green, blue] = [HALF, HALF, HALF];
        for (let from = begin, k = x * most; from < end; from += 3, k++) {
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
        for (let from = begin, k = x * most; from < end; from++, k++) grey += data[from] * weights[k];
        result[to++] = clipped(grey);
      }
    }
  }
  return { data: result, width, height, channels };
}

/** @param {Pixels} image @param {number} height @param {Filter} filter @returns {Pixels} */
function vertical({ data, width, height: given, channels }, height, filter) {
  const { first, count, weights, most } = coefficients(given, height, filter);
  const step = width * channels;
  const result = new Uint8Array(height * step);
  const sums = new Float64Array(step); // a row at a time, so that memory is read in its order
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

/**
 * Return for each place of the result the first place that it reads, how many, and their weights in fixed-point numbers.
 *
 * @param {number} given Length of the side before.
 * @param {number} wanted And after.
 * @param {Filter} filter
 */
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
    const centre = (x + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - reach + 0.5));
    const number = Math.min(given, Math.trunc(centre + reach + 0.5)) - low;
    let sum = 0;
    for (let k = 0; k < number; k++) {
      exact[k] = weight((k + low - centre + 0.5) * (1 / stretch));
      sum += exact[k];
    }
    for (let k = 0; k < number; k++) {
      const share = (sum === 0 ? exact[k] : exact[k] / sum) * (1 << PRECISION_BITS);
      weights[x * most + k] = Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    }
    first[x] = low;
    count[x] = number;
  }
  return { first, count, weights, most };
}

/** @param {Pixels} image @param {number} width @param {number} height @returns {Pixels} */
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

/** @param {number} given @param {number} wanted */
function places(given, wanted) {
  const scale = given / wanted;
  const found = new Int32Array(wanted);
  for (let i = 0, place = scale * 0.5; i < wanted; i++, place += scale) found[i] = Math.min(given - 1, Math.trunc(place)); // added up, as Pillow
  return found;
}

/** @param {number} sum */
function clipped(sum) {
  const level = sum >> PRECISION_BITS;
  return level < 0 ? 0 : level > 255 ? 255 : level;
}

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** @param {number} signed */
function bicubic(signed) {
  const a = -0.5;
  const x = Math.abs(signed);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}
