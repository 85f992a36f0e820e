"""The client's side: from a PIL image to ciphertext. The server's side is timm's own `create_transform`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from timm_encmixer.checkpoints.schemes import find_scheme
from timm_encmixer.checkpoints.sources import SourceLike
from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.errors import ImageError, KeyMismatchError, SchemeError, SchemeMismatchError, of_full_installation
from timm_encmixer.images.image_record import attach_record
from timm_encmixer.images.preprocessing import resize_and_crop
from timm_encmixer.images.reading import opened_plain, to_channels
from timm_encmixer.keys import KeyLike, find_key
from timm_encmixer.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor, nn

    from timm_encmixer.ciphers import BlockCipher

OUTPUTS = ("input", "image", "uint8")


def create_transform(
    target: nn.Module | Scheme | SourceLike,
    key: KeyLike | None = None,
    *,
    output: str = "input",
    wrong_key: bool = False,
) -> ClientTransform:
    """Return the client's transform: the plain model's preprocessing, then the cipher.

    Args:
        target: An encrypted model, a Scheme, "hf-hub:owner/name[@revision]" (only config.json is read), or a folder.
        key: The key, its file, or None for the file that TIMM_ENCMIXER_KEY names.
        output: "input": float32 CHW tensor, normalised, for `model(transform(image)[None])`. "image": PIL ciphertext, to
            save as PNG; it needs no torch. It carries its record (docs/format.md), which `save(path)` writes, also of a copy
            and in another process. Ciphertext of `te.JPEG_CIPHERS` may be saved as JPEG too:
            `save("x.jpg", quality=85, subsampling=0)`. "uint8": CHW uint8 ciphertext tensor, for loaders.
        wrong_key: Take a key on purpose that is not the one which the record names, to see what a wrong key gives.

    Raises:
        KeyMismatchError: The record names another key; with `wrong_key`, it names this one.
        NotEncryptedError: The model, repository or folder has no record.
        SchemeMismatchError: The model's input size is not a multiple of the patch side.
        SchemeError: Unknown output, or an output that the cipher does not have.

    Examples:
        >>> client = te.create_transform("encrypted", "owner.key", output="image")
        >>> client(Image.open("photo.png")).save("ciphertext.png")
    """
    scheme, key = find_scheme(target), find_key(key)
    if wrong_key:
        if key.fingerprint == scheme.fingerprint:
            remedy = "leave wrong_key out, or give another key"
            raise KeyMismatchError("key", "a wrong key, as wrong_key says", "the key that the record names", remedy)
        scheme = scheme.without_fingerprint()
    return ClientTransform(ImageCipher(key, scheme), output=output)


class ClientTransform:
    """PIL image -> ciphertext; made by `create_transform`. Leaves its input as it is.

    Args:
        cipher: Of a scheme with the plain model's preprocessing; a `BlockCipher` will do.
        output: One of `OUTPUTS`.
        resize: Bring images to the model's input size; False keeps sizes that are multiples of the patch side.
    """

    def __init__(self, cipher: ImageCipher | BlockCipher, *, output: str = "input", resize: bool = True) -> None:
        scheme = cipher.scheme
        if output not in OUTPUTS:
            raise SchemeError("output", f"one of {', '.join(OUTPUTS)}", repr(output), "choose one of these")
        if output != "input" and not scheme.exact:
            raise SchemeError(
                "output",
                f"'input' for the cipher {scheme.cipher}",
                repr(output),
                "its ciphertext is float; PNG and uint8 need a cipher such as shuffle+negpos",
            )
        if scheme.plain is None:
            remedy = "take the record of an encrypted model, or give te.Scheme(plain=...)"
            raise SchemeError("scheme", "the plain model's preprocessing", "none", remedy)
        if output != "image":
            with of_full_installation(f"output={output!r}"):
                import timm_encmixer.images.tensors  # noqa: F401  # now, not with the first image
        _, height, width = scheme.plain.input_size
        if resize and (height % scheme.patch_size or width % scheme.patch_size):
            raise SchemeMismatchError(
                "input_size",
                f"multiples of {scheme.patch_size} px",
                f"{height} x {width} px",
                "the rest would stay plain: give the model an input size that fits",
            )
        self.output, self._plain = output, scheme.plain if resize else None
        self._images = cipher if isinstance(cipher, ImageCipher) else cipher.for_images
        self._tensors = None if isinstance(cipher, ImageCipher) else cipher

    @property
    def cipher(self) -> BlockCipher:
        """The cipher, for tensors too."""
        if self._tensors is None:
            from timm_encmixer.ciphers import BlockCipher

            self._tensors = BlockCipher.of(self._images)
        return self._tensors

    def __call__(self, image: Image.Image) -> Tensor | Image.Image:
        """Preprocess and encrypt one image, as Pillow opened it or in memory; docs/images.md says how it is read.

        Raises:
            ImageError: As for `open_plain`; or pixels that cannot be brought to 8 bits, or (without resizing) a size that
                does not fit.
        """
        if not isinstance(image, Image.Image):
            raise ImageError("image", "a PIL image", type(image).__name__, "use BlockCipher.encrypt for tensors and arrays")
        if self.output == "image":
            picture = self._images.encrypt(self.prepare(image))
            attach_record(picture, self._images)
            return picture
        from timm_encmixer.images.tensors import cipher_input

        pixels = self.preprocess(image)
        return self.cipher.encrypt(pixels) if self.output == "uint8" else cipher_input(self.cipher, pixels)

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return what is about to be encrypted as a uint8 CHW tensor; as `prepare`."""
        from timm_encmixer.images.tensors import to_tensor

        return to_tensor(self.prepare(image))

    def prepare(self, image: Image.Image) -> Image.Image:
        """Return the plain image that is about to be encrypted: upright, 8 bits, the model's channels and size.

        Raises:
            ImageError: As for the call.
        """
        converted = to_channels(opened_plain(image), self._images.scheme.in_chans)
        return converted if self._plain is None else resize_and_crop(converted, self._plain)

    def __repr__(self) -> str:
        parts = f"{self._images!r}, output={self.output!r}" if hasattr(self, "output") else "refused"  # while it was made
        return f"ClientTransform({parts})"
