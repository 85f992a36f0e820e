"""`BlockCipher`: the keyed transform of images, block by block, on whatever an image comes as."""

from __future__ import annotations

from multiprocessing.context import get_spawning_popen
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from timm_encmixer.ciphers.derive import KeyStream
from timm_encmixer.ciphers.formats import as_batch
from timm_encmixer.ciphers.keyed_map import KeyedMap
from timm_encmixer.ciphers.negpos import negpos
from timm_encmixer.ciphers.orthogonal import orthogonal
from timm_encmixer.ciphers.orthogonal_map import OrthogonalMap
from timm_encmixer.ciphers.shuffle import shuffle
from timm_encmixer.ciphers.signed_permutation import SignedPermutation
from timm_encmixer.errors import ImageError, KeyMismatchError, SchemeError, SchemeMismatchError, SecretLeakError
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.scheme import SCRAMBLE, Scheme

PARTS = {"shuffle": shuffle, "negpos": negpos, "orthogonal": orthogonal}
ImageT = TypeVar("ImageT")


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
        scheme: The public parameters; `model.encmixer` or one made by hand.

    Attributes:
        fingerprint: The key's, 16 hex digits.

    Raises:
        KeyMismatchError: The scheme names another key. `scheme.without_fingerprint()` allows any.
        SchemeError: It is not a scheme.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.

    Source: arXiv 2207.11939, section 3; docs/format.md.
    """

    def __init__(self, key: KeyLike, scheme: Scheme) -> None:
        super().__init__()
        key = find_key(key)
        if not isinstance(scheme, Scheme):
            remedy = "pass model.encmixer, or te.Scheme(patch_size=...)"
            raise SchemeError("scheme", "a Scheme", type(scheme).__name__, remedy)
        self.scheme = scheme
        if scheme.fingerprint not in (None, key.fingerprint):
            raise KeyMismatchError(
                "key",
                f"the key with fingerprint {scheme.fingerprint}",
                f"one with fingerprint {key.fingerprint}",
                "ask the model's owner for its key",
            )
        self.fingerprint = key.fingerprint
        self._map: KeyedMap = _derive(key, scheme)
        self._inverse = self._map.inverse()

    def encrypt(self, image: ImageT) -> ImageT:
        """Return the ciphertext of a plain image; the input is left as it is.

        Args:
            image: PIL image (mode RGB for 3 channels, L for 1), HWC uint8 array, or CHW or NCHW tensor. Height and width are
                multiples of the patch side and, for ciphers that scramble blocks, those of the scheme's grid.

        Raises:
            ImageError: Wrong channels, a size that does not fit, or uint8 for `orthogonal`.
            ImageTypeError: No known image type.
        """
        return self._transform(image, self._map)

    def decrypt(self, image: ImageT) -> ImageT:
        """Return the plain image of a ciphertext; as `encrypt`, which it undoes."""
        return self._transform(image, self._inverse)

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
        parts = [part for part in self.scheme.parts if part != SCRAMBLE]
        if not self.scheme.scrambles:
            return self
        if not parts:
            expected, remedy = "a cipher that changes the blocks themselves too", f"take one such as shuffle+{SCRAMBLE}"
            raise SchemeMismatchError("cipher", expected, SCRAMBLE, remedy)
        scheme = self.scheme.replace(cipher="+".join(parts), grid=None, positions=None)
        return _restore(scheme, self.fingerprint, self._map.permuted(None))

    @property
    def order(self) -> Tensor:
        """Block of the plain image, counted by rows, that each block of the ciphertext is made of; shape (blocks,), int64.

        Raises:
            SchemeMismatchError: The cipher does not permute the blocks.
        """
        if self._map.order is None:
            expected = "a cipher that scrambles blocks"
            raise SchemeMismatchError("cipher", expected, self.scheme.cipher, f"add +{SCRAMBLE} to its name")
        return self._map.order

    def _check_rows(self, rows: Tensor) -> None:
        if rows.ndim != 2 or rows.shape[1] != self.scheme.block_size:
            raise SchemeMismatchError(
                "stem kernel",
                f"rows of {self.scheme.in_chans} x {self.scheme.patch_size} x {self.scheme.patch_size} numbers",
                f"shape {tuple(rows.shape)}",
                "use a scheme with the stem's patch side and channels",
            )

    def _transform(self, image: ImageT, mapping: KeyedMap) -> ImageT:
        _refuse_export()
        batch, restore = as_batch(image, self.scheme.in_chans)
        patch = self.scheme.patch_size
        height, width = batch.shape[-2:]
        if height % patch or width % patch or 0 in (height, width):
            raise ImageError(
                "image",
                f"height and width that are multiples of {patch} px",
                f"{height} x {width} px",
                "resize or crop it first: create_transform does",
            )
        if self.scheme.grid not in (None, (height // patch, width // patch)):
            assert self.scheme.grid is not None  # or it would be among these
            rows, columns = self.scheme.grid
            expected = f"{rows * patch} x {columns * patch} px, the one size whose blocks the scheme permutes"
            remedy = "resize or crop it first: create_transform does"
            raise ImageError("image", expected, f"{height} x {width} px", remedy)
        if batch.dtype == torch.uint8 and not self.scheme.exact:
            raise ImageError(
                "image",
                f"a float tensor in [0, 1] for the cipher {self.scheme.cipher}",
                "uint8",
                "divide by 255, or use a cipher with uint8 ciphertext such as shuffle+negpos",
            )
        transformed: ImageT = restore(mapping(batch, self.scheme.in_chans, patch))
        return transformed

    def __repr__(self) -> str:
        scheme = self.scheme
        return (
            f"BlockCipher({scheme.cipher}, patch_size={scheme.patch_size}, in_chans={scheme.in_chans}, "
            f"fingerprint={scheme.fingerprint})"
        )

    def __copy__(self) -> BlockCipher:
        return _restore(self.scheme, self.fingerprint, self._map)

    def __deepcopy__(self, memo: dict[int, Any]) -> BlockCipher:
        return _restore(self.scheme, self.fingerprint, self._inverse.inverse())

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse pickling, which would write the secret out, except to hand the cipher to a child process being started."""
        if get_spawning_popen() is None:
            raise SecretLeakError("BlockCipher", "never to be pickled", "a pickle", "rebuild it from the key and the scheme")
        order = None if self._map.order is None else self._map.order.cpu()
        if isinstance(self._map, SignedPermutation):
            return _restore_signed, (self.scheme, self.fingerprint, self._map.source.cpu(), self._map.negative.cpu(), order)
        assert isinstance(self._map, OrthogonalMap)  # there is no third kind
        return _restore_orthogonal, (self.scheme, self.fingerprint, self._map.matrix, order)


