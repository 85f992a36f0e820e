"""The pipeline of a client: image files in, files of one format out. Folders of images and data sets go through it alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from timm_encmixer.ciphers.formats import MODES, pixels_of
from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.errors import ImageError, SchemeError
from timm_encmixer.images.file_format import PNG, ciphertext_formats
from timm_encmixer.images.formats.base import FileFormat, Pixels
from timm_encmixer.images.image_record import NO_RECORD, ImageRecord, RecordWriter, check_ciphertext
from timm_encmixer.images.reading import ImageSource, open_ciphertext, open_plain, read_header
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
    _codecs: dict[Scheme, ImageCodec] = field(default_factory=dict, repr=False)

    def __call__(self, images: Sequence[ImageSource], names: Sequence[str]) -> list[Result]:
        """Return a file for each image, or the error of one that cannot be converted.

        Raises:
            FileAccessError: A file cannot be read.
        """
        return [self._converted(image, name) for image, name in zip(images, names, strict=True)]

    def _converted(self, image: ImageSource, name: str) -> Result:
        try:
            scheme = self._scheme_of(image, name)
            codec = self._codecs.get(scheme)
            if codec is None:
                codec = self._codecs[scheme] = make_codec(DECRYPT, ImageCipher(self.key, scheme), strict=True)
        except ImageError as error:
            return error
        except SchemeError as error:  # a cipher that has no images
            return ImageError(name, error.expected, error.got, error.remedy)
        (result,) = codec([image], [name])
        return result

    def _scheme_of(self, image: ImageSource, name: str) -> Scheme:
        """Return the record of the cipher of a ciphertext, open to any key: whether the key is its own is seen to later.

        Raises:
            ImageError: It carries no record, or one that no cipher can have.
        """
        header = read_header(image, where=name)
        record = ImageRecord.found_in(header, where=name)
        if record is None:
            remedy = "name the model that it was encrypted for: model= (--model)"
            raise ImageError(name, "a ciphertext that says what it is", NO_RECORD, remedy)
        (height, width), side = record.size, record.patch_size
        try:
            grid = (height // side, width // side) if facts_of(record.cipher).scrambles else None
            return Scheme(cipher=record.cipher, patch_size=side, in_chans=len(header.getbands()), grid=grid)
        except SchemeError as error:
            raise ImageError(f"{name}: record", error.expected, error.got, error.remedy) from error


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
        raise SchemeError("model", "a cipher with PNG ciphertext", scheme.cipher, "its ciphertext is float tensors")
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
