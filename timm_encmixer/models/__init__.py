"""timm models in memory: which of them can be encrypted, and encrypting them."""