def _refuse_export() -> None:
    """Refuse to be written into an exported program, as pickling is refused: the map in it is as good as the key.

    Raises:
        SecretLeakError: torch.export, jit.trace or onnx.export runs the cipher.
    """
    if torch._C._get_tracing_state() is not None or torch.compiler.is_exporting():
        remedy = "export the encrypted model, which needs no key, and encrypt with the key on the client"
        raise SecretLeakError("BlockCipher", "never to be exported", "torch.export, jit.trace or onnx.export", remedy)


def _derive(key: SecretKey, scheme: Scheme) -> KeyedMap:
    """Derive each part of `a+b` from a purpose of its own and compose them, a first."""
    whole: Any = None
    for part in scheme.parts:
        purpose = f"cipher={scheme.cipher}/part={part}/C={scheme.in_chans}/P={scheme.patch_size}"
        if part == SCRAMBLE:
            assert scheme.grid is not None  # Scheme has seen to it
            rows, columns = scheme.grid
            order = KeyStream(key.derive(f"{purpose}/grid={rows}x{columns}")).permutation(rows * columns)
            whole = (whole or SignedPermutation.identity(scheme.block_size)).permuted(torch.tensor(order))
            continue
        mapping = PARTS[part](KeyStream(key.derive(purpose)), scheme.block_size)
        whole = mapping if whole is None else whole.then(mapping)
    return whole  # type: ignore[no-any-return]


def _restore(scheme: Scheme, fingerprint: str, mapping: KeyedMap) -> BlockCipher:
    cipher = BlockCipher.__new__(BlockCipher)
    nn.Module.__init__(cipher)
    cipher.scheme, cipher.fingerprint = scheme, fingerprint
    cipher._map = mapping
    cipher._inverse = mapping.inverse()
    return cipher


def _restore_signed(scheme: Scheme, fingerprint: str, source: Tensor, negative: Tensor, order: Tensor | None) -> BlockCipher:
    return _restore(scheme, fingerprint, SignedPermutation(source, negative, order))


def _restore_orthogonal(scheme: Scheme, fingerprint: str, matrix: Tensor, order: Tensor | None) -> BlockCipher:
    return _restore(scheme, fingerprint, OrthogonalMap(matrix, order))
