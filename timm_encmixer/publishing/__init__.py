"""Encrypted models on their way to the Hub: checked, described in a card, and committed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
