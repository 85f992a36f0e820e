"""The arguments of an architecture that a config.json names: which there may be, and how large. Without torch and timm.

A config may come from anybody. Its arguments choose among timm's architectures and their sizes, and nothing else. Who reads a
config checks them here, whether the model is built or not.
"""

from __future__ import annotations

from typing import Any

from timm_encmixer.errors import EncMixerError

OUR_ARGUMENTS = ("key", "cipher", "base")
# What timm.create_model takes itself, and what its builder does: files, addresses, code and other weights.
_RESERVED = frozenset(OUR_ARGUMENTS) | {
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "feature_cfg",
    "kwargs_filter",
    "model_cfg",
    "model_cls",
    "model_name",
    "no_jit",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_filter_fn",
    "pretrained_model_args",
    "pretrained_strict",
    "scriptable",
    "variant",
}
_LARGEST_COUNT = 1_000_000  # classes
_LARGEST_ARGUMENT = 65_536  # pixels, channels, layers: no model of timm comes near
_MOST_VALUES = 10_000  # numbers and names in lists of stages and layers
_REMEDY = "do not use this config"


def check_arguments(arguments: Any, *, where: str, error: type[EncMixerError]) -> None:
    """Refuse arguments that steer timm.create_model itself, or ask for absurd sizes.

    Args:
        arguments: `model_args` of a config, as JSON gave it.
        where: For messages.
        error: Class of the error.

    Raises:
        EncMixerError: Of the class `error`.
    """
    if not isinstance(arguments, dict) or (forbidden := sorted(_RESERVED & set(arguments))):
        got = forbidden[0] if isinstance(arguments, dict) else type(arguments).__name__
        raise error(where, "an architecture's own arguments", got, _REMEDY)
    waiting: list[tuple[Any, int]] = [
        (value, _LARGEST_COUNT if name == "num_classes" else _LARGEST_ARGUMENT) for name, value in arguments.items()
    ]
    seen = 0
    while waiting:
        value, most = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise error(where, f"at most {_MOST_VALUES} values", "more", _REMEDY)
        if isinstance(value, (list, tuple, dict)):
            waiting += [(one, most) for one in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, (int, float)) and not abs(value) <= most:
            raise error(where, f"numbers up to {most}", f"{value}"[:40], _REMEDY)
