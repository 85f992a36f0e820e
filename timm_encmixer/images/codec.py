"""The pipeline of a client: image files in, PNG or JPEG out. Folders of images and data sets go through it alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from timm_encmixer.ciphers.formats import MODES, pixels_of
from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.errors import ImageError, SchemeError
from timm_encmixer.images.file_format import (
    DEFAULT_QUALITY,
    JPEG,
    JPEG_REASON,
    PNG,
    FileFormat,
    Pixels,
    encode_jpeg,
    png_encoder,
)
from timm_encmixer.images.image_record import ImageRecord, RecordWriter, check_ciphertext
from timm_encmixer.images.reading import ImageSource, open_ciphertext, open_plain
from timm_encmixer.images.transform import ClientTransform

ENCRYPT, DECRYPT = "encrypt", "decrypt"
CIPHERTEXT_LEVEL, PLAIN_LEVEL = 0, 1  # of PNG's compression: ciphertext hardly compresses (docs/adr/0008)
BATCH_IMAGES = 64
_GROUP_BYTES = 1 << 20  # of pixels to convert at a time: few enough to stay in the processor's cache

Result = bytes | ImageError


@dataclass(frozen=True)
class ImageCodec:
    """Turns encoded images into files of one format, a batch at a time.

    Args:
        decode: Image and its name to a uint8 array (H, W, C).
        transform: Batch of such arrays (N, H, W, C) to one of the same shape.
        encode: Array (H, W, C) to the bytes of a file.
        format: Of these files.
        jpeg_reason: Why they are no JPEG, where they are PNG.
    """

    decode: Callable[[ImageSource, str], Pixels]
    transform: Callable[[Pixels], Pixels]
    encode: Callable[[Pixels], bytes]
    format: FileFormat = PNG
    jpeg_reason: str = JPEG_REASON

    def __call__(self, images: Sequence[ImageSource], names: Sequence[str]) -> list[Result]:
        """Return a file for each image, or the error of one that cannot be converted.

        Raises:
            FileAccessError: A file cannot be read.
        """
        results: list[Result] = [b""] * len(images)
        waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}  # decoded images, by shape
        for index, (image, name) in enumerate(zip(images, names, strict=True)):
            try:
                pixels = self.decode(image, name)
            except ImageError as error:
                results[index] = error
                continue
            group = waiting.setdefault(pixels.shape, [])
            group.append((index, pixels))
            if len(group) * pixels.nbytes >= _GROUP_BYTES:
                self._convert(waiting.pop(pixels.shape), names, results)
        for group in waiting.values():
            self._convert(group, names, results)
        return results

    def _convert(self, group: Sequence[tuple[int, Pixels]], names: Sequence[str], results: list[Result]) -> None:
        """Put the results for decoded images of one shape in their places."""
        try:
            converted = self.transform(np.stack([pixels for _, pixels in group]))
        except ImageError as error:  # the size: it is the same for the whole group
            for index, _ in group:
                results[index] = ImageError(names[index], error.expected, error.got, error.remedy)
            return
        for (index, _), pixels in zip(group, converted, strict=True):
            try:
                results[index] = self.encode(pixels)
            except ImageError as error:
                results[index] = ImageError(names[index], error.expected, error.got, error.remedy)


def make_codec(
    action: str,
    cipher: ImageCipher,
    *,
    resize: bool = True,
    level: int | None = None,
    format: FileFormat = PNG,
    quality: int | None = None,
    strict: bool = False,
    unmarked: Callable[[str], None] = lambda name: None,
) -> ImageCodec:
    """Return the codec that encrypts or decrypts with a cipher.

    Args:
        action: ENCRYPT or DECRYPT.
        cipher: Of the model's record, with the plain preprocessing where it is to encrypt.
        resize: Bring plain images to the model's input; False keeps sizes that are multiples of the patch side.
        level: PNG's compression level; None takes 0 for ciphertext, 1 for plain images.
        format: Of ciphertext, as `find_format` gives it. Plain images are written as PNG.
        quality: JPEG's quality; None takes `DEFAULT_QUALITY`.
        strict: Refuse ciphertexts that carry no record of their own.
        unmarked: Called with the name of each ciphertext that carries none, and is decrypted as it is.

    Raises:
        SchemeError: A cipher without uint8 ciphertext, or channels that PNG does not have.
    """
    scheme = cipher.scheme
    if scheme.in_chans not in MODES:
        raise SchemeError("record: in_chans", "1 or 3 channels for PNG", f"{scheme.in_chans}", "encrypt tensors instead")
    if not scheme.exact:
        raise SchemeError("model", "a cipher with PNG ciphertext", scheme.cipher, "its ciphertext is float tensors")
    if action == DECRYPT:

        def ciphertext(source: ImageSource, name: str) -> Pixels:
            image = open_ciphertext(source, scheme.in_chans, where=name, jpeg=scheme.takes_jpeg)
            if not check_ciphertext(image, cipher, where=name, strict=strict):
                unmarked(name)
            return pixels_of(image, scheme.in_chans)

        encode = png_encoder(PLAIN_LEVEL if level is None else level)
        return ImageCodec(ciphertext, cipher.decrypt_batch, encode, jpeg_reason="decrypted images are written as PNG")

    transform = ClientTransform(cipher, output="image", resize=resize)

    def plain(source: ImageSource, name: str) -> Pixels:
        image = open_plain(source, where=name)
        try:
            return pixels_of(transform.prepare(image), scheme.in_chans)
        except ImageError as error:
            raise ImageError(name, error.expected, error.got, error.remedy) from error

    if format is JPEG:

        def jpeg(pixels: Pixels) -> bytes:
            comment = ImageRecord.of(pixels, cipher, lossless=False).to_comment()
            return encode_jpeg(pixels, DEFAULT_QUALITY if quality is None else quality, comment)

        return ImageCodec(plain, cipher.encrypt_batch, jpeg, JPEG)
    encode, with_record = png_encoder(CIPHERTEXT_LEVEL if level is None else level), RecordWriter(cipher)
    return ImageCodec(plain, cipher.encrypt_batch, lambda pixels: with_record(encode(pixels), pixels))
