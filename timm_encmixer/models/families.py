"""Which of timm's models can be encrypted, and why the others cannot: found by following the image, model by model.

support.py has what was found, and needs no timm.
"""

from __future__ import annotations

from typing import Any

import timm

from timm_encmixer.errors import EncMixerError
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
