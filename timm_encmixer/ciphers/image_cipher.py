"""`ImageCipher`: the keyed transform of PIL images and uint8 arrays. It needs numpy and Pillow, and no torch."""

from __future__ import annotations

from multiprocessing.context import get_spawning_popen
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.ciphers.derivation import derive_map
from timm_encmixer.ciphers.formats import as_array
from timm_encmixer.ciphers.keyed_map import KeyedMap
from timm_encmixer.errors import RESIZE_REMEDY, ImageError, KeyMismatchError, SchemeError, SecretLeakError
from timm_encmixer.keys import KeyLike, find_key
from timm_encmixer.scheme import Scheme, scheme_in_notes

ImageT = TypeVar("ImageT")


class ImageCipher:
    """Encrypts and decrypts PIL images and arrays with one key under one scheme. Immutable.

    `encrypt` and `decrypt` take PIL images and HWC uint8 arrays, and return the same type; they round-trip bit for bit. For
    tensors there is `BlockCipher`, which gives the same ciphertext. It takes pixels as they are: it looks for no record in
    `image.info`, and writes none. It refuses to be pickled.

    What it does not do: hide an image from anyone who has many ciphertexts, one image both plain and encrypted, or the plain
    weights (docs/security.md).

    Args:
        key: The secret key or its file.
        scheme: An encrypted model, or its record: `model.encmixer`, `te.find_scheme(folder)`, or one made by hand.

    Attributes:
        scheme: The public parameters.
        fingerprint: The key's, 16 hex digits.

    Raises:
        KeyMismatchError: The scheme names another key. `scheme.without_fingerprint()` allows any.
        SchemeError: It is not a scheme.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.

    Source: arXiv 2207.11939, section 3; docs/format.md.

    Examples:
        >>> cipher = te.ImageCipher("owner.key", te.find_scheme("encrypted"))
        >>> photo = Image.open("photo.png").crop((0, 0, 32, 32))
        >>> cipher.decrypt(cipher.encrypt(photo)) == photo
        True
    """

    __slots__ = ("_inverse", "_map", "fingerprint", "scheme")
    scheme: Scheme
    fingerprint: str
    _map: KeyedMap
    _inverse: KeyedMap

    def __init__(self, key: KeyLike, scheme: Scheme | HasRecord) -> None:
        key, scheme = find_key(key), record_in(scheme)
        if scheme.fingerprint not in (None, key.fingerprint):
            raise KeyMismatchError(
                "key",
                f"the key with fingerprint {scheme.fingerprint}",
                f"one with fingerprint {key.fingerprint}",
                "ask the model's owner for its key",
            )
        self._set(scheme, key.fingerprint, derive_map(key, scheme))

    @classmethod
    def of_map(cls, scheme: Scheme, fingerprint: str, mapping: KeyedMap) -> ImageCipher:
        """Return the cipher with a map that is known already."""
        cipher = cls.__new__(cls)
        cipher._set(scheme, fingerprint, mapping)
        return cipher

    def _set(self, scheme: Scheme, fingerprint: str, mapping: KeyedMap) -> None:
        self.scheme, self.fingerprint, self._map, self._inverse = scheme, fingerprint, mapping, mapping.inverse()

    @property
    def maps(self) -> tuple[KeyedMap, KeyedMap]:
        """The keyed map and its inverse: as secret as the key."""
        return self._map, self._inverse

    def encrypt(self, image: ImageT) -> ImageT:
        """Return the ciphertext of a plain image; the input is left as it is.

        Args:
            image: PIL image (mode RGB for 3 channels, L for 1) or HWC uint8 array. Height and width are multiples of the patch
                side and, for ciphers that scramble blocks, those of the scheme's grid.

        Raises:
            ImageError: Wrong channels, a size that does not fit, or a cipher whose ciphertext is float (`orthogonal`).
            ImageTypeError: No known image type.
        """
        return self._transform(image, self._map)

    def decrypt(self, image: ImageT) -> ImageT:
        """Return the plain image of a ciphertext; as `encrypt`, which it undoes."""
        return self._transform(image, self._inverse)

    def encrypt_batch(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the ciphertexts of images of one size, uint8 of shape (N, H, W, C); errors as for `encrypt`."""
        return self._apply(images, self._map)

    def decrypt_batch(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the plain images of ciphertexts; as `encrypt_batch`, which it undoes."""
        return self._apply(images, self._inverse)

    def _transform(self, image: ImageT, mapping: KeyedMap) -> ImageT:
        pixels, restore = as_array(image, self.scheme.in_chans)
        transformed: ImageT = restore(self._apply(pixels[None], mapping)[0])
        return transformed

    def _apply(self, images: NDArray[np.uint8], mapping: KeyedMap) -> NDArray[np.uint8]:
        n, height, width, channels = images.shape
        check_size(self.scheme, height, width)
        gather = mapping.gather
        if gather is None:
            raise no_uint8(self.scheme)
        layout = {"channels": channels, "patch": self.scheme.patch_size, "channels_last": True, "dtype": images.dtype}
        whole = gather.of_images(height, width, **layout)
        return whole.apply(np.ascontiguousarray(images).reshape(n, -1)).reshape(images.shape)

    def __repr__(self) -> str:
        return f"ImageCipher({described(self)})"

    def __copy__(self) -> ImageCipher:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ImageCipher:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse pickling, which would write the secret out, except to hand the cipher to a child process being started."""
        if get_spawning_popen() is None:
            raise SecretLeakError("cipher", "never to be pickled", "a pickle", "rebuild it from the key and the scheme")
        return ImageCipher.of_map, (self.scheme, self.fingerprint, self._map)


class HasRecord(Protocol):
    """An encrypted model in memory, as far as a cipher looks at it."""

    @property
    def encmixer(self) -> Any:
        """Its record."""
        ...


def record_in(target: Scheme | HasRecord) -> Scheme:
    """Return the record of an encrypted model in memory; a record is returned as it is.

    Raises:
        SchemeError: There is none.
    """
    if isinstance(target, Scheme):
        return target
    for inner in (target, getattr(target, "module", None), getattr(target, "_orig_mod", None)):  # also in a wrapper of torch's
        record = getattr(inner, "encmixer", None)
        if record is None:  # stock timm keeps it in the configuration alone
            record = scheme_in_notes((getattr(inner, "pretrained_cfg", None) or {}).get("notes"))
        if isinstance(record, Scheme):
            return record
    remedy = "pass an encrypted model, te.find_scheme(...) of a folder or hf-hub:ID, or te.Scheme(patch_size=...)"
    got = f"{type(target).__name__} without a record"
    raise SchemeError("scheme", "a Scheme, or an encrypted model in memory", got, remedy)


def described(cipher: Any) -> str:
    """Return what the repr of a cipher says of its scheme; a report of an error may ask one not made yet."""
    scheme: Scheme | None = getattr(cipher, "scheme", None)
    if scheme is None:
        return ""
    return f"{scheme.cipher}, patch_size={scheme.patch_size}, in_chans={scheme.in_chans}, fingerprint={scheme.fingerprint}"


def no_uint8(scheme: Scheme) -> ImageError:
    """Return the error that refuses uint8 images for a cipher whose ciphertext is float."""
    return ImageError(
        "image",
        f"a float tensor in [0, 1] for the cipher {scheme.cipher}",
        "uint8",
        "divide by 255, or use a cipher with uint8 ciphertext such as shuffle+negpos",
    )


def check_size(scheme: Scheme, height: int, width: int) -> None:
    """Refuse images that cannot be cut into the scheme's blocks.

    Raises:
        ImageError: The sides are no multiples of the patch side, or not those of the scheme's grid.
    """
    patch = scheme.patch_size
    if height % patch or width % patch or 0 in (height, width):
        raise ImageError(
            "image",
            f"height and width that are multiples of {patch} px",
            f"{height} x {width} px",
            RESIZE_REMEDY,
        )
    if scheme.grid not in (None, (height // patch, width // patch)):
        assert scheme.grid is not None  # or it would be among these
        rows, columns = scheme.grid
        expected = f"{rows * patch} x {columns * patch} px, the one size whose blocks the scheme permutes"
        remedy = RESIZE_REMEDY
        raise ImageError("image", expected, f"{height} x {width} px", remedy)
