"""Building an encrypted model inside `timm.create_model`: load plain weights and encrypt them, or load encrypted ones.

`timm.create_model` would write the key into config.json, and loads `checkpoint_path` after the entrypoint has returned.
create_model.py and docs/adr/0004 say how both are met.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError, safe_open
from timm.models import resolve_pretrained_cfg
from torch import nn

from timm_encmixer.checkpoints.checkpoint import Checkpoint, check_weights
from timm_encmixer.checkpoints.config_file import LOCAL_PREFIX, WEIGHTS_NAME, path_in
from timm_encmixer.checkpoints.loading import check_loaded
from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.checkpoints.sources import find_source, provenance_of
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import MissingKeyError, PublicWeightsWarning, SchemeError, SourceError, StemError, warn_caller
from timm_encmixer.hub.client import HUB_PREFIX, repository_in
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.encryption import encrypt_model
from timm_encmixer.models.pretrained_cfg import cfg_dict, scheme_in_cfg
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.models.record import attach_scheme, scheme_of, withdraw_plain_input
from timm_encmixer.models.stem_sketch import StemSketch
from timm_encmixer.scheme import DEFAULT_CIPHER, Scheme
from timm_encmixer.timm_plugin.create_model import checkpoint_path_of_caller, without_our_arguments

_Record = tuple[Scheme | None, StemSketch | None]


def build_from_base(
    base: str, pretrained: bool, *, key: KeyLike | None = None, cipher: str | None = None, **kwargs: Any
) -> nn.Module:
    """Build any plain model that `timm.create_model` can name, and encrypt it; `encmixer_custom` has the arguments."""
    if not isinstance(base, str) or base.startswith("encmixer_"):
        raise SourceError("base", "a plain model's name", repr(base), "create that model itself")
    kwargs.pop("pretrained_cfg", None)  # that of encmixer_custom; the base has its own
    checkpoint_path = checkpoint_path_of_caller()
    scheme, sketch = _record_of_checkpoint_path(Path(checkpoint_path), base, key) if checkpoint_path else (None, None)
    pretrained = pretrained and not checkpoint_path
    provenance = Provenance()
    if path_in(base) is not None or repository_in(base) is not None:
        source = find_source(base, cache_dir=kwargs.get("cache_dir"))
        checkpoint, provenance = source.checkpoint, source.provenance
        if checkpoint.config is not None:
            check_weights(checkpoint.weights, checkpoint.config, where=base)
        if checkpoint.scheme is not None:
            _refuse_plain_checkpoint(checkpoint_path, scheme, base)
            _refuse_overlay(kwargs.get("pretrained_cfg_overlay"), checkpoint.scheme)
        base = f"{LOCAL_PREFIX}{checkpoint.path}"
    elif pretrained:
        cfg = cfg_dict(resolve_pretrained_cfg(*_name_and_tag(base), kwargs.get("pretrained_cfg_overlay")))
        provenance, file = provenance_of(cfg), _verified_file(cfg, kwargs.get("cache_dir"))
        kwargs["pretrained_cfg_overlay"] = {**(kwargs.get("pretrained_cfg_overlay") or {}), **file}
    model = timm.create_model(base, pretrained=pretrained, **kwargs)
    return _finish(model, pretrained, (scheme or scheme_of(model), sketch), key, cipher, provenance)


def with_record_of_file(model: nn.Module, pretrained: bool) -> nn.Module:
    """Return a plain model that was just built; with the record, if the weights are an encrypted file's.

    They come from `pretrained_cfg["file"]`, or `timm.create_model(checkpoint_path=...)` is about to load them.
    """
    untyped: Any = model
    path = checkpoint_path_of_caller()
    file = path or (untyped.pretrained_cfg.get("file") if pretrained else None)
    if file and scheme_in_cfg(untyped.pretrained_cfg) is None and _may_have_record(Path(file)):
        checkpoint = _checkpoint_at(Path(file))
        if checkpoint is not None and checkpoint.scheme is not None:
            checkpoint.check_stem()
            attach_scheme(model, checkpoint.scheme, checkpoint.sketch)
    return model


def _may_have_record(path: Path) -> bool:
    """Whether a file's metadata names a record, as far as it can be read; what cannot is reported where it is loaded."""
    path = path / WEIGHTS_NAME if path.is_dir() else path
    try:
        with safe_open(str(path), framework="pt") as file:
            return RECORD_NAME in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _checkpoint_at(path: Path) -> Checkpoint | None:
    """Open what can have a record: a folder or a .safetensors file."""
    return Checkpoint.open(path) if path.is_dir() or path.suffix == ".safetensors" else None


def _refuse_plain_checkpoint(checkpoint_path: str | None, scheme: Scheme | None, base: str) -> None:
    """Refuse to have timm load a file without a record over an encrypted model."""
    if checkpoint_path and scheme is None:
        remedy = "take an encrypted .safetensors file, or the plain model as base"
        raise SourceError(f"{base}: checkpoint_path", "a file with the record of an encryption", str(checkpoint_path), remedy)


def _refuse_overlay(overlay: dict[str, Any] | None, scheme: Scheme) -> None:
    """Refuse to change how encrypted weights want their input: the record says it, and ciphertext takes no other."""
    changed = sorted({"mean", "std", "crop_pct", "crop_mode", "interpolation", "input_size"} & set(overlay or {}))
    if changed:
        where, expected = f"pretrained_cfg_overlay: {changed[0]}", "what the record of the encrypted weights says"
        raise SchemeError(where, expected, repr((overlay or {})[changed[0]]), "leave it out")


