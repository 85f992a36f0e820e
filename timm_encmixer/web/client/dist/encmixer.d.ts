/**
 * encmixer: encrypts images in the browser for models that timm-encmixer encrypted.
 *
 * The module sends nothing and stores nothing. Only `keyText` gives a key's text out.
 */

/** Every error of this module. Its message is one line: "where: expected ..., got ...; remedy". It never holds a key. */
export declare class EncMixerError extends Error {
  constructor(where: string, expected: string, got: string, remedy: string);
  /** Argument, field or file at fault. */
  readonly where: string;
  /** What would have been right. */
  readonly expected: string;
  /** What was there instead, without secrets. */
  readonly got: string;
  /** What the user can do about it. */
  readonly remedy: string;
}

/** 32 secret bytes, which no property shows. `String(key)` and JSON show the fingerprint; a structured clone holds no bytes. */
export interface SecretKey {
  /** 16 hex digits that name the key in public. */
  readonly fingerprint: string;
}

/** How the plain model wants its images, as timm names it. */
export interface PlainPreprocessing {
  /** Channels, and height and width in pixels. */
  readonly input_size: readonly [number, number, number];
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly interpolation: "nearest" | "bilinear" | "bicubic" | "box" | "hamming" | "lanczos";
  readonly crop_pct: number;
  readonly crop_mode: "center" | "squash" | "border";
  readonly test_input_size: readonly [number, number, number] | null;
  readonly test_crop_pct: number | null;
}

/** The public record of an encrypted model (docs/format.md, "Record"); frozen. Fields without a value are null. */
export interface ModelRecord {
  readonly version: 1 | 2 | 3 | 4 | 5;
  readonly cipher: string;
  /** Side of a block, in pixels. */
  readonly patch_size: number;
  readonly in_chans: number;
  /** Of the key, 16 hex digits. */
  readonly fingerprint: string;
  readonly stem: string | null;
  readonly constant: string | null;
  /** Rows and columns of blocks, where the cipher permutes them. */
  readonly grid: readonly [number, number] | null;
  readonly positions: string | null;
  readonly base_architecture: string | null;
  readonly plain: PlainPreprocessing | null;
}

/** The record that a ciphertext image carries (docs/format.md, "Ciphertext images"). */
export interface ImageRecord {
  /** 1 in PNG, 2 in JPEG. */
  readonly version: 1 | 2;
  readonly cipher: string;
  readonly patch_size: number;
  /** Height and width, in pixels. */
  readonly size: readonly [number, number];
  readonly fingerprint: string;
  /** CRC-32 of the pixels, 8 hex digits: against accidents, not attackers. Not in JPEG, whose pixels change with each saving. */
  readonly digest?: string;
}

/** 8-bit pixels, row by row, channels last. The array may be of another frame of the page. */
export interface Pixels {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. */
  readonly channels: number;
  /** Of a ciphertext that was read from a file which carries one. */
  readonly imageRecord?: ImageRecord;
}

/** What functions take as an image: `Pixels`, or a page's ImageData, which is RGBA. Alpha is dropped, not blended. */
export type ImageLike = Pixels | ImageData;

/** Where an argument came from, for messages: a file's name, for example. */
export interface Where {
  where?: string;
}

/** A key under a record. It takes pixels as they are; `preprocess` brings a photo to the model's size. Inputs are not changed. */
export interface ImageCipher {
  readonly record: ModelRecord;
  /**
   * Return the ciphertext: the same bytes as those of the Python package.
   *
   * @throws {EncMixerError} A size that does not fit, other channels, or a ciphertext in place of a plain image.
   */
  encrypt(image: ImageLike): Pixels;
  /**
   * Return the plain image, bit for bit. A ciphertext with `imageRecord` must be of this key and cipher, and whole. It is taken by its
   * pixels: grey ones may be greyscale where the model has three channels.
   *
   * @throws {EncMixerError} It is not, or its size or colours do not fit.
   */
  decrypt(image: ImageLike): Pixels;
}

/**
 * Read a key file.
 *
 * @param file The file's text or bytes.
 * @throws {EncMixerError} Not a key: foreign, truncated, mistyped or of an unknown version.
 */
export declare function readKey(file: string | Uint8Array, options?: Where): SecretKey;

/** Return a new key from the browser's cryptographic random source. */
export declare function newKey(): SecretKey;

/** Return the text of a key's file, with the secret in it: to save, where the user asks for that. */
export declare function keyText(key: SecretKey): string;

/** Return a key's public fingerprint, 16 hex digits. */
export declare function fingerprint(key: SecretKey): string;

/**
 * Read a record, versions 1 to 5.
 *
 * @param source A record, or the config.json of an encrypted model; as JSON text or as an object. Only text tells 4.0 from 4: it is
 *   refused where a whole number belongs, as in Python.
 * @throws {EncMixerError} No record, a malformed one, one of an unknown version, or a config.json whose copies of it differ.
 */
export declare function readRecord(source: object | string, options?: Where): ModelRecord;

/**
 * Derive the cipher. Takes some milliseconds: make it once.
 *
 * @throws {EncMixerError} The record names another key, or the cipher is `orthogonal`, whose ciphertext is no image.
 */
export declare function makeCipher(key: SecretKey, record: ModelRecord): ImageCipher;

/**
 * Return what is about to be encrypted: the image after the plain model's resizing and crop, as Pillow and timm do it.
 *
 * @param image Upright, as `readImage` returns it.
 * @throws {EncMixerError} A ciphertext, or an image too long and thin to be brought to the model's size.
 */
export declare function preprocess(image: ImageLike, record: ModelRecord): Pixels;

/**
 * Read a plain image file, upright: EXIF's orientation is applied, or XMP's where EXIF has none.
 *
 * PNG is decoded here, so it also works outside of a browser. The browser decodes all other formats, without colour management.
 * docs/images.md has the table of what is read, and how.
 *
 * @throws {EncMixerError} No image, a damaged or animated one, a JPEG ciphertext, transparent pixels in another format than PNG, more
 *   than 89,478,485 pixels, or a browser whose canvas returns noise.
 */
export declare function readImage(file: Blob | ArrayBuffer | Uint8Array, options?: Where): Promise<Pixels>;

/**
 * Return the bytes of a PNG of 8 bits, grey or RGB, not compressed.
 *
 * @param options.record The model's record, for a ciphertext: the file then says what it is, as the Python package's do.
 */
export declare function encodePng(image: ImageLike, options?: { record?: ModelRecord }): Uint8Array<ArrayBuffer>;

/**
 * Read a PNG without changing its pixels: no colour management, no premultiplied alpha, not turned. 16 bits become 8, palettes RGB.
 *
 * @throws {EncMixerError} No PNG, a damaged or animated one, or one of more than 89,478,485 pixels.
 */
export declare function decodePng(file: ArrayBuffer | Uint8Array, options?: Where): Promise<Pixels>;

/**
 * Read a ciphertext file for `decrypt`: PNG, or JPEG where the record's cipher allows it, which the browser decodes.
 *
 * @param record Of the model that it was encrypted for.
 * @throws {EncMixerError} No such file, a damaged or animated one, or a JPEG of other channels than the model's, or one that other
 *   software has written with subsampled colours or progressive.
 */
export declare function readCiphertext(file: Blob | ArrayBuffer | Uint8Array, record: ModelRecord, options?: Where): Promise<Pixels>;

/** Return the image as a page's ImageData, to show it on a canvas. Do not encrypt what comes back from a canvas: it may differ. */
export declare function toImageData(image: ImageLike): ImageData;
