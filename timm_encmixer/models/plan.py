"""The tensors of a model that an encryption changes, and what becomes of them: the same for models in memory and for files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import StemError
from timm_encmixer.models.edits import Home, Positions
from timm_encmixer.models.image_trace import probe
from timm_encmixer.models.patch_stem import built_size, image_size, module_name
from timm_encmixer.models.stem_algebra import MID_GREY, decrypt_stem, encrypt_stem, rotate_stem
from timm_encmixer.scheme import Preprocessing, Scheme

Read = Callable[[str], Tensor]  # a tensor by its name, checked to hold finite numbers


@dataclass(frozen=True)
class Places:
    """The tensors that an encryption changes, under the names that the model or the file has for them.

    Args:
        stem: Name of the stem convolution.
        home: Where the constant of the normalisation goes; None where it is zero and the stem has no bias.
        positions: The position embedding that is permuted with the blocks, for ciphers that scramble them.
        ordered: Why the blocks cannot be scrambled; empty where they can, or where that was not asked.
    """

    stem: str
    home: Home | None
    positions: Positions | None = None
    ordered: str = ""

    @property
    def kernel(self) -> str:
        """Name of the stem's kernel."""
        return f"{self.stem}.weight"

    def encrypted(self, read: Read, cipher: BlockCipher, plain: Preprocessing) -> dict[str, Tensor]:
        """Return the changed tensors of a plain model encrypted, by name; dtypes, devices and formats as they were."""
        weight = read(self.kernel)
        kernel, constant = encrypt_stem(weight, no_bias(weight), cipher, plain.mean, plain.std)
        return self._changed(read, kernel, constant, None if self.positions is None else cipher.order)

    def decrypted(self, read: Read, cipher: BlockCipher, plain: Preprocessing) -> dict[str, Tensor]:
        """Undo `encrypted`, to within the rounding of the tensors' dtypes."""
        weight = read(self.kernel)
        kernel, constant = decrypt_stem(weight, no_bias(weight), cipher, plain.mean, plain.std)
        return self._changed(read, kernel, constant, None if self.positions is None else torch.argsort(cipher.order))

    def rotated(self, read: Read, cipher: BlockCipher, new_cipher: BlockCipher) -> dict[str, Tensor]:
        """Return the changed tensors of an encrypted model under another key."""
        changed = {self.kernel: rotate_stem(read(self.kernel), cipher, new_cipher)}
        if self.positions is not None:
            order = torch.argsort(cipher.order)[new_cipher.order]
            changed[self.positions.tensor] = self.positions.ordered(read(self.positions.tensor), order)
        return changed

    def _changed(self, read: Read, kernel: Tensor, constant: Tensor, order: Tensor | None) -> dict[str, Tensor]:
        changed = {self.kernel: kernel}
        if self.home is not None:
            changed[self.home.tensor] = self.home.add(read(self.home.tensor), constant)
        if self.positions is not None and order is not None:
            name = self.positions.tensor
            changed[name] = self.positions.ordered(changed[name] if name in changed else read(name), order)
        return changed


def find_places(model: nn.Module, conv: nn.Conv2d, plain: Preprocessing, *, scrambles: bool) -> Places:
    """Follow the image through a model, plain or encrypted, for the tensors that an encryption changes.

    Args:
        model: Any model, also on the meta device.
        conv: Its stem.
        plain: The plain model's preprocessing.
        scrambles: Whether the cipher permutes the blocks too.

    Raises:
        StemError: The stem is not the only reader of the image, or has no bias and nothing that can take its place; or the
            blocks do not cover the images that the model was built for; or they cannot be permuted.
    """
    name = module_name(model, conv)
    size, patch = built_size(model), conv.kernel_size[0]
    if size is not None and any(side % patch for side in size):
        whole = " x ".join(f"{side // patch * patch}" for side in size)
        expected = f"an image size in multiples of {patch} px"
        got = f"{size[0]} x {size[1]} px"
        raise StemError("model", expected, got, f"the rest would stay plain: build it with img_size for {whole} px")
    finding = probe(model, conv, image_size(model, plain.input_size))
    home = finding.home
    if conv.bias is None and all(mean == MID_GREY for mean in plain.mean):
        home = None
    elif home is None:
        remedy = "a constant comes of the normalisation, and this model has no place for it"
        raise StemError(name, "a bias, or a BatchNorm or position embedding that follows at once", "none of these", remedy)
    if scrambles and finding.positions is None:
        expected = "a model that knows a block's place by its position embedding alone"
        raise StemError("model", expected, finding.ordered, "take a cipher without scramble")
    return Places(name, home, finding.positions if scrambles else None, finding.ordered)


def recorded(places: Places, stem: str, *, bias: bool) -> dict[str, str | tuple[int, int] | None]:
    """Return what a record says of places: the fields of `Scheme`, with the names of the plain model.

    Args:
        places: As they were found, in the plain model or in a wrapper of timm's.
        stem: The stem's name in the plain model.
        bias: Whether the stem has one, which then is the home of the constant.
    """
    home, positions, prefix = places.home, places.positions, prefix_of(places.stem, stem)
    return {
        "stem": stem,
        "constant": None if home is None or bias else home.tensor.removeprefix(prefix),
        "positions": None if positions is None else positions.tensor.removeprefix(prefix),
        "grid": None if positions is None else positions.grid,
    }


def changed_names(own_stem: str, scheme: Scheme, *, bias: bool) -> list[str]:
    """Return the names of the tensors that the encryption with this record changed.

    Args:
        own_stem: The stem's name in the model, which may be a wrapper of timm's.
        scheme: The record.
        bias: Whether the stem has one.
    """
    prefix = prefix_of(own_stem, scheme.stem or "")
    others = [f"{prefix}{name}" for name in (scheme.constant, scheme.positions) if name is not None]
    return list(dict.fromkeys([f"{own_stem}.weight", *([f"{own_stem}.bias"] if bias else []), *others]))


def prefix_of(own_stem: str, stem: str) -> str:
    """Return what a wrapper puts before the names of the plain model's modules."""
    return own_stem.removesuffix(stem) if own_stem.endswith(stem) else ""


def no_bias(weight: Tensor) -> Tensor:
    """Return zeros in the place of a bias, float64, so that what comes of them is the constant alone."""
    return torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
