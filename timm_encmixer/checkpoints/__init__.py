"""Models on disk and on the Hub: safetensors and config.json, read, written, encrypted and sealed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
