"""From a key and a scheme to the keyed map of a block: the one derivation, whatever the map is applied to."""

from __future__ import annotations

import numpy as np

from timm_encmixer.ciphers.key_stream import KeyStream
from timm_encmixer.ciphers.keyed_map import KeyedMap
from timm_encmixer.ciphers.parts import MAKERS
from timm_encmixer.ciphers.signed_permutation import SignedPermutation
from timm_encmixer.keys import SecretKey
from timm_encmixer.scheme import Scheme


def derive_map(key: SecretKey, scheme: Scheme) -> KeyedMap:
    """Derive each part of `a+b` from a purpose of its own and compose them, a first. Source: docs/format.md."""
    whole: KeyedMap | None = None
    for part in scheme.facts.parts:
        purpose = f"cipher={scheme.cipher}/part={part.name}/C={scheme.in_chans}/P={scheme.patch_size}"
        if part.moves == "blocks":
            assert scheme.grid is not None  # Scheme has seen to it
            rows, columns = scheme.grid
            order = KeyStream(key.derive(f"{purpose}/grid={rows}x{columns}")).permutation(rows * columns)
            whole = (whole or SignedPermutation.identity(scheme.block_size)).permuted(np.array(order))
            continue
        mapping = MAKERS[part.name](KeyStream(key.derive(purpose)), scheme.in_chans, scheme.patch_size)
        whole = mapping if whole is None else whole.then(mapping)
    assert whole is not None  # a cipher has parts
    return whole
