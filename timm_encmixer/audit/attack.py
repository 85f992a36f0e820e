"""The base of all attacks: it hands out material, runs the attack, and measures the result itself (as in foolbox)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.citation import Cited
from timm_encmixer.audit.effort import Budgeted, Curve, Effort, are_numbers
from timm_encmixer.audit.material import MATERIAL, Held
from timm_encmixer.audit.measures import Measurement, measure
from timm_encmixer.audit.pipeline import accuracy
from timm_encmixer.audit.recovery import Recovery
from timm_encmixer.audit.target import Target, Truth
from timm_encmixer.audit.visual_similarity import Likeness
from timm_encmixer.errors import AuditError, SchemeError
from timm_encmixer.scheme import DEFAULT_CIPHER, CipherFacts

BROKEN, PARTLY, HOLDS, NOT_RUN = "broken", "partly broken", "holds", "not run"
BROKEN_SHARE, BROKEN_DB, BROKEN_SSIM = 0.9, 30.0, 0.9
PARTLY_SHARE = 0.3
_OF_IMAGES = frozenset(("ciphertexts", "features", "image_pairs", "labelled", "scrambled"))  # material that counts images


@dataclass(frozen=True)
class Result:
    """One attack's result; docs/audit.md describes each field. `reason` says why an attack was not run."""

    name: str
    attacker: str
    material: list[str]
    source: str
    verdict: str
    finding: str
    advice: str = ""
    recovered: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    accuracy: float | None = None
    seen_psnr_db: float | None = None
    seen_ssim: float | None = None
    seen_accuracy: float | None = None
    seconds: float = 0.0
    effort: str = ""
    needed: float | None = None
    curve_label: str = ""
    curve: list[dict[str, float | None]] = field(default_factory=list)
    details: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    pictures: dict[str, Tensor] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; pictures are files of their own."""
        return {name: value for name, value in vars(self).items() if name not in ("name", "pictures")}


@dataclass(frozen=True, kw_only=True)
class Attack(Cited, ABC):
    """One attacker. Subclasses say who it is and implement `attack`; calling one runs and measures it.

    Its `repr` shows its parameters. A subclass adds its own parameters as fields of a dataclass; `budgeted` gives a default
    that depends on the budget.

    Args:
        points: Values of its curve to run it at; None takes the budget's values. A value above the amount of material takes
            all the material.
    """

    points: tuple[float, ...] | None = None

    name: ClassVar[str]
    attacker: ClassVar[str]  # who can do it, in plain words
    material: ClassVar[tuple[str, ...]]  # what they hold: names in MATERIAL
    curve: ClassVar[Curve | None] = None
    findings: ClassVar[Mapping[str, str]]  # by verdict, what it means for the model's owner
    advice: ClassVar[str]  # what the owner can do about it
    ciphers: ClassVar[tuple[str, ...] | None] = None  # parts of ciphers that it is about; None for all
    assumes: ClassVar[str] = DEFAULT_CIPHER  # the cipher that it assumes where the target does not say its own
    of_whole_images: ClassVar[bool] = False  # it takes the whole image for one block: not against a record of blocks
    any_shape: ClassVar[bool] = False  # whether ciphertexts may have another shape than their images
    work: ClassVar[float] = 0.5  # seconds of a quick run on the bundled model, for the progress bar's estimate
    place: ClassVar[float] = 1000  # in reports and tables, from the smallest number on; equal ones by name
    recover_rank: ClassVar[float | None] = None  # `recover` takes the lowest that can run; None: it takes this one never

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            AuditError: `curve` is not a `Curve`. A value of `points` is not a number, or below 0, or below 1 where points are
                amounts. A count that depends on the budget is not a whole number from 1.
        """
        for parameter in fields(self):
            value, default = getattr(self, parameter.name), parameter.default
            if not isinstance(default, Budgeted):
                continue
            if value is None:  # a caller leaves the parameter open
                object.__setattr__(self, parameter.name, default)
            elif not isinstance(value, Budgeted) and not (isinstance(value, int) and are_numbers((value,), 1)):
                where = f"{type(self).__name__}: {parameter.name}"
                raise AuditError(where, "a whole number from 1", repr(value)[:100], "give such a value")
        if not isinstance(self.curve, (Curve, type(None))):
            raise AuditError(f"{type(self).__name__}: curve", "a Curve or None", type(self.curve).__name__, "make a Curve")
        least = 1 if self.curve is not None and self.curve.amount else 0
        if self.points is not None and not (are_numbers(self.points, least) and self.points):
            expected = f"a tuple of numbers from {least}, such as ({least}, {least + 1})"
            raise AuditError(
                f"{type(self).__name__}: points",
                expected,
                repr(self.points)[:100],
                "give such a value",
            )

    @abstractmethod
    def attack(self, held: Held, effort: Effort) -> Recovery:
        """Do it, with what the attacker holds."""

    def obstacle(self, target: Target) -> str | None:
        """Return why this attack cannot be run on a target, None if it can."""
        lacking = [name for name in self.material if target.lacks(name)]
        if lacking:
            return f"there is no material: {', '.join(MATERIAL[name].words for name in lacking)}"
        if self.of_whole_images and target.model_truth is not None:
            return "the record says that it is a cipher of blocks"
        try:
            cipher = target.scheme_for(self.assumes).facts
        except SchemeError as error:
            return f"it takes ciphers for {self.assumes}, which needs {error.expected}"
        if unsuited := self.unsuited(cipher):
            return unsuited
        if not (self.any_shape or target.keeps_shape):
            return "ciphertexts have another shape than their images"
        return None

    def unsuited(self, cipher: CipherFacts) -> str:
        """Return why the attack does not suit a cipher of blocks; empty where it does."""
        if self.ciphers is not None and not {part.name for part in cipher.parts} <= set(self.ciphers):
            return f"it is about {' and '.join(self.ciphers)} only"
        return ""

    def within(self, budget: str) -> Attack:
        """Return this attack with the numbers that a budget gives to the parameters left open."""
        open_ones = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {name: getattr(value, budget) for name, value in open_ones.items() if isinstance(value, Budgeted)}
        return replace(self, **chosen)

    def effort_words(self, value: float, target: Target) -> str:
        """Return what was spent in the last run of a curve, in words: the amount of material and the parameters."""
        met = [f"{len(target.images)} images"] if _OF_IMAGES & set(self.material) else []
        amount = met if self.curve is None else [f"{value:g} {self.curve.label}"]
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "points"}
        own = {name: number for name, number in own.items() if number is not None}
        return ", ".join([*amount, *(f"{name}={number}" for name, number in own.items())])

    def details(self, held: Held) -> dict[str, float]:
        """Return further facts about what the attack did with what it held."""
        return {}

    def __call__(self, target: Target, truth: Truth, effort: Effort) -> Result:
        """Run the attack at each point of its curve, and measure each; for each, 1 in all is told to `effort.done`."""
        obstacle = self.obstacle(target)
        words = [MATERIAL[name].words for name in self.material]
        if obstacle is not None:
            return Result(self.name, self.attacker, words, self.citation, NOT_RUN, f"Not run: {obstacle}.", reason=obstacle)
        start, attack = time.perf_counter(), self.within(effort.budget)
        points: list[tuple[float, Measurement]] = []
        for value in self.values(target, effort):
            setting = {} if self.curve is None else {self.curve.setting: value}
            run = _Run(effort.done)
            with torch.random.fork_rng():
                torch.manual_seed(effort.seed)
                held = target.hold(self.material, setting, self.assumes)
                recovery = attack.attack(held, replace(effort, done=run.add))
            if not isinstance(recovery, Recovery):
                remedy = "return what `attack` has found"
                raise AuditError(f"{type(self).__name__}.attack", "a Recovery", type(recovery).__name__, remedy)
            measured = measure(recovery, truth, target)
            measured.details.update(self.details(held))
            points.append((value, measured))
            run.add(1.0)  # `add` counts no more than is missing from one run
        value, last = points[-1]
        verdict = verdict_of(last, truth.controls)
        breaking = [value for value, measured in points if verdict_of(measured, truth.controls) == BROKEN]
        right, labels = last.put_right, truth.labels
        read = None if right is None or labels is None else accuracy(target.classify_plain, right, labels)
        return Result(
            self.name,
            self.attacker,
            words,
            self.citation,
            verdict,
            self.findings[verdict],
            "" if verdict == HOLDS else self.advice,
            **_figures(last),
            seen_accuracy=read,
            seconds=time.perf_counter() - start,
            effort=attack.effort_words(value, target),
            needed=min(breaking) if breaking and self.curve is not None and self.curve.amount else None,
            curve_label=self.curve.label if self.curve is not None else "",
            curve=[{"x": x, **_figures(measured), **measured.details} for x, measured in points]
            if self.curve is not None
            else [],
            details=last.details,
            pictures=last.pictures,
        )

    def values(self, target: Target, effort: Effort) -> list[float]:
        """Return the points of the curve, as far as there is material; without a curve a single 0, which nobody reads."""
        if self.curve is None:
            return [0.0]
        values = self.points or (self.curve.full if effort.budget == "full" else self.curve.quick)
        there = target.available(self.curve.setting)
        return list(dict.fromkeys(min(value, there) for value in values))


