"""What the key protects and what it does not, in the words that every command, message and help share."""

from __future__ import annotations

LIMITS = (
    "The key is access control and visual obfuscation at no cost; it does not make images or weights confidential:",
    "many ciphertexts, one plain/encrypted pair, or the plain weights give it away.",
)
MORE = "encmixer --help says what a key protects"  # the documents are not in the wheel
