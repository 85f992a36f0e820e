"""Reading the public record of a checkpoint: from config.json and from the weights' metadata, which must agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm_encmixer.errors import CheckpointError
from timm_encmixer.scheme import Scheme, scheme_in_notes

RECORD_NAME = "encmixer"  # in config.json, in safetensors metadata, and in a data set's manifest
_REMEDY = "take config and weights from the same encryption"


def read_record(config: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, *, where: str) -> Scheme | None:
    """Return a checkpoint's record, None for a plain one.

    Args:
        config: config.json as `read_config` returns it; None where there is none, or where it is not to be asked.
        metadata: The metadata in the header of model.safetensors; None where it is not known.
        where: The checkpoint, for messages.

    Raises:
        SchemeError: A record is malformed or of an unknown version.
        CheckpointError: Config and weights hold different records, or the config names another architecture than the record.
    """
    text = (metadata or {}).get(RECORD_NAME)
    in_weights = Scheme.from_json(str(text), where=f"{where}: record in the weights") if text is not None else None
    if config is None:
        return in_weights
    in_notes = scheme_in_notes(config["pretrained_cfg"].get("notes"))
    block = config.get(RECORD_NAME)
    scheme = in_notes if block is None else Scheme.from_dict(block, where=f"{where}: record in config.json")
    if in_weights is not None and scheme != in_weights:
        raise CheckpointError(where, "one record in config.json and model.safetensors", "two different ones", _REMEDY)
    if in_notes is not None and scheme != in_notes:
        expected = "one record at the top of config.json and in pretrained_cfg.notes"
        raise CheckpointError(f"{where}: config.json", expected, "two different ones", _REMEDY)
    if scheme is not None and scheme.base_architecture not in (None, config["architecture"]):
        expected, got = f"the record's architecture {scheme.base_architecture}", repr(config["architecture"])
        raise CheckpointError(f"{where}: config.json", expected, got, _REMEDY)
    return scheme
