"""The keyed transforms of one block, and `BlockCipher`, which applies them to images."""

from timm_encmixer.ciphers.cipher import BlockCipher as BlockCipher

__all__ = ["BlockCipher"]
