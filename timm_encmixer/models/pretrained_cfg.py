"""A timm `pretrained_cfg` before and after encryption, and the record that rides in it (docs/adr/0003)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timm.data import resolve_data_config

from timm_encmixer.errors import SchemeError, SchemeMismatchError
from timm_encmixer.scheme import LARGEST_NORMALISATION, MID_GREY, NOTE_PREFIX, Preprocessing, Scheme, scheme_in_notes

_SOURCE_FIELDS = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source")


def cfg_dict(cfg: Any) -> dict[str, Any]:
    """Return timm's PretrainedCfg object, which is untyped, as the dict that models carry."""
    values: dict[str, Any] = cfg.to_dict()
    return values


def scheme_in_cfg(cfg: Mapping[str, Any]) -> Scheme | None:
    """Return the record that rides in a timm `pretrained_cfg`, None when there is none."""
    return scheme_in_notes(cfg.get("notes"))


def encrypted_cfg(cfg: Mapping[str, Any], scheme: Scheme) -> dict[str, Any]:
    """Return a plain (or encrypted) model's `pretrained_cfg` as the encrypted model needs it.

    Ciphertext is normalised as the record says and must not be resized; `first_conv` is withdrawn, so that timm refuses to
    adapt the kernel to other channels; so are the addresses of the plain weights.
    """
    if scheme.plain is None:
        raise SchemeError("record: plain", "the plain model's preprocessing", "none", "encrypt the plain model again")
    kept = {name: value for name, value in cfg.items() if name not in (*_SOURCE_FIELDS, "test_input_size", "test_crop_pct")}
    return {
        **kept,
        "input_size": scheme.plain.input_size,
        "mean": scheme.ciphertext_mean,
        "std": scheme.ciphertext_std,
        "crop_pct": 1.0,
        "crop_mode": "center",
        "interpolation": scheme.plain.interpolation,
        "first_conv": None,
        "notes": (*_other_notes(cfg), NOTE_PREFIX + scheme.to_json()),
    }


def check_ciphertext(cfg: Mapping[str, Any], scheme: Scheme) -> None:
    """Refuse an encrypted model's `pretrained_cfg` that would have ciphertext normalised otherwise, or cropped.

    Raises:
        SchemeMismatchError: Its mean, std or crop is not what `encrypted_cfg` sets.
    """
    wanted = {"mean": scheme.ciphertext_mean, "std": scheme.ciphertext_std, "crop_pct": (1.0,)}
    for name, expected in wanted.items():
        value = cfg.get(name, expected)
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        uniform = len(set(expected)) == 1 and set(values) == set(expected)  # of as many channels as timm was asked for
        if not uniform and values != expected:
            remedy = (
                "ciphertext is normalised as the record says, and not resized: take the config.json of this encryption, "
                "and build the model without pretrained_cfg_overlay for these"
            )
            shown = " ".join(map(str, dict.fromkeys(expected)))
            raise SchemeMismatchError(f"model: pretrained_cfg {name}", shown, f"{value}", remedy)


def bare_cfg(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of an architecture whose encrypted weights are still to come: it takes ciphertext."""
    grey = (MID_GREY,) * len(cfg.get("mean", (0, 0, 0)))
    return {**cfg, "mean": grey, "std": grey, "crop_pct": 1.0, "crop_mode": "center", "first_conv": None}


def plain_cfg(cfg: Mapping[str, Any], scheme: Scheme) -> dict[str, Any]:
    """Return an encrypted model's `pretrained_cfg` as the plain model had it, from the record."""
    if scheme.plain is None:
        raise SchemeError("record: plain", "the plain model's preprocessing", "none", "encrypt the plain model again")
    kept = {name: value for name, value in cfg.items() if name not in (*_SOURCE_FIELDS, "notes")}
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in scheme.plain.to_dict().items()}
    notes = _other_notes(cfg)
    return {**kept, **fields, "first_conv": scheme.stem, **({"notes": notes} if notes else {})}


def _other_notes(cfg: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(note for note in cfg.get("notes") or () if not str(note).startswith(NOTE_PREFIX))


def preprocessing_of(
    cfg: Mapping[str, Any], channels: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Preprocessing:
    """Read a plain model's preprocessing from its `pretrained_cfg`; `mean` and `std` take precedence.

    Raises:
        SchemeError: The configuration has no normalisation for this many channels and none was given, or what was given is not
            one.
    """
    if (mean is None) != (std is None):
        raise SchemeError("mean and std", "both or neither", "one of them", "pass both")
    if mean is None and not (cfg.get("mean") and cfg.get("std")):
        raise SchemeError("model", "a pretrained_cfg with mean and std", "none", "pass mean=... and std=..., one per channel")
    data: dict[str, Any] = resolve_data_config(pretrained_cfg=dict(cfg) or {"input_size": (channels, 224, 224)})  # type: ignore[no-untyped-call]
    if mean is not None and std is not None:
        data.update(mean=per_channel("mean", mean, channels), std=per_channel("std", std, channels))
    if len(data["mean"]) != channels or len(data["std"]) != channels:
        raise SchemeError(
            "model",
            f"a mean and a std for each of its {channels} input channels",
            f"{len(data['mean'])}",
            "in_chans was changed: pass mean=... and std=... that the weights were trained with",
        )
    test_size = cfg.get("test_input_size")
    return Preprocessing(
        input_size=(channels, *data["input_size"][1:]),
        mean=data["mean"],
        std=data["std"],
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        crop_mode=data["crop_mode"],
        test_input_size=(channels, *test_size[1:]) if test_size else None,
        test_crop_pct=cfg.get("test_crop_pct"),
    )


def per_channel(name: str, values: Any, channels: int | None = None) -> tuple[float, ...]:
    """Return a caller's mean or std as numbers.

    Args:
        name: "mean" or "std".
        values: What the caller gave.
        channels: How many there must be; None takes any number of them.

    Raises:
        SchemeError: It is no list of so many numbers in the range that a record allows, or a std is not above 0.
    """
    try:
        numbers = () if isinstance(values, (str, bytes)) else tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    fits = len(numbers) == channels if channels is not None else bool(numbers)
    lowest = min(numbers, default=0.0)
    if not fits or not all(abs(number) <= LARGEST_NORMALISATION for number in numbers) or (name == "std" and lowest <= 0):
        range_ = f"above 0, up to {LARGEST_NORMALISATION}" if name == "std" else f"up to {LARGEST_NORMALISATION}"
        expected = f"{channels or 'a list of'} numbers {range_}, one per channel"
        raise SchemeError(name, expected, repr(values)[:100], f"pass {name}=(..., ..., ...) (--{name} ...,...,...)")
    return numbers
