"""Encryption on one process or many, on top of accelerate: docs/training.md.

accelerate starts the processes, shards the data and moves tensors; this package shares the key and the encrypted model among
the processes, encrypts batches on the device, and turns accelerate's silent mishaps into errors.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
