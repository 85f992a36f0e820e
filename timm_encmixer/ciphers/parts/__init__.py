"""The parts of ciphers, a file each: from a stream of the key to the map of a block.

`docs/format.md` says what each draws from its stream, and `timm_encmixer/scheme/cipher_facts.py` what it does to images.
"""

from __future__ import annotations

from collections.abc import Callable

from timm_encmixer.ciphers.key_stream import KeyStream
from timm_encmixer.ciphers.keyed_map import KeyedMap
from timm_encmixer.ciphers.parts.etc import etc
from timm_encmixer.ciphers.parts.negpos import negpos
from timm_encmixer.ciphers.parts.orthogonal import orthogonal
from timm_encmixer.ciphers.parts.shuffle import shuffle
from timm_encmixer.ciphers.parts.shuffle_planes import shuffle_planes

# By name: takes a stream, the channels C and the side P of a block in pixels. Blocks are moved in derivation.py.
MAKERS: dict[str, Callable[[KeyStream, int, int], KeyedMap]] = {
    "shuffle": shuffle,
    "negpos": negpos,
    "orthogonal": orthogonal,
    "shuffle-planes": shuffle_planes,
    "etc": etc,
}