def build_encrypted(
    base: str,
    variant: str,
    pretrained: bool,
    *,
    key: KeyLike | None = None,
    cipher: str | None = None,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build the plain architecture `base` with the configuration of `variant`, and encrypt what was loaded into it."""
    cfg = {**cfg_dict(resolve_pretrained_cfg(variant, pretrained_cfg, pretrained_cfg_overlay)), "architecture": base}
    in_chans = kwargs.get("in_chans", cfg["input_size"][0])
    if pretrained and in_chans != cfg["input_size"][0]:
        raise StemError(
            f"{variant}: in_chans",
            f"{cfg['input_size'][0]}, as the weights have",
            f"{in_chans}",
            "encrypted kernels cannot be adapted; adapt the plain model and call encrypt_model(model, key, mean=, std=)",
        )
    provenance = provenance_of(cfg) if pretrained else Provenance()
    if pretrained:
        cfg.update(_verified_file(cfg, cache_dir))
    scheme, sketch = _record_of_source(cfg) if pretrained else (scheme_in_cfg(cfg), None)
    checkpoint_path = checkpoint_path_of_caller()
    if checkpoint_path:
        scheme, sketch = _record_of_checkpoint_path(Path(checkpoint_path), variant, key)
        pretrained = False  # timm loads the checkpoint over whatever is there
    elif pretrained and scheme is None:
        key = _needed_key(key, variant)
    if scheme is not None:
        _refuse_overlay(pretrained_cfg_overlay, scheme)
    plain_build: dict[str, Any] = {"pretrained_cfg": cfg, "cache_dir": cache_dir, **kwargs}
    model = timm.models.model_entrypoint(base)(pretrained=pretrained, **plain_build)
    return _finish(model, pretrained, (scheme, sketch), key, cipher, provenance)


def _finish(
    model: nn.Module,
    pretrained: bool,
    record: _Record,
    key: KeyLike | None,
    cipher: str | None,
    provenance: Provenance,
) -> nn.Module:
    """Encrypt a plain model, or attach the record of weights that are encrypted already; keep the key out of timm's hands."""
    scheme, sketch = record
    if scheme is not None:
        if cipher not in (None, scheme.cipher):
            raise SchemeError("cipher", f"{scheme.cipher}, as the weights have", repr(cipher), "leave cipher= out")
        if key is not None:
            BlockCipher(find_key(key), scheme)  # raises KeyMismatchError
        attach_scheme(model, scheme, sketch)
        if pretrained:
            check_loaded(model, "create_model")
    elif key is not None or pretrained:
        model = encrypt_model(model, _needed_key(key, "create_model"), cipher=cipher or DEFAULT_CIPHER)
        if pretrained:
            untyped: Any = model
            untyped.pretrained_cfg = untyped.default_cfg = provenance.noted_in(untyped.pretrained_cfg)
        if pretrained and provenance.public:
            warn_caller(provenance.warning, PublicWeightsWarning)
    else:
        withdraw_plain_input(model)
    return without_our_arguments(model)


def _needed_key(key: KeyLike | None, variant: str) -> SecretKey:
    try:
        return find_key(key, where=variant)
    except MissingKeyError as error:
        remedy = f"{error.remedy}; for the plain model take the name convmixer_..."
        raise MissingKeyError(error.where, "a key to encrypt the pretrained weights with", error.got, remedy) from error


def _name_and_tag(name: str) -> tuple[str, str | None]:
    architecture, _, tag = name.partition(".")
    return architecture, tag or None


def _verified_file(cfg: dict[str, Any], cache_dir: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Bring weights that timm would load from the Hub, unverified, here; return where it is to take them from instead."""
    named_here = cfg.get("source") != "hf-hub" and (cfg.get("state_dict") or cfg.get("file"))
    if not cfg.get("hf_hub_id") or named_here:
        return {}
    checkpoint = find_source(f"{HUB_PREFIX}{cfg['hf_hub_id']}", cache_dir=cache_dir).checkpoint  # config and weights agree
    return {"file": str(checkpoint.weights.path), "source": "", "state_dict": None}  # which would go before the file


def _record_of_source(cfg: dict[str, Any]) -> _Record:
    """Return the record and the sketch of the weights that timm is about to load, None when they are plain."""
    scheme = scheme_in_cfg(cfg)
    if scheme is not None or cfg.get("state_dict") or not cfg.get("file"):
        return scheme, None
    checkpoint = _checkpoint_at(Path(cfg["file"]))
    return (None, None) if checkpoint is None else (checkpoint.scheme, checkpoint.sketch)


def _record_of_checkpoint_path(path: Path, variant: str, key: KeyLike | None) -> _Record:
    """Return the record and the sketch of the file that `timm.create_model(checkpoint_path=...)` is about to load.

    Raises:
        SourceError: A key was given and the file has no record: timm loads it as it is, so it cannot be encrypted here.
    """
    checkpoint = _checkpoint_at(path)
    if checkpoint is not None and checkpoint.scheme is not None:
        checkpoint.check_stem()
        return checkpoint.scheme, checkpoint.sketch
    if key is not None:
        raise SourceError(
            f"{variant}: checkpoint_path",
            "an encrypted .safetensors file with its record, or no key=",
            str(path),
            "to encrypt on load: pretrained=True, pretrained_cfg_overlay=dict(file=PATH)",
        )
    warn_caller(f"{path} has no record of an encryption; timm loads it as it is")
    return None, None
