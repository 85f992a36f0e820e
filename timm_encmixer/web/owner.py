"""The model's owner, whom the demo plays as it starts: makes a key, encrypts the model, and hands the key to the page."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import timm
from torch import nn

from timm_encmixer.bundled import BUNDLED_MODEL, bundled_images
from timm_encmixer.checkpoints.loading import ModelLike, load_model
from timm_encmixer.errors import EncMixerError, SchemeError, SourceError
from timm_encmixer.keys import SecretKey
from timm_encmixer.models.encryption import encrypt_model
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import BLOCK_CIPHERS, DEFAULT_CIPHER, SCRAMBLE, facts_of

_IMAGES = [cipher for cipher in BLOCK_CIPHERS if facts_of(cipher).exact]
DEMO_CIPHERS = (DEFAULT_CIPHER, *(cipher for cipher in _IMAGES if cipher != DEFAULT_CIPHER), f"{DEFAULT_CIPHER}+{SCRAMBLE}")


@dataclass(frozen=True)
class Published:
    """What an owner hands out.

    Args:
        models: Encrypted models by cipher, for the server. All are of one key.
        classes: Names of the classes, in the order of the models' outputs.
        plain: The plain model, which the samples are compared with; None where the owner gave an encrypted one.
        key: The key, for the page; None where only its user has it.
    """

    models: Mapping[str, nn.Module]
    classes: Sequence[str]
    plain: nn.Module | None = None
    key: SecretKey | None = field(default=None, repr=False)


def publish(source: ModelLike) -> Published:
    """Make a key and encrypt a plain model with it, by each of `DEMO_CIPHERS` that it can take. Take an encrypted one as it is.

    Raises:
        StemError, SchemeError: As for `encrypt_model`, by the first cipher.
        SchemeError: The encrypted model's ciphertext is no image.
    """
    model = load_model(source)
    scheme, classes = scheme_of(model), class_names(model)
    if scheme is not None:
        if not scheme.exact:
            remedy = "encrypt the model with another cipher"
            raise SchemeError("model", "a cipher whose ciphertext is an image", scheme.cipher, remedy)
        return Published({scheme.cipher: model}, classes)
    key = SecretKey.generate()
    models = {DEMO_CIPHERS[0]: encrypt_model(model, key, cipher=DEMO_CIPHERS[0]).eval()}
    for cipher in DEMO_CIPHERS[1:]:
        with contextlib.suppress(EncMixerError):  # of blocks that it cannot have, or whose order the model cannot follow
            models[cipher] = encrypt_model(model, key, cipher=cipher).eval()
    return Published(models, classes, model, key)


def class_names(model: nn.Module) -> list[str]:
    """Return the names of a model's classes: those of its configuration, of ImageNet, or of the bundled model, else numbers.

    Raises:
        SourceError: The model has no classes.
    """
    cfg = getattr(model, "pretrained_cfg", {})
    count = int(getattr(model, "num_classes", 0) or 0)
    if count < 1:
        remedy = "take one with a classifier"
        raise SourceError("model", "a classifier", "a model without classes", remedy)
    named = cfg.get("label_names")
    if isinstance(named, (list, tuple)) and len(named) == count:
        return [str(name) for name in named]
    subset = timm.data.infer_imagenet_subset(model)
    if subset is not None:
        info = timm.data.ImageNetInfo(subset)
        return [info.index_to_description(index) for index in range(count)]
    bundled = bundled_images()[2]
    if cfg.get("architecture") == BUNDLED_MODEL.partition(".")[0] and count == len(bundled):
        return bundled
    return [f"class {index}" for index in range(count)]
