"""Which of timm's models can be encrypted, and why the others cannot: found by following the image, model by model.

support.py has what was found, and needs no timm.
"""

from __future__ import annotations

from typing import Any

import timm

from timm_encmixer.errors import EncMixerError, StemError
from timm_encmixer.models.bare import bare_model
from timm_encmixer.models.patch_stem import find_stem, image_size
from timm_encmixer.models.plan import plan_encryption
from timm_encmixer.models.pretrained_cfg import preprocessing_of
from timm_encmixer.models.support import Support
from timm_encmixer.scheme import DEFAULT_CIPHER, facts_of


def examine(name: str) -> Support:
    """Build one of timm's architectures without memory for it, and follow the image through it.

    Args:
        name: timm's name, without a tag.

    Raises:
        SourceError: timm has no such architecture.
    """
    model = bare_model(name, None, where=name)
    cfg: Any = model.pretrained_cfg
    family = type(model).__name__
    try:
        stem, conv = find_stem(model, cfg.get("first_conv"))
        plain = preprocessing_of(cfg, conv.in_channels)
        plan = plan_encryption(model, conv, plain, cipher=facts_of(DEFAULT_CIPHER))
    except EncMixerError as error:
        return Support(name=name, family=family, refused=f"expected {error.expected}, got {error.got}")
    constant = plan.record_fields(stem, bias=conv.bias is not None)["constant"]
    return Support(
        name=name,
        family=family,
        patch_size=conv.kernel_size[0],
        input_size=image_size(model, plain.input_size),
        constant="bias" if conv.bias is not None else "none needed" if constant is None else str(constant),
        unscrambled=plan.unscrambled_because,
    )


def all_names() -> list[str]:
    """Return the names of timm's own architectures, without those of this package."""
    return [name for name in timm.list_models() if is_timms_own(name)]


def is_timms_own(name: str) -> bool:
    """Whether stock timm has an architecture of this name, without this package or another plugin."""
    return bool(timm.is_model(name)) and timm.model_entrypoint(name).__module__.startswith("timm.")


def check_name(timm_name: str, cipher: str) -> None:
    """Refuse one of timm's architectures that cannot be encrypted; for use before its weights are fetched.

    Args:
        timm_name: With or without a tag; names that are not timm's own are left to the encryption.
        cipher: The cipher's name.

    Raises:
        StemError: timm's architecture cannot be encrypted, or not by this cipher.
    """
    name = timm_name.partition(".")[0]
    if not is_timms_own(name):
        return
    support, facts = examine(name), facts_of(cipher)
    reason = support.refused or (support.unscrambled if facts.scrambles else "")
    if not reason and not facts.fits(support.patch_size):
        expected, got = f"a model whose blocks are multiples of {facts.side_multiple} px", f"blocks of {support.patch_size} px"
        raise StemError(timm_name, expected, got, "encmixer models --etc lists those; or take another cipher")
    if reason:
        expected = "a model that can be encrypted" + ("" if support.refused else " with scrambled blocks")
        remedy = "encmixer models lists those" + ("" if support.refused else ": --scramble; or take a cipher without scramble")
        raise StemError(timm_name, expected, f"one that cannot: {reason}", remedy)
