"""The map of a block, from the same rows before and after it: of two stems, or of blocks both plain and encrypted."""

from __future__ import annotations

from torch import Tensor

from timm_encmixer.audit.methods.alignment import nearest_signed_permutation, polar
from timm_encmixer.audit.methods.key_space import KeySpace
from timm_encmixer.scheme import Scheme


def match_rows(plain: Tensor, encrypted: Tensor, scheme: Scheme) -> Tensor:
    """Return the A for which encrypted = plain A^T comes nearest; rows of shape (n, D), float64.

    For signed permutations the columns are matched by cosine, one to one; else it is a Procrustes problem.
    """
    if not scheme.exact:
        return polar(encrypted.T @ plain)
    unit = [rows / rows.norm(dim=0).clamp(min=1e-12) for rows in (plain, encrypted)]
    cosine = unit[1].T @ unit[0]
    return nearest_signed_permutation(cosine, KeySpace.of(scheme))
