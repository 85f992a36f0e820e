"""config.json as timm writes it, and whether a weights file belongs to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from timm_encmixer.errors import CheckpointError
from timm_encmixer.files import open_regular
from timm_encmixer.models.model_args import check_arguments
from timm_encmixer.schema import read_as
from timm_encmixer.scheme.preprocessing import CropMode, Interpolation, Numbers, Share, Size

CONFIG_NAME, WEIGHTS_NAME, SEALED_NAME = "config.json", "model.safetensors", "model.age"
LOCAL_PREFIX = "local-dir:"
_LONGEST_CONFIG_BYTES = 10_000_000
Classes = Annotated[int, Meta(ge=0, le=1_000_000)]


class _PretrainedCfg(Struct):
    """What this package reads of timm's `pretrained_cfg`; there may be more."""

    input_size: Size | None = None
    test_input_size: Size | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    interpolation: Interpolation | None = None
    crop_pct: Share | None = None
    test_crop_pct: Share | None = None
    crop_mode: CropMode | None = None
    num_classes: Classes | None = None
    first_conv: str | list[str] | None = None
    hf_hub_id: str | None = None
    url: str | None = None
    file: str | None = None
    notes: list[str] | None = None


class _Config(Struct):
    """What this package reads of config.json; there may be more."""

    architecture: Annotated[str, Meta(min_length=1, max_length=1024)]
    pretrained_cfg: _PretrainedCfg
    num_classes: Classes | UnsetType = UNSET  # timm refuses null in these two
    model_args: dict[str, Any] | UnsetType = UNSET


def path_in(name: str) -> str | None:
    """Return the path in a name that begins with `LOCAL_PREFIX`, in any case as for timm; None for any other name."""
    begins = name[: len(LOCAL_PREFIX)].lower() == LOCAL_PREFIX
    return name[len(LOCAL_PREFIX) :] if begins else None


def read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's config.json as timm understands it, in its present form.

    Raises:
        FileAccessError: It is missing or unreadable.
        CheckpointError: It is not a JSON object with an architecture. Or its `model_args` are none of an architecture's own.
    """
    path = folder / CONFIG_NAME
    remedy = "take the folder that timm.models.save_for_hf or encmixer wrote"
    try:
        with open_regular(path, action="a timm config to read") as file:
            text = file.read(_LONGEST_CONFIG_BYTES + 1)
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(str(path), "JSON", "text that is not valid JSON", remedy) from error
    if not isinstance(config, dict) or "architecture" not in config:
        raise CheckpointError(str(path), "a JSON object with an architecture", "something else", remedy)
    if "pretrained_cfg" not in config:  # timm's first form had everything on one level
        fields = {name: config.pop(name) for name in ("architecture", "num_classes", "num_features") if name in config}
        config = {**fields, "pretrained_cfg": config}
    read_as(_Config, config, where=str(path), error=CheckpointError, remedy=remedy, expected="a config of timm's")
    check_arguments(config.get("model_args", {}), where=f"{path}: model_args", error=CheckpointError)
    return config


def without_repeats(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the number of classes among the arguments, where it stands at the top level already.

    timm reads it there; transformers' timm wrapper passes both on, and fails.
    """
    arguments = config.get("model_args")
    if not isinstance(arguments, dict) or "num_classes" not in arguments:
        return dict(config)
    if arguments["num_classes"] != config.get("num_classes"):
        return dict(config)
    rest = {name: value for name, value in arguments.items() if name != "num_classes"}
    return {name: rest if name == "model_args" else value for name, value in config.items() if name != "model_args" or rest}
