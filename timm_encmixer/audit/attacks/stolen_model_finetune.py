"""A thief who has the encrypted model and some labelled plain images, and makes it read plain images again."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.training import fit
from timm_encmixer.audit.pipeline import classify
from timm_encmixer.audit.recovery import RecoveredModels
from timm_encmixer.images.tensors import normalise
from timm_encmixer.models.patch_stem import find_stem
from timm_encmixer.models.record import scheme_of


@dataclass(frozen=True, kw_only=True)
class StolenModelFinetune(Attack):
    """Retrains the stem alone, and the whole model, on plain images; compared with training from scratch on the same.

    Args:
        points: As for every attack.
        trained: Images that each training sees, over all its passes; there are 4 to 40 passes.
        epochs: Passes over the images, whatever `trained` is; None leaves them to that.
    """

    trained: int = budgeted(1500, 12000)
    epochs: int | None = None

    name = "stolen_model_finetune"
    place = 200
    attacker = "a thief who has the encrypted model and some labelled plain images"
    material = ("encrypted_model", "labelled")
    citation = "fine-tuning attack on access control: Kiya et al. (arXiv 2201.11006)"
    curve = Curve("labelled", "labelled plain images", (250,), (100, 250, 500, 2000))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Has a model as good as yours for the price of this many labelled images.",
        PARTLY: "Has an impaired model; compare it with the one trained from scratch on the same images.",
        HOLDS: "Has no use of the model with this many images.",
    }
    advice = (
        "Compare with training from scratch: what lies above it is what the encrypted model gives away. Limit who can have it."
    )
    work = 23.0

    def attack(self, held: Held, effort: Effort) -> RecoveredModels:
        """Train three models."""
        images, labels = held.labelled
        inputs = normalise(images, scheme=held.scheme)
        epochs = self.epochs or max(4, min(40, self.trained // len(images)))
        track = functools.partial(effort.track, share=1 / 3)
        classifiers: dict[str, Callable[[Tensor], Tensor]] = {}
        for name, rate in (("stem only", 1e-2), ("whole model", 3e-3)):
            model, stem = _stolen(held)
            chosen = list(stem.parameters()) if name == "stem only" else list(model.parameters())
            fit(model, chosen, inputs, labels, epochs=epochs, learning_rate=rate, seed=effort.seed, track=track)
            classifiers[f"accuracy, {name}"] = _classifier(model)
        model, _ = _stolen(held)
        model.apply(_reset)
        fit(model, list(model.parameters()), inputs, labels, epochs=epochs, learning_rate=5e-3, seed=effort.seed, track=track)
        return RecoveredModels(classifiers, {"accuracy, from scratch": _classifier(model)})


def _stolen(held: Held) -> tuple[nn.Module, nn.Conv2d]:
    model = copy.deepcopy(held.encrypted_model)
    scheme = scheme_of(model)
    assert scheme is not None  # an encrypted model
    return model, find_stem(model, scheme.stem)[1]


def _reset(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()


def _classifier(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda plain: classify(model, plain)
