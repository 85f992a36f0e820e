"""`BlockCipher`: the keyed transform of images, block by block, on tensors and on whatever else an image comes as."""

from __future__ import annotations

from multiprocessing.context import get_spawning_popen
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from timm_encmixer.ciphers.image_cipher import HasRecord, ImageCipher, check_size, described, no_uint8
from timm_encmixer.ciphers.tensor_maps import TensorMap, is_at_hand, on_tensors
from timm_encmixer.errors import ImageError, SchemeMismatchError, SecretLeakError
from timm_encmixer.keys import KeyLike
from timm_encmixer.scheme import SCRAMBLING_CIPHERS, Scheme

ImageT = TypeVar("ImageT")
_ROUNDING = 0.01  # what low precision may add to 1


class BlockCipher(nn.Module):
    """Encrypts and decrypts images with one key under one scheme.

    `encrypt` and `decrypt` take PIL images, HWC uint8 arrays, CHW and NCHW tensors (uint8, or floats in [0, 1]) and return
    the same type, dtype, device and memory format. uint8 round-trips bit for bit; floats within rounding. As a torch module
    it encrypts in `forward`, works on any device and under `torch.compile`, and never appears in a state dict. It refuses to
    be pickled and to be exported (`torch.export`, `onnx.export`, `jit.trace`): the file would hold what the key gives.

    What it does not do: hide an image from anyone who has many ciphertexts, one image both plain and encrypted, or the plain
    weights (docs/security.md).

    Args:
        key: The secret key or its file.
        scheme: An encrypted model, or its record: `model.encmixer`, `te.find_scheme(folder)`, or one made by hand.

    Attributes:
        fingerprint: The key's, 16 hex digits.

    Raises:
        KeyMismatchError: The scheme names another key. `scheme.without_fingerprint()` allows any.
        SchemeError: It is not a scheme.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.

    Source: arXiv 2207.11939, section 3; docs/format.md.

    Examples:
        >>> cipher = te.BlockCipher("owner.key", te.Scheme(patch_size=4))
        >>> images = torch.rand(8, 3, 32, 32)
        >>> ciphertext = cipher.encrypt(images)
        >>> torch.allclose(cipher.decrypt(ciphertext), images)
        True
    """

    def __init__(self, key: KeyLike, scheme: Scheme | HasRecord) -> None:
        super().__init__()
        self._set(ImageCipher(key, scheme))

    @classmethod
    def of(cls, images: ImageCipher) -> BlockCipher:
        """Return the cipher of tensors that has the map of a cipher of images."""
        cipher = cls.__new__(cls)
        nn.Module.__init__(cipher)
        cipher._set(images)
        return cipher

    @property
    def for_images(self) -> ImageCipher:
        """The cipher of PIL images and arrays that has the same map, and needs no torch."""
        return self._images

    def _set(self, images: ImageCipher) -> None:
        self.scheme, self.fingerprint, self._images = images.scheme, images.fingerprint, images
        self._map, self._inverse = map(on_tensors, images.maps)

    def encrypt(self, image: ImageT) -> ImageT:
        """Return the ciphertext of a plain image; the input is left as it is.

        Args:
            image: PIL image (mode RGB for 3 channels, L for 1), HWC uint8 array, or CHW or NCHW tensor: uint8, or floats in
                [0, 1]. Floats are checked on the CPU, to 0.01 for rounding, and not under torch.compile. On another device the
                check would make it wait. Height and width
                are multiples of the patch side and, for ciphers that scramble blocks, those of the scheme's grid.

        Raises:
            ImageError: Wrong channels, a size that does not fit, floats outside of [0, 1], or uint8 for `orthogonal`.
            ImageTypeError: No known image type.
        """
        _refuse_export()
        if not isinstance(image, Tensor):
            return self._images.encrypt(image)
        check_range(image)
        return self._transform(image, self._map)

    def decrypt(self, image: ImageT) -> ImageT:
        """Return the plain image of a ciphertext; as `encrypt`, which it undoes. Float ciphertext may lie outside of [0, 1]."""
        _refuse_export()
        return self._transform(image, self._inverse) if isinstance(image, Tensor) else self._images.decrypt(image)

    def forward(self, images: Tensor) -> Tensor:
        """Encrypt CHW or NCHW tensors: `encrypt` as a module."""
        return self.encrypt(images)

    def collate(self, samples: list[Any]) -> list[Any]:
        """Collate (image, target, ...) samples as torch does, and encrypt the images of the batch; a `collate_fn`."""
        images, *targets = default_collate(samples)
        return [self.encrypt(images), *targets]

    def fold_rows(self, rows: Tensor) -> Tensor:
        """Return rows A^T, shape (n, D): a linear map of plain blocks becomes one of encrypted blocks."""
        self._check_rows(rows)
        return self._map.rows(rows)

    def unfold_rows(self, rows: Tensor) -> Tensor:
        """Return rows A, shape (n, D); the inverse of `fold_rows`."""
        self._check_rows(rows)
        return self._inverse.rows(rows)

    def within_blocks(self) -> BlockCipher:
        """Return the cipher without its permutation of the blocks: what is left of it once the order of the blocks is known.

        Raises:
            SchemeMismatchError: Nothing is left.
        """
        if not self.scheme.scrambles:
            return self
        within = self.scheme.facts.within_blocks
        if within is None:
            expected, remedy = "a cipher that changes the blocks themselves too", "take one such as shuffle+scramble"
            raise SchemeMismatchError("cipher", expected, self.scheme.cipher, remedy)
        scheme = self.scheme.replace(cipher=within.name, grid=None, positions=None)
        return BlockCipher.of(ImageCipher.of_map(scheme, self.fingerprint, self._images.maps[0].permuted(None)))

    @property
    def order(self) -> Tensor:
        """Block of the plain image, counted by rows, that each block of the ciphertext is made of; shape (blocks,), int64.

        Raises:
            SchemeMismatchError: The cipher does not permute the blocks.
        """
        if self._map.order is None:
            expected = "a cipher that scrambles blocks"
            raise SchemeMismatchError("cipher", expected, self.scheme.cipher, f"take one of {', '.join(SCRAMBLING_CIPHERS)}")
        return self._map.order

    def _check_rows(self, rows: Tensor) -> None:
        if rows.ndim != 2 or rows.shape[1] != self.scheme.block_size:
            raise SchemeMismatchError(
                "stem kernel",
                f"rows of {self.scheme.in_chans} x {self.scheme.patch_size} x {self.scheme.patch_size} numbers",
                f"shape {tuple(rows.shape)}",
                "use a scheme with the stem's patch side and channels",
            )

    def _transform(self, image: ImageT, mapping: TensorMap) -> ImageT:
        assert isinstance(image, Tensor)
        channels = self.scheme.in_chans
        _check_tensor(image, channels)
        check_size(self.scheme, *image.shape[-2:])
        if image.dtype == torch.uint8 and not self.scheme.exact:
            raise no_uint8(self.scheme)
        if image.ndim == 4:
            return mapping(image, channels, self.scheme.patch_size)  # type: ignore[no-any-return]
        return mapping(image.unsqueeze(0), channels, self.scheme.patch_size).squeeze(0)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"BlockCipher({described(self)})"

    def __copy__(self) -> BlockCipher:
        return BlockCipher.of(self._images)

    def __deepcopy__(self, memo: dict[int, Any]) -> BlockCipher:
        return BlockCipher.of(self._images)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse pickling, which would write the secret out, except to hand the cipher to a child process being started."""
        if get_spawning_popen() is None:
            raise SecretLeakError("BlockCipher", "never to be pickled", "a pickle", "rebuild it from the key and the scheme")
        return BlockCipher.of, (self._images,)


def _check_tensor(image: Tensor, channels: int) -> None:
    if image.ndim not in (3, 4) or image.shape[-3] != channels:
        raise ImageError(
            "image tensor",
            f"shape ({channels}, H, W) or (N, {channels}, H, W)",
            f"shape {tuple(image.shape)}",
            "give CHW or NCHW tensors with the scheme's channels",
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ImageError("image tensor", "uint8, or floats in [0, 1]", str(image.dtype), "convert it first")


def check_range(image: Tensor) -> None:
    """Refuse floats that are not pixels: normalised ones, or 0 to 255. Only where a look at them costs little, on the CPU.

    Raises:
        ImageError: A number is not within [0, 1], but for rounding.
    """
    if torch.compiler.is_compiling() or not image.is_floating_point() or not is_at_hand(image) or not image.numel():
        return
    low, high = (float(bound) for bound in image.detach().aminmax())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        got, remedy = (
            f"floats from {low:.4g} to {high:.4g}",
            "divide 0..255 by 255; undo a normalisation; clamp what resizing overshot",
        )
        raise ImageError("image tensor", "floats in [0, 1]", got, remedy)


def _refuse_export() -> None:
    """Refuse to be written into an exported program, as pickling is refused: the map in it is as good as the key.

    Raises:
        SecretLeakError: torch.export, jit.trace or onnx.export runs the cipher.
    """
    if torch._C._get_tracing_state() is not None or torch.compiler.is_exporting():
        remedy = "export the encrypted model, which needs no key, and encrypt with the key on the client"
        raise SecretLeakError("BlockCipher", "never to be exported", "torch.export, jit.trace or onnx.export", remedy)
