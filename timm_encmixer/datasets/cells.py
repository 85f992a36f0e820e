"""Cells: encoded images in a data set's columns, members or files. Plain cells become ciphertext PNG, and back."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.ciphers.formats import MODES
from timm_encmixer.errors import ImageError, SchemeError, missing_extra, warn_caller
from timm_encmixer.images.image_record import UNMARKED, RecordWriter, check_ciphertext
from timm_encmixer.images.reading import open_ciphertext, open_plain
from timm_encmixer.images.transform import ClientTransform
from timm_encmixer.keys import SecretKey
from timm_encmixer.scheme import Scheme

ENCRYPT, DECRYPT = "encrypt", "decrypt"
CIPHERTEXT_LEVEL, PLAIN_LEVEL = 0, 1  # of PNG's compression: ciphertext hardly compresses (docs/adr/0008)
BATCH_CELLS = 64
_GROUP_BYTES = 1 << 20  # of pixels to convert at a time: few enough to stay in the processor's cache

Cell = bytes
Result = bytes | ImageError


@dataclass(frozen=True)
class CellCodec:
    """Turns cells into cells, a batch at a time.

    Args:
        decode: Cell and its name to a uint8 tensor (C, H, W).
        transform: Batch of such tensors (N, C, H, W) to one of the same shape.
        encode: Array (H, W, C) to the bytes of a PNG.
    """

    decode: Callable[[Cell, str], Tensor]
    transform: Callable[[Tensor], Tensor]
    encode: Callable[[NDArray[np.uint8]], bytes]

    def __call__(self, cells: Sequence[Cell], names: Sequence[str]) -> list[Result]:
        """Return a PNG for each cell, or the error of one that cannot be converted."""
        results: list[Result] = [b""] * len(cells)
        waiting: dict[torch.Size, list[tuple[int, Tensor]]] = {}  # decoded images, by shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # open_plain makes it an error
            for index, (cell, name) in enumerate(zip(cells, names, strict=True)):
                try:
                    pixels = self.decode(cell, name)
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

    def _convert(self, group: Sequence[tuple[int, Tensor]], names: Sequence[str], results: list[Result]) -> None:
        """Put the results for decoded images of one shape in their places."""
        try:
            batch = torch.stack([pixels.permute(1, 2, 0) for _, pixels in group])  # as decoders lay images out
            converted = self.transform(batch.permute(0, 3, 1, 2))
        except ImageError as error:  # the size: it is the same for the whole group
            for index, _ in group:
                results[index] = ImageError(names[index], error.expected, error.got, error.remedy)
            return
        for (index, _), pixels in zip(group, converted.permute(0, 2, 3, 1).numpy(), strict=True):
            results[index] = self.encode(pixels)


def make_codec(
    action: str, key: SecretKey, scheme: Scheme, *, resize: bool, level: int | None = None, strict: bool = False
) -> CellCodec:
    """Return the codec that encrypts or decrypts for a record.

    Args:
        action: ENCRYPT or DECRYPT.
        key: The secret key.
        scheme: The model's record, with the plain preprocessing.
        resize: Bring plain images to the model's input; False keeps sizes that are multiples of the patch side.
        level: PNG's compression level; None takes 0 for ciphertext, 1 for plain images.
        strict: Refuse ciphertexts that carry no record of their own; otherwise the codec warns of them once.

    Raises:
        KeyMismatchError: The record names another key.
        SchemeError: A cipher without uint8 ciphertext, or channels that PNG does not have.
        MissingExtraError: imagecodecs is not installed.
    """
    if scheme.in_chans not in MODES:
        raise SchemeError("record: in_chans", "1 or 3 channels for PNG cells", f"{scheme.in_chans}", "encrypt tensors instead")
    transform = ClientTransform(BlockCipher(key, scheme), output="image", resize=resize)
    cipher = transform.cipher

    def plain(cell: Cell, name: str) -> Tensor:
        image = open_plain(io.BytesIO(cell), where=name)
        try:
            return transform.preprocess(image)
        except ImageError as error:
            raise ImageError(name, error.expected, error.got, error.remedy) from error

    warned = False

    def ciphertext(cell: Cell, name: str) -> Tensor:
        nonlocal warned
        image = open_ciphertext(io.BytesIO(cell), scheme.in_chans, where=name)
        if not check_ciphertext(image, cipher, where=name, strict=strict) and not warned:
            warned = True
            warn_caller(f"{name}: {UNMARKED}")
        return pil_to_tensor(image)  # type: ignore[no-any-return]

    if action == DECRYPT:
        return CellCodec(ciphertext, cipher.decrypt, png_encoder(PLAIN_LEVEL if level is None else level))
    encode, with_record = png_encoder(CIPHERTEXT_LEVEL if level is None else level), RecordWriter(cipher)
    return CellCodec(plain, cipher.encrypt, lambda pixels: with_record(encode(pixels), pixels))


def png_encoder(level: int) -> Callable[[NDArray[np.uint8]], bytes]:
    """Return the function that encodes an array (H, W, C), C = 1 or 3, as PNG, at zlib's compression level 0 to 9.

    Raises:
        MissingExtraError: imagecodecs is not installed.
    """
    try:
        from imagecodecs import spng_encode
    except ImportError as error:
        raise missing_extra("PNG cells", "imagecodecs", "data") from error

    def encode(pixels: NDArray[np.uint8]) -> bytes:
        array = np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
        return bytes(spng_encode(array, level=level))

    return encode
