"""The pipeline of a client: image files in, files of one format out. Folders of images and data sets go through it alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from timm_encmixer.ciphers.formats import MODES, pixels_of
from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.errors import ImageError, SchemeError
from timm_encmixer.images.file_format import FORMATS, PNG, ciphertext_formats, format_of
from timm_encmixer.images.formats.base import FileFormat, Pixels
from timm_encmixer.images.image_record import NO_RECORD, ImageRecord, RecordWriter, check_ciphertext
from timm_encmixer.images.reading import ImageSource, by_pixels, open_ciphertext, open_plain
from timm_encmixer.images.transform import ClientTransform
from timm_encmixer.keys import SecretKey
from timm_encmixer.scheme import Scheme, facts_of

ENCRYPT, DECRYPT = "encrypt", "decrypt"
BATCH_IMAGES = 64
_GROUP_BYTES = 1 << 20  # of pixels to convert at a time: few enough to stay in the processor's cache

Result = bytes | ImageError


class Codec(Protocol):
    """What turns image files into files of one format."""

    @property
    def format(self) -> FileFormat:
        """Of the files that it makes."""
        ...

    @property
    def only(self) -> str:
        """Why they are of this format and no other; empty where the cipher decides it."""
        ...

    def __call__(self, images: Sequence[ImageSource], names: Sequence[str]) -> list[Result]:
        """Return a file for each image, or the error of one that cannot be converted."""
        ...


@dataclass(frozen=True)
class ImageCodec:
    """Turns encoded images into files of one format, a batch at a time.

    Args:
        decode: Image and its name to a uint8 array (H, W, C).
        transform: Batch of such arrays (N, H, W, C) to one of the same shape.
        encode: Array (H, W, C) to the bytes of a file.
        format: Of these files.
        only: Why they are of this format and no other, where the action decides it; empty where the cipher does.
    """

    decode: Callable[[ImageSource, str], Pixels]
    transform: Callable[[Pixels], Pixels]
    encode: Callable[[Pixels], bytes]
    format: FileFormat = PNG
    only: str = ""

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


_DECRYPTED = f"decrypted images are written as {PNG.name}"


@dataclass(frozen=True)
class OwnRecords:
    """Decrypts each ciphertext by the record that it carries; they may be of several models.

    Args:
        key: Of all of them.
    """

    key: SecretKey = field(repr=False)
    format: FileFormat = PNG
    only: str = _DECRYPTED
    _ciphers: dict[Scheme, ImageCipher] = field(default_factory=dict, repr=False)

    def __call__(self, images: Sequence[ImageSource], names: Sequence[str]) -> list[Result]:
        """Return a file for each image, or the error of one that cannot be converted.

        Raises:
            FileAccessError: A file cannot be read.
        """
        return [self._converted(image, name) for image, name in zip(images, names, strict=True)]

    def _converted(self, source: ImageSource, name: str) -> Result:
        try:
            image = open_ciphertext(source, None, where=name, formats=tuple(FORMATS.values()))
            record = ImageRecord.found_in(image, where=name)
            if record is None:
                remedy = "name the model that it was encrypted for: model= (--model)"
                raise ImageError(name, "a ciphertext that says what it is", NO_RECORD, remedy)
            image = _of_model(image, record, name)
            cipher = self._cipher_of(record, len(image.getbands()), where=name)
            if format_of(image) not in ciphertext_formats(cipher.scheme):
                read = format_of(image) or PNG
                raise ImageError(name, f"a ciphertext {PNG.name}", read.name, read.refused)
            record.check(image, cipher, where=name)
            plain = cipher.decrypt_batch(pixels_of(image, cipher.scheme.in_chans)[None])[0]
            return PNG.encoder(PNG.for_plain)(plain, None)
        except ImageError as error:
            return ImageError(error.where if error.where.startswith(name) else name, error.expected, error.got, error.remedy)

    def _cipher_of(self, record: ImageRecord, channels: int, *, where: str) -> ImageCipher:
        """Return the cipher of a record, open to any key: whether the key is its own is seen to later.

        Raises:
            ImageError: No cipher can have such a record, or its ciphertext has no files.
        """
        (height, width), side = record.size, record.patch_size
        try:
            grid = (height // side, width // side) if facts_of(record.cipher).scrambles else None
            scheme = Scheme(cipher=record.cipher, patch_size=side, in_chans=channels, grid=grid)
            if not scheme.exact:
                raise _without_files(scheme)
        except SchemeError as error:
            raise ImageError(f"{where}: record", error.expected, error.got, error.remedy) from error
        if scheme not in self._ciphers:
            self._ciphers[scheme] = ImageCipher(self.key, scheme)
        return self._ciphers[scheme]


def _of_model(image: Image.Image, record: ImageRecord, name: str) -> Image.Image:
    """Return a ciphertext with the channels of its model, which the record does not say.

    The digest tells: a program that makes files smaller may have written three channels as greyscale, or another one as three.
    """
    own, other = (1, 3) if image.mode == MODES[1] else (3, 1)
    first = by_pixels(image, own, where=name)
    if record.fits(first):
        return first
    try:
        second = by_pixels(image, other, where=name)
    except ImageError:  # it has colours
        return first
    return second if record.fits(second) else first


def _without_files(scheme: Scheme) -> SchemeError:
    return SchemeError("model", "a cipher with PNG ciphertext", scheme.cipher, "its ciphertext is float tensors")


def make_codec(
    action: str,
    cipher: ImageCipher,
    *,
    resize: bool = True,
    format: FileFormat = PNG,
    setting: int | None = None,
    strict: bool = False,
    unmarked: Callable[[str], None] = lambda name: None,
) -> ImageCodec:
    """Return the codec that encrypts or decrypts with a cipher.

    Args:
        action: ENCRYPT or DECRYPT.
        cipher: Of the model's record, with the plain preprocessing where it is to encrypt.
        resize: Bring plain images to the model's input; False keeps sizes that are multiples of the patch side.
        format: Of ciphertext, as `find_format` gives it. Plain images are written as PNG.
        setting: The number that the encoder takes, of the format's `settings`; None takes the usual one.
        strict: Refuse ciphertexts that carry no record of their own.
        unmarked: Called with the name of each ciphertext that carries none, and is decrypted as it is.

    Raises:
        SchemeError: A cipher without uint8 ciphertext, or channels that PNG does not have.
    """
    scheme = cipher.scheme
    if scheme.in_chans not in MODES:
        raise SchemeError("record: in_chans", "1 or 3 channels for PNG", f"{scheme.in_chans}", "encrypt tensors instead")
    if not scheme.exact:
        raise _without_files(scheme)
    if action == DECRYPT:
        taken = ciphertext_formats(scheme)

        def ciphertext(source: ImageSource, name: str) -> Pixels:
            image = open_ciphertext(source, scheme.in_chans, where=name, formats=taken)
            if not check_ciphertext(image, cipher, where=name, strict=strict):
                unmarked(name)
            return pixels_of(image, scheme.in_chans)

        encode = PNG.encoder(PNG.for_plain if setting is None else setting)
        return ImageCodec(ciphertext, cipher.decrypt_batch, lambda pixels: encode(pixels, None), only=_DECRYPTED)

    transform = ClientTransform(cipher, output="image", resize=resize)

    def plain(source: ImageSource, name: str) -> Pixels:
        image = open_plain(source, where=name)
        try:
            return pixels_of(transform.prepare(image), scheme.in_chans)
        except ImageError as error:
            raise ImageError(name, error.expected, error.got, error.remedy) from error

    encode, record = format.encoder(format.for_ciphertext if setting is None else setting), RecordWriter(cipher, format)
    return ImageCodec(plain, cipher.encrypt_batch, lambda pixels: encode(pixels, record(pixels)), format)
