"""The keyed transforms of one block, and `BlockCipher`, which applies them to images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
