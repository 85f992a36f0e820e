"""Running attacks on a target, one after the other, with a bar that counts their work."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from timm_encmixer.audit.attack import Attack
from timm_encmixer.audit.attacks.registry import ATTACKS
from timm_encmixer.audit.effort import BUDGETS, Effort
from timm_encmixer.audit.material import MATERIAL
from timm_encmixer.audit.names import check_names
from timm_encmixer.audit.preparation import ImageSource, public_words
from timm_encmixer.audit.report import Report
from timm_encmixer.audit.target import Target
from timm_encmixer.errors import AuditError
from timm_encmixer.evaluation.accuracy import check_labels, warn_of_classes
from timm_encmixer.evaluation.threads import threads_for
from timm_encmixer.images.labelled import LabelledImages

_NAME = re.compile(r"[a-z0-9_]+")  # pictures of an attack are files of its name


def run_attacks(
    chosen: Sequence[Attack],
    target: Target,
    *,
    label: str,
    public: ImageSource | None,
    budget: str,
    seed: int,
    progress: bool,
    decrypted_psnr_db: float | None = None,
    block_fits: bool | None = None,
    block_words: str = "",
) -> Report:
    """Run attacks and report what each attacker gets.

    Args:
        chosen: The attacks, as `chosen_attacks` returns them.
        target: What is attacked.
        label: The model's name for the report; empty where a cipher without a model is attacked.
        public: What the target's public statistics were made from.
        budget: One of `BUDGETS`.
        seed: For everything that is left to chance.
        progress: Show a progress bar on a terminal.
        decrypted_psnr_db: What the report says of the cipher's own decryption.
        block_fits: Whether ciphertext depends on plain blocks of the target's side alone; None where nobody can tell.
        block_words: The same in words.
    """
    results, effort = {}, Effort(budget, seed)
    work = sum(attack.work * len(attack.values(target, effort)) for attack in chosen if attack.obstacle(target) is None)
    with threads_for(target.plain.input_size):
        truth = target.truth()
        with _bar(work, progress) as bar:
            for attack in chosen:
                bar.set_postfix_str(attack.name)
                told = replace(effort, done=functools.partial(_tell, bar, attack.work))
                results[attack.name] = attack(target, truth, told)
    return Report(
        model=label,
        cipher=target.cipher,
        patch_size=target.patch_size,
        in_chans=target.plain.input_size[0],
        input_size=target.plain.input_size,
        budget=budget,
        seed=seed,
        attacked_images=len(target.images),
        test_images=len(target.test_images),
        labelled=target.labels is not None,
        public=public_words(public, target.public_statistics),
        plain_accuracy=truth.plain_accuracy,
        guessing=truth.guessing,
        decrypted_psnr_db=decrypted_psnr_db,
        block_fits=block_fits,
        block_words=block_words,
        controls=dict(truth.controls),
        results=results,
    )


@contextlib.contextmanager
def _bar(work: float, progress: bool) -> Iterator[Any]:
    """Show the progress of all runs, and every second the time left at the average pace so far."""
    style = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    hidden, ended = None if progress else True, threading.Event()
    with tqdm(total=work, desc="audit", bar_format=style, smoothing=0, miniters=0, disable=hidden) as bar:
        clock = threading.Thread(target=_refresh, args=(bar, ended), daemon=True)
        clock.start()
        try:
            yield bar
        finally:
            ended.set()
            clock.join()


def _refresh(bar: Any, ended: threading.Event) -> None:
    while not ended.wait(1):
        bar.refresh()


def _tell(bar: Any, work: float, share: float) -> None:
    bar.update(work * share)


def chosen_attacks(attacks: Iterable[str | Attack] | None, budget: str, seed: int) -> list[Attack]:
    """Return attacks by their names, a name that is given twice once.

    Args:
        attacks: Names in `ATTACKS`, or attacks with parameters of one's own; None takes all of `ATTACKS`.
        budget: One of `BUDGETS`.
        seed: A whole number from 0.

    Raises:
        AuditError: Unknown attack or budget, two attacks of one name, or a seed that is not a whole number from 0.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise AuditError("seed", "a whole number from 0", repr(seed)[:100], "give such a number")
    if budget not in BUDGETS:
        raise AuditError("budget", f"one of {', '.join(BUDGETS)}", repr(budget), "choose one of these")
    given = list(ATTACKS) if attacks is None else list(attacks)
    wanted = [one for index, one in enumerate(given) if not (isinstance(one, str) and one in given[:index])]
    check_names([name for name in wanted if isinstance(name, str)], "attacks")
    made = [ATTACKS[attack]() if isinstance(attack, str) else attack for attack in wanted]
    for attack in made:
        if not isinstance(attack, Attack):
            got = f"{attack.__name__}, a class" if isinstance(attack, type) else type(attack).__name__
            raise AuditError("attacks", "names, or attacks such as RandomKey()", got, "make one: ATTACKS[name]()")
        if not _NAME.fullmatch(getattr(attack, "name", "")) or not set(attack.material) <= set(MATERIAL):
            expected = "a name of lower-case letters, digits and _, and material among the names in `MATERIAL`"
            got = f"name {getattr(attack, 'name', None)!r}, material {attack.material!r}"[:200]
            raise AuditError(type(attack).__name__, expected, got, "see timm_encmixer/audit/material.py")
    names = [attack.name for attack in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        remedy = "run one, or give the other a name of its own: a report has one result for each name"
        raise AuditError("attacks", "attacks of different names", f"{twice} twice", remedy)
    return made


def check_classes(images: LabelledImages, target: Target) -> None:
    """Refuse labels that the plain model does not have."""
    if target.labels is None or target.test_labels is None:
        return
    outputs = target.classify_plain(target.test_images[:1]).shape[-1]
    check_labels(torch.cat([target.labels, target.test_labels]), outputs, where="images")
    warn_of_classes(images, outputs, where="images")
