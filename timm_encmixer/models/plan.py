"""The encryption plan: which tensors an encryption changes, and how. It is the same for models in memory and for files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor, nn

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import StemError
from timm_encmixer.models.edits import ConstantFold, PositionEmbedding
from timm_encmixer.models.image_trace import ImageTrace, trace_image
from timm_encmixer.models.patch_stem import built_size, image_size, module_name
from timm_encmixer.models.stem_algebra import decrypt_stem, encrypt_stem, folded_normalisation, rotate_stem
from timm_encmixer.scheme import MID_GREY, CipherFacts, Preprocessing, Scheme

Read = Callable[[str], Tensor]  # a tensor by its name, checked to hold finite numbers


class PlanFields(TypedDict):
    """What a record says of a plan, under the field names of `Scheme`; tensor names are those of the plain model."""

    stem: str
    constant: str | None
    positions: str | None
    grid: tuple[int, int] | None


@dataclass(frozen=True)
class EncryptionPlan:
    """The tensors that an encryption changes, under the names that the model or the file has for them.

    Args:
        stem: Name of the stem convolution.
        constant_fold: Where the constant of the normalisation is folded; None where it is zero and the stem has no bias.
        position_embedding: What is permuted with the blocks, for ciphers that scramble them.
        unscrambled_because: Why the blocks cannot be scrambled; empty where they can, or where that was not asked.
    """

    stem: str
    constant_fold: ConstantFold | None
    position_embedding: PositionEmbedding | None = None
    unscrambled_because: str = ""

    @property
    def kernel(self) -> str:
        """Name of the stem's kernel."""
        return f"{self.stem}.weight"

    def encrypted(self, read: Read, cipher: BlockCipher, plain: Preprocessing) -> dict[str, Tensor]:
        """Return the changed tensors of a plain model encrypted, by name; dtypes, devices and formats as they were."""
        weight = read(self.kernel)
        kernel, constant = encrypt_stem(weight, no_bias(weight), cipher, *folded_normalisation(cipher.scheme.facts, plain))
        return self._changed(read, kernel, constant, None if self.position_embedding is None else cipher.order)

    def decrypted(self, read: Read, cipher: BlockCipher, plain: Preprocessing) -> dict[str, Tensor]:
        """Undo `encrypted`, to within the rounding of the tensors' dtypes."""
        weight = read(self.kernel)
        kernel, constant = decrypt_stem(weight, no_bias(weight), cipher, *folded_normalisation(cipher.scheme.facts, plain))
        return self._changed(read, kernel, constant, None if self.position_embedding is None else torch.argsort(cipher.order))

    def rotated(self, read: Read, cipher: BlockCipher, new_cipher: BlockCipher) -> dict[str, Tensor]:
        """Return the changed tensors of an encrypted model under another key."""
        changed = {self.kernel: rotate_stem(read(self.kernel), cipher, new_cipher)}
        if self.position_embedding is not None:
            name, order = self.position_embedding.tensor, torch.argsort(cipher.order)[new_cipher.order]
            changed[name] = self.position_embedding.permuted(read(name), order)
        return changed

    def _changed(self, read: Read, kernel: Tensor, constant: Tensor, order: Tensor | None) -> dict[str, Tensor]:
        changed = {self.kernel: kernel}
        if self.constant_fold is not None:
            name = self.constant_fold.tensor
            changed[name] = self.constant_fold.add(read(name), constant)
        if self.position_embedding is not None and order is not None:
            name = self.position_embedding.tensor  # which may have taken the constant just now
            changed[name] = self.position_embedding.permuted(changed[name] if name in changed else read(name), order)
        return changed

    def record_fields(self, stem: str, *, bias: bool) -> PlanFields:
        """Return what a record says of this plan.

        Args:
            stem: The stem's name in the plain model; here it may lie in a wrapper of timm's.
            bias: Whether the stem has a bias, which then takes the constant and needs no field.
        """
        fold, positions, prefix = self.constant_fold, self.position_embedding, _prefix(self.stem, stem)
        return {
            "stem": stem,
            "constant": None if fold is None or bias else fold.tensor.removeprefix(prefix),
            "positions": None if positions is None else positions.tensor.removeprefix(prefix),
            "grid": None if positions is None else positions.grid,
        }


def plan_encryption(model: nn.Module, conv: nn.Conv2d, plain: Preprocessing, *, cipher: CipherFacts) -> EncryptionPlan:
    """Trace the image through a model, plain or encrypted, and plan its encryption.

    Args:
        model: Any model, also on the meta device.
        conv: Its stem.
        plain: The plain model's preprocessing.
        cipher: What is known of the cipher.

    Raises:
        StemError: The stem is not the only reader of the image, or has no bias and nothing that can take its constant; or the
            blocks do not cover the images that the model was built for; or they cannot be permuted.
    """
    name = module_name(model, conv)
    size, patch = built_size(model), conv.kernel_size[0]
    if size is not None and any(side % patch for side in size):
        whole = " x ".join(f"{side // patch * patch}" for side in size)
        expected = f"an image size in multiples of {patch} px"
        got = f"{size[0]} x {size[1]} px"
        raise StemError("model", expected, got, f"the rest would stay plain: build it with img_size for {whole} px")
    declared = [image_size(model, size) for size in (plain.input_size, plain.test_input_size) if size is not None]
    trace, *others = [trace_image(model, conv, size) for size in dict.fromkeys(declared)]
    fold = trace.constant_fold
    if any(_places(other) != _places(trace) for other in others):
        remedy = "only models that treat all the sizes alike that they are declared for can be encrypted"
        raise StemError(name, "one reader of the stem's output at all declared image sizes", "several", remedy)
    if conv.bias is None and all(mean == MID_GREY for mean in folded_normalisation(cipher, plain)[0]):
        fold = None
    elif fold is None:
        remedy = "the normalisation leaves a constant, and this model has no tensor to fold it into"
        raise StemError(name, "a bias, or a BatchNorm or position embedding that follows at once", "none of these", remedy)
    if cipher.scrambles and trace.position_embedding is None:
        expected = "a model that knows a block's position by its position embedding alone"
        raise StemError("model", expected, trace.unscrambled_because, "take a cipher without scramble")
    return EncryptionPlan(name, fold, trace.position_embedding if cipher.scrambles else None, trace.unscrambled_because)


def _places(trace: ImageTrace) -> tuple[str | None, str | None]:
    """Return the names of the tensors that a trace found."""
    fold, positions = trace.constant_fold, trace.position_embedding
    return None if fold is None else fold.tensor, None if positions is None else positions.tensor


def changed_names(own_stem: str, scheme: Scheme, *, bias: bool) -> list[str]:
    """Return the names of the tensors that the encryption with this record changed.

    Args:
        own_stem: The stem's name in the model, which may be a wrapper of timm's.
        scheme: The record.
        bias: Whether the stem has one.
    """
    prefix = _prefix(own_stem, scheme.stem or "")
    others = [f"{prefix}{name}" for name in (scheme.constant, scheme.positions) if name is not None]
    return list(dict.fromkeys([f"{own_stem}.weight", *([f"{own_stem}.bias"] if bias else []), *others]))


def no_bias(weight: Tensor) -> Tensor:
    """Return zeros instead of a bias, float64, so that what comes of them is the constant alone."""
    return torch.zeros(len(weight), dtype=torch.float64, device=weight.device)


def _prefix(own_stem: str, stem: str) -> str:
    """Return what a wrapper puts before the names of the plain model's modules."""
    return own_stem.removesuffix(stem) if own_stem.endswith(stem) else ""