class _Run:
    """How much of a run is done. Shares are passed on until they make one run, and no further.

    Args:
        done: Called with the share that was done.
    """

    def __init__(self, done: Callable[[float], object]) -> None:
        self._done, self._left = done, 1.0

    def add(self, share: float) -> None:
        """Add a share, as far as so much is left."""
        share = min(share, self._left)
        self._left -= share
        self._done(share)


def verdict_of(measured: Measurement, controls: Mapping[str, Likeness]) -> str:
    """Return the verdict of one measurement by the thresholds of docs/audit.md.

    Args:
        measured: What was recovered.
        controls: Likeness of pictures that do not show what the images show.
    """
    images = [likeness for likeness in (measured.handed_in, measured.seen) if likeness is not None]
    share = max(0.0 if measured.is_likeness else measured.recovered, measured.use)
    if share >= BROKEN_SHARE or any(one.psnr_db >= BROKEN_DB or one.ssim >= BROKEN_SSIM for one in images):
        return BROKEN
    if share >= PARTLY_SHARE or (measured.seen is not None and measured.seen.beats(controls)):
        return PARTLY
    return HOLDS


def _figures(measured: Measurement) -> dict[str, Any]:
    images = {"": measured.handed_in, "seen_": measured.seen}
    likenesses = {
        f"{prefix}{name}": None if one is None else getattr(one, name)
        for prefix, one in images.items()
        for name in ("psnr_db", "ssim")
    }
    return {"recovered": measured.recovered, **likenesses, "accuracy": measured.accuracy}
