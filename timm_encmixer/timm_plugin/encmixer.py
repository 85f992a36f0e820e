"""timm entrypoints: `encmixer_X` is `convmixer_X` encrypted as it is built; `key=` and `cipher=` come on top of timm's own.

What they do is in building.py, imported when a model is built: this module may be imported while others of the package
are still being loaded (_registration.py).
"""

from __future__ import annotations

from typing import Any

from timm.layers import get_act_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.convmixer import ConvMixer
from torch import nn

from timm_encmixer.bundled import BUNDLED_WEIGHTS

__all__: list[str] = []  # register_model adds the entrypoints


def _cfg(**fields: Any) -> dict[str, Any]:
    imagenet = {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": 0.96,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "classifier": "head",
        "first_conv": "stem.0",
        "license": "mit",
    }
    return {**imagenet, **fields}


def _cifar10(**fields: Any) -> dict[str, Any]:
    cifar10 = {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "crop_pct": 0.875,
        "license": "apache-2.0",
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
    }
    return _cfg(**cifar10, **fields)


default_cfgs = generate_default_cfgs(
    {
        "encmixer_1536_20.in1k": _cfg(hf_hub_id="timm/convmixer_1536_20.in1k"),
        "encmixer_768_32.in1k": _cfg(hf_hub_id="timm/convmixer_768_32.in1k"),
        "encmixer_1024_20_ks9_p14.in1k": _cfg(hf_hub_id="timm/convmixer_1024_20_ks9_p14.in1k"),
        "encmixer_256_8_ks5_p4.cifar10": _cifar10(file=str(BUNDLED_WEIGHTS)),
        "convmixer_256_8_ks5_p4.cifar10": _cifar10(file=str(BUNDLED_WEIGHTS)),
        "encmixer_custom": _cfg(license=None),
        "convmixer_custom": _cfg(license=None),
    }
)


def _convmixer(variant: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    features = {"out_indices": arguments.pop("out_indices", 3), "feature_cls": "getter"}
    model: nn.Module = build_model_with_cfg(ConvMixer, variant, pretrained, feature_cfg=features, **arguments)
    from timm_encmixer.timm_plugin.building import with_record_of_file

    return with_record_of_file(model, pretrained)


@register_model
def convmixer_256_8_ks5_p4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The plain ConvMixer-256/8, kernel 5, patch 4 px, that comes with the package, trained on CIFAR-10 (3 x 32 x 32 px)."""
    return _convmixer(
        "convmixer_256_8_ks5_p4", pretrained, {"dim": 256, "depth": 8, "kernel_size": 5, "patch_size": 4, **kwargs}
    )


@register_model
def convmixer_custom(pretrained: bool = False, *, act_layer: str = "gelu", **kwargs: Any) -> nn.Module:
    """A plain ConvMixer of any shape: `dim`, `depth`, `kernel_size`, `patch_size` (px), `act_layer` by timm's name."""
    shape = {"dim": 256, "depth": 8, "kernel_size": 9, "patch_size": 7}
    return _convmixer("convmixer_custom", pretrained, {**shape, "act_layer": get_act_layer(act_layer), **kwargs})


@register_model
def encmixer_1536_20(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ConvMixer-1536/20, kernel 9, patch 7 px, encrypted with `key=`; see `encmixer_custom` for the arguments."""
    return _encmixer("convmixer_1536_20", "encmixer_1536_20", pretrained, **kwargs)


@register_model
def encmixer_768_32(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ConvMixer-768/32, kernel 7, patch 7 px, encrypted with `key=`; see `encmixer_custom` for the arguments."""
    return _encmixer("convmixer_768_32", "encmixer_768_32", pretrained, **kwargs)


@register_model
def encmixer_1024_20_ks9_p14(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ConvMixer-1024/20, kernel 9, patch 14 px, encrypted with `key=`; see `encmixer_custom` for the arguments."""
    return _encmixer("convmixer_1024_20_ks9_p14", "encmixer_1024_20_ks9_p14", pretrained, **kwargs)


@register_model
def encmixer_256_8_ks5_p4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The bundled ConvMixer-256/8, kernel 5, patch 4 px, encrypted with `key=`; see `encmixer_custom` for the arguments."""
    return _encmixer("convmixer_256_8_ks5_p4", "encmixer_256_8_ks5_p4", pretrained, **kwargs)


@register_model
def encmixer_custom(pretrained: bool = False, *, base: str | None = None, **kwargs: Any) -> nn.Module:
    """Any ConvMixer of the user's own, encrypted as it is built.

    Args:
        pretrained: Load weights; plain ones are encrypted on the way.
        base: timm name, "hf-hub:owner/name[@revision]" or "local-dir:path" of a plain model. Without it, `dim`, `depth`,
            `kernel_size`, `patch_size` and `act_layer` describe one.
        **kwargs: timm's own, and
            key: A SecretKey, a key file, or None for the file that TIMM_ENCMIXER_KEY names. Needed for plain pretrained
            weights; without one and with `pretrained=False` the bare architecture is built, for an encrypted checkpoint.
            cipher: One of `timm_encmixer.CIPHERS`; None is shuffle+negpos, or what an encrypted source says.

    Raises:
        MissingKeyError: Plain weights are to be loaded and there is no key.
        KeyMismatchError: The weights are encrypted, with another key.
        StemError: `in_chans` differs from the weights'.
    """
    if base is None:
        return _encmixer("convmixer_custom", "encmixer_custom", pretrained, **kwargs)
    from timm_encmixer.timm_plugin.building import build_from_base

    return build_from_base(base, pretrained, **kwargs)


def _encmixer(base: str, variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    from timm_encmixer.timm_plugin.building import build_encrypted

    return build_encrypted(base, variant, pretrained, **kwargs)
