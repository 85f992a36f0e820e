"""Somebody who has the plain model and makes images that it misreads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.recovery import AdversarialImages
from timm_encmixer.scheme import Preprocessing

EPSILON = 4  # of 255


@dataclass(frozen=True, kw_only=True)
class AdversarialTransfer(Attack):
    """Projected gradient descent on the public plain model; the images go through the keyed pipeline as anybody's would.

    Args:
        points: As for every attack.
        count: Images that are changed.
        steps: Steps of gradient descent.
    """

    count: int = budgeted(50, 200)
    steps: int = 10

    name = "adversarial_transfer"
    place = 210
    attacker = "somebody who has public weights that the model was made from, and sends images to someone who encrypts them"
    material = ("base_model", "labelled")
    citation = "Madry et al. (arXiv 1706.06083), with foolbox (Rauber et al., arXiv 1707.04131)"
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Fools the keyed pipeline as easily as the plain model: it computes the same function.",
        PARTLY: "Fools the keyed pipeline with part of what fools the plain model.",
        HOLDS: "Does not fool the keyed pipeline with what fools the plain model.",
    }
    advice = "Do not count on the key against adversarial examples: use a robust model."
    work = 3.5

    def attack(self, held: Held, effort: Effort) -> AdversarialImages:
        """Make them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries that foolbox imports
            from foolbox.attacks import LinfPGD
            from foolbox.models.pytorch import PyTorchModel
        images, labels = (tensor[: self.count] for tensor in held.labelled)
        assert held.scheme.plain is not None  # the record of an encrypted model
        model = PyTorchModel(_WithNormalisation(held.base_model, held.scheme.plain).eval(), bounds=(0, 1), device="cpu")
        made = []
        for batch, answers in zip(torch.split(images, 50), torch.split(labels, 50), strict=True):
            _, found, _ = LinfPGD(steps=self.steps)(model, batch.float() / 255, answers, epsilons=(EPSILON - 0.5) / 255)
            made.append((found * 255).round().to(torch.uint8))
        return AdversarialImages(torch.cat(made), EPSILON)


class _WithNormalisation(nn.Module):
    def __init__(self, model: nn.Module, plain: Preprocessing) -> None:
        super().__init__()
        self.model = model
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(plain, name)).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        normalised = (images - self.get_buffer("mean")) / self.get_buffer("std")
        return self.model(normalised.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]
