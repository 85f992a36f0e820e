"""The first sentence of an audit's page is computed from the results."""

from __future__ import annotations

import pytest

from timm_encmixer.audit.attack import BROKEN, HOLDS, NOT_RUN, PARTLY
from timm_encmixer.audit.page import render, summary

VERDICTS = {"b": BROKEN, "p": PARTLY, "h": HOLDS, "n": NOT_RUN}


def attacks(letters):
    return {"attacks": {f"a{index}": {"verdict": VERDICTS[letter]} for index, letter in enumerate(letters)}}


@pytest.mark.parametrize(
    ("letters", "sentence"),
    [
        ("", "No attack could be run."),
        ("n", "No attack could be run."),
        ("b", "1 attack breaks it."),
        ("h", "No attack breaks it; a0 got nothing with this budget."),
        ("bbh", "2 of 3 attacks break it; only a2 got nothing with this budget."),
        (
            "bphhnn",
            "1 of 4 attacks breaks it; 1 breaks it in part; only a2 and a3 got nothing with this budget; 2 could not be run.",
        ),
        ("hhh", "None of 3 attacks breaks it; a0, a1 and a2 got nothing with this budget."),
    ],
)
def test_the_sentence_counts_verdicts(letters, sentence):
    assert summary(attacks(letters)) == sentence


@pytest.mark.parametrize("page", ["audit.html", "audit.md"])
def test_both_pages_begin_with_it(page):
    report = {
        "model": "m",
        "cipher": "shuffle",
        "patch_size": 4,
        "in_chans": 3,
        "input_size": [3, 32, 32],
        "attacked_images": 1,
        "test_images": 1,
        "plain_accuracy": None,
        "decrypted_psnr_db": None,
        "block_fits": None,
        "block_words": "",
        "controls": {"blurred": {"psnr_db": 18.0, "ssim": 0.5}},
        "public": "none",
        "budget": "quick",
        "seed": 0,
        "attacks": {},
    }
    text = render(page, report, {})
    assert text.index("Audit of m") < text.index("No attack could be run.") < text.index("Who gets what")
