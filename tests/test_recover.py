"""`te.audit.recover`: pictures out of ciphertexts alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import timm_encmixer as te
from timm_encmixer.audit import ATTACKS, Attack, RecoveredImages, recover
from timm_encmixer.bundled import bundled_images
from timm_encmixer.errors import AuditError

SCHEME = te.Scheme(patch_size=4)


@pytest.fixture(scope="module")
def album():
    return np.stack([np.asarray(image) for image in bundled_images()[0][::2]])


def encrypted(album, key, scheme):
    cipher = te.ImageCipher(key, scheme)
    return [cipher.encrypt(image) for image in album]


def test_few_ciphertexts_give_the_pictures_and_the_verdict_is_measured(album, key):
    recovered = recover(encrypted(album[:5], key, SCHEME), SCHEME, plain=album[:3])
    assert recovered.attacks == ("ciphertext_only_shuffle",)
    assert recovered.images.shape == (5, 32, 32, 3)
    assert (recovered.verdict, recovered.collected) == ("broken", 5)
    assert recovered.finding.startswith("Reads every image")
    assert recovered.psnr_db > 30
    assert recovered.ssim > 0.9
    assert "images" not in repr(recovered)


def test_without_the_true_pictures_nothing_is_claimed(album, key):
    sent = encrypted(album[:1], key, SCHEME)
    recovered = recover(np.stack(sent), SCHEME.replace(fingerprint=key.fingerprint), attacks=["thumbnail"])
    assert (recovered.verdict, recovered.psnr_db, recovered.ssim) == ("not run", None, None)
    blocks = recovered.images.reshape(1, 8, 4, 8, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1, :1]).all()  # one grey value a block


@pytest.mark.nightly
def test_the_order_of_blocks_is_found_first(album, key):
    scheme = te.Scheme(cipher="scramble", patch_size=8, grid=(4, 4))
    recovered = recover(encrypted(album, key, scheme), scheme, plain=album[:10])
    assert (recovered.attacks, recovered.verdict) == (("blind_jigsaw",), "broken")
    both = te.Scheme(cipher="shuffle+scramble", patch_size=8, grid=(4, 4))
    chained, alone = (
        recover(encrypted(album, key, both), both, plain=album[:10], attacks=attacks)
        for attacks in (["blind_jigsaw", "thumbnail"], ["thumbnail"])
    )
    assert chained.psnr_db > alone.psnr_db + 2


@pytest.mark.parametrize(
    ("cipher", "patch", "best"),
    [
        ("negpos", 4, ("ciphertext_only_shuffle",)),
        ("shuffle+negpos", 8, ("thumbnail",)),  # of such blocks there are no public statistics
        ("etc", 8, ("ciphertext_only_etc",)),
        ("scramble", 4, ("blind_jigsaw",)),
        ("shuffle+scramble", 8, ("blind_jigsaw", "thumbnail")),
    ],
)
def test_the_best_attack_is_chosen_by_cipher_and_material(cipher, patch, best, album, key, monkeypatch):
    ran, found = [], RecoveredImages(lambda seen: seen)
    for name in ATTACKS:
        monkeypatch.setattr(ATTACKS[name], "attack", lambda self, held, effort: ran.append(self.name) or found)
    scheme = te.Scheme(cipher=cipher, patch_size=patch, grid=(32 // patch,) * 2 if "scramble" in cipher else None)
    assert recover(encrypted(album[:2], key, scheme), scheme).attacks == best == tuple(ran)


@dataclass(frozen=True, kw_only=True)
class Negative(Attack):
    name = "negative"
    attacker = "somebody who knows that one sign was changed"
    material = ("ciphertexts", "own_ciphers")
    citation = "this test"
    findings = {"broken": "Reads it.", "partly broken": "Reads some.", "holds": "Reads nothing."}  # noqa: RUF012
    advice = "none"

    def attack(self, held, effort):
        assert held.own_ciphers(0) is not None
        return RecoveredImages(lambda seen: 1 - seen)


def test_an_attack_of_ones_own_meets_ciphertexts(album):
    recovered = recover(255 - album[:4], SCHEME, plain=album[:1], attacks=[Negative()])
    assert np.array_equal(recovered.images, album[:4])
    assert (recovered.verdict, recovered.finding) == ("broken", "Reads it.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ciphertexts": []}, "ciphertexts: expected uint8 images of one size, .* got none"),
        ({"ciphertexts": [np.zeros((32, 32, 3))]}, r"got float64 \(32, 32, 3\)"),
        ({"ciphertexts": [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 28, 3), np.uint8)]}, "of one size"),
        ({"ciphertexts": np.zeros((2, 30, 32, 3), np.uint8)}, "expected 3 channels, and multiples of 4 px"),
        ({"ciphertexts": np.zeros((2, 32, 32, 1), np.uint8)}, "got 1 channels"),
        ({"scheme": te.Scheme(cipher="scramble", patch_size=4, grid=(7, 8))}, "expected 3 channels, and 28 x 32 px"),
        ({"plain": np.zeros((3, 32, 32, 3), np.uint8)}, "plain: expected pictures of the ciphertexts' size, at most as many"),
        ({"attacks": ["weights_only"]}, "weights_only: expected an attack that can be run on these ciphertexts"),
        ({"attacks": ["no_attack"]}, "attacks: expected names among"),
    ],
)
def test_what_cannot_be_attacked_is_refused(change, message):
    wanted = {"ciphertexts": np.zeros((2, 32, 32, 3), np.uint8), "scheme": SCHEME, **change}
    with pytest.raises(AuditError, match=message):
        recover(wanted.pop("ciphertexts"), wanted.pop("scheme"), **wanted)
