"""Encryption on one process or many, on top of accelerate: docs/training.md.

accelerate starts the processes, shards the data and moves tensors; this package shares the key and the encrypted model among
the processes, encrypts batches on the device, and turns accelerate's silent mishaps into errors.
"""

from timm_encmixer.distributed.loaders import EncryptedLoader as EncryptedLoader
from timm_encmixer.distributed.loaders import prepare_encrypted as prepare_encrypted
from timm_encmixer.distributed.models import load_encrypted as load_encrypted
from timm_encmixer.distributed.models import save_encrypted as save_encrypted
from timm_encmixer.distributed.processes import check_launch as check_launch
from timm_encmixer.distributed.processes import exit_on_error as exit_on_error
from timm_encmixer.distributed.processes import leave as leave
from timm_encmixer.distributed.processes import on_every_process as on_every_process
from timm_encmixer.distributed.processes import same_everywhere as same_everywhere
from timm_encmixer.distributed.shared_key import share_key as share_key
