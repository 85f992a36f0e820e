"""Somebody who has the encrypted model and the plain weights that it was made from, or relatives of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.alignment import nearest_signed_permutation, polar
from timm_encmixer.audit.methods.key_space import KeySpace
from timm_encmixer.audit.pipeline import stem_rows
from timm_encmixer.audit.recovery import RecoveredKey
from timm_encmixer.scheme import Scheme


@dataclass(frozen=True, kw_only=True)
class PublicBaseWeights(Attack):
    """The columns of two stems, matched; with noise on the owner's stem to see how unlike they may be."""

    name = "public_base_weights"
    attacker = "somebody who has the encrypted model and public weights that it was made from"
    material: ClassVar[tuple[str, ...]] = ("encrypted_model", "base_model")
    citation = "our own"
    curve = Curve(
        "noise", "noise on the stem, in standard deviations of its weights", (4, 2, 1, 0.5, 0), (8, 4, 2, 1, 0.5, 0), False
    )
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Has the key at once: never encrypt a model whose plain weights, or relatives of them, are public.",
        PARTLY: "Gets part of the key: the public weights are distant relatives.",
        HOLDS: "Does not get the key: these weights are no relatives.",
    }
    advice = (
        "Train weights of your own, the stem from random ones (fine-tuning public ones is not enough), and "
        "keep the plain ones to yourself."
    )

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Match the stems."""
        plain, encrypted = (stem_rows(model, held.scheme) for model in (held.base_model, held.encrypted_model))
        return RecoveredKey(match_rows(plain, encrypted, held.scheme))


@dataclass(frozen=True, kw_only=True)
class FinetunedBaseWeights(PublicBaseWeights):
    """The same after the owner has fine-tuned the whole model."""

    name = "finetuned_base_weights"
    attacker = "somebody who has the encrypted model and the public weights that it was fine-tuned from"
    material = ("encrypted_model", "base_model", "labelled")
    curve = Curve("epochs", "epochs of fine-tuning by the owner", (0, 2), (0, 5, 20), False)
    work = 1.9


def match_rows(plain: Tensor, encrypted: Tensor, scheme: Scheme) -> Tensor:
    """Return the A for which encrypted = plain A^T comes nearest; rows of shape (n, D), float64.

    For signed permutations the columns are matched by cosine, one to one; else it is a Procrustes problem.
    """
    if not scheme.exact:
        return polar(encrypted.T @ plain)
    unit = [rows / rows.norm(dim=0).clamp(min=1e-12) for rows in (plain, encrypted)]
    cosine = unit[1].T @ unit[0]
    return nearest_signed_permutation(cosine, KeySpace.of(scheme))
