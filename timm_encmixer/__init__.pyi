# The package's public names, once: lazy_loader reads this file as the program runs, type checkers before.
from . import audit as audit
from . import datasets as datasets
from . import distributed as distributed
from .checkpoints.checkpoint import save_model as save_model
from .checkpoints.encryption import decrypt_checkpoint as decrypt_checkpoint
from .checkpoints.encryption import encrypt_checkpoint as encrypt_checkpoint
from .checkpoints.encryption import rotate_checkpoint as rotate_checkpoint
from .checkpoints.pull import pull_from_hub as pull_from_hub
from .checkpoints.seal import open_model as open_model
from .checkpoints.seal import seal_model as seal_model
from .ciphers.cipher import BlockCipher as BlockCipher
from .datasets.encryption import decrypt_dataset as decrypt_dataset
from .datasets.encryption import encrypt_dataset as encrypt_dataset
from .datasets.push import push_dataset as push_dataset
from .distributed.loaders import EncryptedLoader as EncryptedLoader
from .distributed.loaders import prepare_encrypted as prepare_encrypted
from .distributed.models import load_encrypted as load_encrypted
from .distributed.models import save_encrypted as save_encrypted
from .distributed.shared_key import share_key as share_key
from .errors import EncMixerError as EncMixerError
from .errors import KeyMismatchError as KeyMismatchError
from .images.encryption import decrypt_images as decrypt_images
from .images.encryption import encrypt_images as encrypt_images
from .images.transform import create_transform as create_transform
from .keys import SecretKey as SecretKey
from .models.encryption import decrypt_model as decrypt_model
from .models.encryption import encrypt_model as encrypt_model
from .models.encryption import rotate_model as rotate_model
from .models.encryption import scheme_of as scheme_of
from .publishing.push import push_to_hub as push_to_hub
from .scheme import CIPHERS as CIPHERS
from .scheme import SCRAMBLING_CIPHERS as SCRAMBLING_CIPHERS
from .scheme import Scheme as Scheme

__version__: str
