"""The Hugging Face Hub, and nothing about models: verified files of one commit, commits, cards, and the search for keys."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
