"""Key-based encryption of ConvMixer models and images, as a timm plugin.

Importing this package registers the `encmixer_*` names with timm; that is its only side effect. torch and timm are loaded
when they are first needed (docs/adr/0001), so that the command line answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from timm_encmixer.timm_plugin.registration import register_with_timm

if TYPE_CHECKING:
    from timm_encmixer.checkpoints.encryption import decrypt_checkpoint as decrypt_checkpoint
    from timm_encmixer.checkpoints.encryption import encrypt_checkpoint as encrypt_checkpoint
    from timm_encmixer.checkpoints.encryption import rotate_checkpoint as rotate_checkpoint
    from timm_encmixer.checkpoints.encryption import save_model as save_model
    from timm_encmixer.checkpoints.pull import pull_from_hub as pull_from_hub
    from timm_encmixer.checkpoints.seal import open_model as open_model
    from timm_encmixer.checkpoints.seal import seal_model as seal_model
    from timm_encmixer.ciphers import BlockCipher as BlockCipher
    from timm_encmixer.datasets import decrypt_dataset as decrypt_dataset
    from timm_encmixer.datasets import encrypt_dataset as encrypt_dataset
    from timm_encmixer.datasets import push_dataset as push_dataset
    from timm_encmixer.distributed import EncryptedLoader as EncryptedLoader
    from timm_encmixer.distributed import load_encrypted as load_encrypted
    from timm_encmixer.distributed import prepare_encrypted as prepare_encrypted
    from timm_encmixer.distributed import save_encrypted as save_encrypted
    from timm_encmixer.distributed import share_key as share_key
    from timm_encmixer.errors import EncMixerError as EncMixerError
    from timm_encmixer.errors import KeyMismatchError as KeyMismatchError
    from timm_encmixer.images.encryption import decrypt_images as decrypt_images
    from timm_encmixer.images.encryption import encrypt_images as encrypt_images
    from timm_encmixer.images.transform import create_transform as create_transform
    from timm_encmixer.keys import SecretKey as SecretKey
    from timm_encmixer.models.encryption import decrypt_model as decrypt_model
    from timm_encmixer.models.encryption import encrypt_model as encrypt_model
    from timm_encmixer.models.encryption import rotate_model as rotate_model
    from timm_encmixer.models.encryption import scheme_of as scheme_of
    from timm_encmixer.publishing.push import push_to_hub as push_to_hub
    from timm_encmixer.scheme import CIPHERS as CIPHERS
    from timm_encmixer.scheme import SCRAMBLING_CIPHERS as SCRAMBLING_CIPHERS
    from timm_encmixer.scheme import Scheme as Scheme

_HOMES = {
    "CIPHERS": "scheme",
    "SCRAMBLING_CIPHERS": "scheme",
    "BlockCipher": "ciphers",
    "EncMixerError": "errors",
    "EncryptedLoader": "distributed",
    "KeyMismatchError": "errors",
    "Scheme": "scheme",
    "SecretKey": "keys",
    "create_transform": "images.transform",
    "decrypt_checkpoint": "checkpoints.encryption",
    "decrypt_dataset": "datasets",
    "decrypt_images": "images.encryption",
    "decrypt_model": "models.encryption",
    "encrypt_checkpoint": "checkpoints.encryption",
    "encrypt_dataset": "datasets",
    "encrypt_images": "images.encryption",
    "encrypt_model": "models.encryption",
    "load_encrypted": "distributed",
    "open_model": "checkpoints.seal",
    "prepare_encrypted": "distributed",
    "pull_from_hub": "checkpoints.pull",
    "push_dataset": "datasets",
    "push_to_hub": "publishing.push",
    "rotate_checkpoint": "checkpoints.encryption",
    "rotate_model": "models.encryption",
    "save_encrypted": "distributed",
    "save_model": "checkpoints.encryption",
    "scheme_of": "models.encryption",
    "seal_model": "checkpoints.seal",
    "share_key": "distributed",
}
_PACKAGES = ("audit", "datasets", "distributed")
__all__ = [*_HOMES]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_timm()
