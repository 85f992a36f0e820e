"""The audit of any function of images: what attackers get, what is not run, and what a wrong function is told."""

from __future__ import annotations

import json
import re
import textwrap

import numpy as np
import pytest
import torch

import timm_encmixer as te
from timm_encmixer.audit import ATTACKS, Attack, RecoveredImages, RecoveredKey, run_cipher
from timm_encmixer.audit.attack import BROKEN, HOLDS, NOT_RUN, PARTLY
from timm_encmixer.audit.effort import Curve
from timm_encmixer.audit.page import summary
from timm_encmixer.audit.report import report_table
from timm_encmixer.bundled import bundled_images
from timm_encmixer.errors import AuditError, DataError
from timm_encmixer.images.labelled import UNLABELLED, MemoryImages

SOME = MemoryImages(bundled_images()[0][::5], bundled_images()[1][::5])
KNOWN = [ATTACKS["known_plaintext"](points=(64,)), ATTACKS["known_tables"](points=(16000,)), ATTACKS["chosen_plaintext"]()]


def blockwise(change):
    """A function of blocks (n, 48) as one of images."""

    def encrypt(images):
        n, height, width, _ = images.shape
        cut = images.reshape(n, height // 4, 4, width // 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
        changed = change(cut.reshape(-1, 48)).reshape(cut.shape)
        return changed.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)

    return encrypt


def shuffled(key):
    order = np.random.default_rng(list(key)).permutation(48)
    return blockwise(lambda blocks: blocks[:, order])


def substituted(key):
    """Each place of a block has a substitution of its 256 values, and the places are shuffled: no linear map."""
    rng = np.random.default_rng(list(key))
    tables = np.stack([rng.permutation(256) for _ in range(48)]).astype(np.uint8)
    order = rng.permutation(48)
    return blockwise(lambda blocks: tables[np.arange(48), blocks][:, order])


def noise(images):
    return np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)


def attacked(encrypt, attacks, **options):
    return run_cipher(encrypt, **{"block": 4, "images": SOME, "attacks": attacks, "progress": False, **options})


def test_a_home_made_shuffle_is_broken_and_what_needs_a_model_is_not_run():
    aligned = ATTACKS["ciphertext_only_orthogonal"](points=(50,))
    names = [*KNOWN, aligned, "thumbnail", "weights_only", "random_key", "jigsaw", "ciphertext_only_etc"]
    report = attacked(shuffled, names, keyed=True)
    verdicts = {name: result.verdict for name, result in report.results.items()}
    assert {verdicts[attack.name] for attack in [*KNOWN, aligned]} == {verdicts["thumbnail"]} == {BROKEN}
    assert {verdicts[name] for name in ("weights_only", "random_key", "jigsaw", "ciphertext_only_etc")} == {NOT_RUN}
    assert report.results["weights_only"].reason == "there is no material: the encrypted model"
    assert "it takes ciphers for etc, which needs" in report.results["ciphertext_only_etc"].reason
    assert (report.model, report.cipher, report.plain_accuracy) == ("", "shuffled", None)
    assert report.results["known_plaintext"].seen_psnr_db > 90


@pytest.mark.nightly
def test_a_substitution_falls_to_tables_and_not_to_linear_maps():
    report = attacked(substituted, KNOWN, keyed=True, images=None, name="tables")
    assert report.results["chosen_plaintext"].verdict == HOLDS
    assert report.results["known_plaintext"].verdict == HOLDS
    assert report.results["known_tables"].verdict in (PARTLY, BROKEN)
    assert report.results["known_tables"].seen_psnr_db > 25
    assert report.results["known_tables"].seen_accuracy > 0.5  # of the bundled model, which reads the bundled images
    assert report.plain_accuracy > 0.8
    assert report.cipher == "tables"


def test_half_bytes_fall_one_by_one_where_bytes_do_not():
    """ELE: every block has a key of its own, and the whole image is taken for one block."""
    images = np.stack([np.asarray(image)[12:20, 12:20] for image in bundled_images()[0]])
    kind = ATTACKS["known_tables"]
    options = {"block": 8, "images": images, "keyed": True}
    encrypt = te.audit.PUBLISHED_CIPHERS["ele"]().encryption
    whole = attacked(encrypt, [kind(points=(250,))], **options).results["known_tables"]
    halves = attacked(encrypt, [kind(points=(250,), halves=True)], **options).results["known_tables"]
    assert whole.verdict == HOLDS
    assert halves.verdict == BROKEN
    assert halves.effort == "250 known blocks, halves=True"


@pytest.mark.nightly
def test_noise_holds_against_everything():
    network = ATTACKS["inverse_network"](points=(25,), steps=60)
    attacks = [*KNOWN, network, ATTACKS["ciphertext_only_orthogonal"](points=(25,)), "thumbnail", "feature_reconstruction"]
    report = attacked(noise, [*attacks, "own_keys_network"])
    assert report.results.pop("own_keys_network").reason == "there is no material: the method, with keys of the attacker's own"
    assert {result.verdict for result in report.results.values()} == {HOLDS}
    for result in report.results.values():
        assert result.seconds > 0
    assert report.results["inverse_network"].effort == "25 images both plain and encrypted, steps=60, local=False"


def test_pixels_in_their_places_show_outlines_under_a_key_an_image():
    scheme = te.audit.PUBLISHED_CIPHERS["pixelwise_per_image"]()
    report = attacked(scheme.encryption, ["feature_reconstruction", "known_tables"], keyed=True)
    assert report.results["feature_reconstruction"].verdict == PARTLY
    assert report.results["known_tables"].verdict == HOLDS


@pytest.mark.nightly
def test_blocks_that_move_are_found_and_weights_follow_the_position():
    """Every block has a shuffle of its own, and the blocks are shuffled too."""

    def encrypt(images):
        rng = np.random.default_rng(1)
        n = len(images)
        cut = images.reshape(n, 8, 4, 8, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, 64, 48)
        own = np.stack([rng.permutation(48) for _ in range(64)])
        cut = np.take_along_axis(cut, own[None], axis=2)[:, rng.permutation(64)]
        return cut.reshape(n, 8, 8, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)

    options = {"images": MemoryImages(bundled_images()[0], [UNLABELLED] * 500)}
    kind = ATTACKS["inverse_network"]
    common = attacked(encrypt, [kind(points=(250,), steps=60)], **options).results["inverse_network"]
    local = attacked(encrypt, [kind(points=(250,), steps=60, local=True)], **options).results["inverse_network"]
    assert common.verdict == HOLDS
    assert local.seen_psnr_db > common.seen_psnr_db + 3


def test_floats_of_another_shape_are_attacked_by_what_can():
    projection = np.random.default_rng(0).standard_normal((48, 64)).astype(np.float32)

    def encode(images):
        n = len(images)
        cut = images.reshape(n, 8, 4, 8, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, 8, 8, 48)
        return (cut.astype(np.float32) / 255 - 0.5) @ projection

    network = ATTACKS["inverse_network"](points=(25,), steps=300)
    report = attacked(encode, [network, "thumbnail", "known_plaintext"])
    assert report.results["inverse_network"].verdict in (PARTLY, BROKEN)
    assert report.results["thumbnail"].reason == "ciphertexts have another shape than their images"
    assert report.results["inverse_network"].pictures["ciphertext"].shape[-2:] == (32, 32)


def test_decryption_is_measured(tmp_path):
    def invert(images):
        return 255 - images

    report = attacked(invert, ["feature_reconstruction"], decrypt=invert)
    assert report.decrypted_psnr_db == 100
    report.save(tmp_path / "report")
    assert json.loads((tmp_path / "report" / "audit.json").read_text())["decrypted_psnr_db"] == 100
    assert "What the cipher itself decrypts is at 100.0 dB." in (tmp_path / "report" / "audit.md").read_text()
    lossy = attacked(invert, ["feature_reconstruction"], decrypt=lambda images: (255 - images) // 16 * 16)
    assert 20 < lossy.decrypted_psnr_db < 40


def test_images_in_an_array_need_no_model_and_no_size():
    images = np.stack([np.asarray(image.convert("L"))[..., None] for image in SOME.images])[:, :28, :24]
    report = run_cipher(lambda given: 255 - given, block=4, images=images, attacks=["known_plaintext"], progress=False)
    assert (report.in_chans, report.input_size, report.labelled) == (1, (1, 28, 24), False)
    assert report.results["known_plaintext"].verdict == BROKEN
    with pytest.raises(AuditError, match=r"block: expected a side from 2 to 32 px that divides 28 x 24 px"):
        run_cipher(noise, block=5, images=images, progress=False)
    with pytest.raises(AuditError, match=r"images: expected uint8 images \(N, H, W, C\)"):
        run_cipher(noise, block=4, images=images / 255, progress=False)
    with pytest.raises(DataError, match="at least 4"):
        run_cipher(noise, block=4, images=images[:3], progress=False)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda images: None, "NoneType"),
        (lambda images: images[0], "shape"),
        (lambda images: images[:-1], "shape"),
        (lambda images: images.astype(np.int32), "int32"),
        (lambda images: images / np.float32(0), "not finite"),
        (lambda images: images.nonsense, "AttributeError"),
    ],
    ids=["None", "one", "fewer", "integers", "infinite", "fails"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_function_that_returns_no_images(function, got):
    with pytest.raises(AuditError, match=got):
        attacked(function, ["thumbnail"])


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda x: x, "<f4"),
        (lambda x: x / 255, ">f4"),
        (lambda x: x / 127.5 - 1, "f8"),
        (lambda x: x / 255 + 10, "f4"),
        (lambda x: x * 1e-3, "f4"),
        (lambda x: x * 40, "f2"),
    ],
    ids=["bytes", "unit", "signed", "shifted", "small", "large"],
)
def test_floats_may_have_any_range(change, dtype):
    attacks = [ATTACKS["known_plaintext"](points=(64,)), "chosen_plaintext"]
    report = attacked(lambda images: change(images.astype(np.float64)).astype(dtype), attacks)
    assert {result.verdict for result in report.results.values()} == {BROKEN}


class Spoiling(Attack):
    """Changes what it holds, and what it is measured on."""

    name = "spoiling"
    attacker = "a bad neighbour"
    material = ("ciphertexts", "image_pairs")
    citation = "this test"
    findings = {BROKEN: "", PARTLY: "", HOLDS: ""}  # noqa: RUF012
    advice = ""

    def attack(self, held, effort):
        held.ciphertexts.zero_()
        held.image_pairs[0].zero_()
        return RecoveredImages(lambda seen: seen.zero_() + 0.5)


def test_an_attack_changes_nothing_for_others():
    report = attacked(lambda images: 255 - images, [Spoiling(), *KNOWN])
    assert report.results["spoiling"].verdict == HOLDS
    assert {report.results[attack.name].verdict for attack in KNOWN} == {BROKEN}


class Wrong(Spoiling):
    name = "wrong"

    def attack(self, held, effort):
        return self.handed_in


@pytest.mark.parametrize(
    "handed_in",
    [
        RecoveredImages(lambda seen: None),
        RecoveredImages(lambda seen: seen[:-1]),
        RecoveredImages(lambda seen: seen / 0),
        RecoveredKey(torch.eye(3)),
        RecoveredKey(np.eye(48)),
    ],
    ids=["None", "fewer", "infinite", "small", "numpy"],
)
def test_what_an_attack_cannot_hand_in(handed_in):
    Wrong.handed_in = handed_in
    with pytest.raises(AuditError, match=r"Recovered|recovery"):
        attacked(lambda images: images, [Wrong()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": np.int64(4)}, "block"),
        ({"block": 4.0}, "block"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"size": 32}, "size"),
        ({"keyed": True}, "keyed"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8)}, "images"),
    ],
)
def test_arguments_that_no_audit_can_have(options, message):
    with pytest.raises(AuditError, match=message):
        attacked(noise, ["thumbnail"], **options)


def test_ciphertexts_of_changing_shapes_and_an_exit():
    sizes = iter((8, 8, 4))

    def changing(images):
        return images[:, :: 32 // next(sizes)]

    with pytest.raises(AuditError, match="ciphertexts of one shape"):
        attacked(changing, ["inverse_network"])

    def leave(images):
        raise SystemExit(0)

    with pytest.raises(AuditError, match="SystemExit"):
        attacked(leave, ["thumbnail"])


@pytest.mark.parametrize("points", [(), ("one",), (-1,), 5])
def test_a_curve_has_points(points):
    with pytest.raises(AuditError, match="Curve of ciphertexts: full: expected a tuple of numbers"):
        Curve("ciphertexts", "ciphertexts", (1, 2), points)


def test_a_curve_is_a_curve():
    class Bent(Spoiling):
        curve = (1, 2)

    with pytest.raises(AuditError, match="Bent: curve: expected a Curve or None, got tuple"):
        attacked(noise, [Bent()])


def test_an_encrypted_model_reads_no_plain_images(plain_model, key):
    with pytest.raises(AuditError, match="plain_model: expected a plain model"):
        attacked(noise, ["thumbnail"], plain_model=te.encrypt_model(plain_model, key))


def test_the_same_arguments_give_the_same_figures():
    attacks = [KNOWN[1], ATTACKS["own_keys_network"](steps=20, keys=3)]
    reports = [attacked(shuffled, attacks, keyed=True).to_dict() for _ in range(2)]
    for report in reports:
        for attack in report["attacks"].values():
            attack.pop("seconds")
    assert reports[0] == reports[1]


@pytest.mark.nightly
def test_from_the_command_line(encmixer, tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            def encrypt(images):
                return 255 - images

            def keyed(key):
                return lambda images: images ^ key[0]

            class Mine:
                inverted = staticmethod(encrypt)

            print("printed by the module")
            """
        )
    )
    common = ["audit", "--only", "chosen_plaintext", "--only", "own_keys_network", "--block", "4"]
    done = encmixer(*common, "--cipher-from", "mine:encrypt", "--decrypt-from", "mine:Mine.inverted", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["cipher"], report["model"], report["decrypted_psnr_db"]) == ("mine:encrypt", "", 100)
    assert report["attacks"]["chosen_plaintext"]["verdict"] == BROKEN
    assert report["attacks"]["own_keys_network"]["verdict"] == NOT_RUN
    done = encmixer(*common, "--cipher-from", "mine:keyed", "--keyed", "--force")
    assert done.returncode == 0, done.stderr
    assert "own_keys_network" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cipher-from", "mine:other", "--block", "4"), "has no attribute 'other'"),
        (("--cipher-from", "absent:encrypt", "--block", "4"), "No module named 'absent'"),
        (("--cipher-from", "mine", "--block", "4"), "expected MODULE:NAME"),
        (("--cipher-from", "mine:number", "--block", "4"), "mine:number, a int"),
        (("--cipher-from", "leaving:encrypt", "--block", "4"), "SystemExit"),
        (("--block", "4"), "--block is for a cipher without a model"),
        (("--cipher-from", "mine:number", "--block", "4", "--cipher", "shuffle"), "--cipher is for models"),
    ],
)
def test_mistakes_on_the_command_line(encmixer, tmp_path, arguments, message):
    (tmp_path / "mine.py").write_text("number = 3\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n")
    done = encmixer("audit", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "encmixer-audit").exists()


# ---- ciphers of the whole image

WHOLE = ["image_known_pairs", "image_chosen_pairs", "chosen_plaintext"]


def cat_map(images):
    """Arnold's: a permutation of the whole image."""
    side = images.shape[1]
    row, column = np.mgrid[:side, :side]
    for _ in range(3):
        moved = np.empty_like(images)
        moved[:, (row + column) % side, (row + 2 * column) % side] = images[:, row, column]
        images = moved
    return images


def keystream(shape):
    """The logistic map's."""
    state, found = 0.3, []
    for _ in range(int(np.prod(shape))):
        state = 3.99 * state * (1 - state)
        found.append(int(state * 1e6) % 256)
    return np.array(found, np.uint8).reshape(shape)


def under_keystream(images):
    return images ^ keystream(images.shape[1:])


def added(images):
    return images + keystream(images.shape[1:])  # modulo 256


def matrix_of_the_image(images):
    flat = images.reshape(len(images), -1) / 255 - 0.5
    mixing = np.linalg.qr(np.random.default_rng(3).normal(size=(flat.shape[1],) * 2))[0]
    return (flat @ mixing.T).reshape(images.shape).astype(np.float32)


def chained(images):
    """Each byte depends on all before it, by a substitution: no map that the audit looks for."""
    flat = images.reshape(len(images), -1)
    table, before, made = np.random.default_rng(2).permutation(256).astype(np.uint8), 0, np.empty_like(flat)
    for place in range(flat.shape[1]):
        before = made[:, place] = table[flat[:, place] ^ before]
    return made.reshape(images.shape)


@pytest.mark.parametrize("encrypt", [cat_map, under_keystream, added, lambda images: under_keystream(cat_map(images))])
def test_permutations_and_keystreams_of_the_whole_image_are_read(encrypt):
    for attacks in (WHOLE[:1], WHOLE[1:2]):
        report = attacked(encrypt, attacks, block=4)
        assert report.block_fits is False
        assert report.results[attacks[0]].verdict == BROKEN
        assert report.results[attacks[0]].psnr_db > 40


def test_a_matrix_of_the_whole_image_is_read():
    small = {"size": (8, 8), "block": 4}
    report = attacked(matrix_of_the_image, WHOLE, **small)
    assert report.results["image_chosen_pairs"].psnr_db > 40
    assert report.block_fits is False


def test_nothing_is_concluded_from_a_block_side_that_the_cipher_contradicts():
    report = attacked(chained, WHOLE, size=(16, 16), block=4)
    assert BROKEN not in {result.verdict for result in report.results.values()}
    said = summary(report.to_dict())
    assert re.match(r"Nothing can be concluded from blocks of 4 px: one changed block of 4 px changes \d+ blocks", said)
    assert said in report_table(report)
    fitting = attacked(shuffled(bytes(32)), ["thumbnail"])
    assert fitting.block_fits is True
    assert "concluded" not in summary(fitting.to_dict())


@pytest.mark.parametrize(
    ("encrypt", "side", "fits"),
    [
        (shuffled(bytes(32)), 4, True),
        (lambda images: 255 - images, 4, True),  # of single pixels: any side fits
        (lambda images: images[:, ::-1].copy(), 4, False),
        (cat_map, 4, False),
        (under_keystream, 4, False),
        (lambda images: np.random.default_rng().integers(0, 256, images.shape, dtype=np.uint8), 4, None),
    ],
)
def test_without_a_block_side_the_cipher_is_asked(encrypt, side, fits):
    report = attacked(encrypt, ["thumbnail"], block=None)
    assert (report.patch_size, report.block_fits) == (side, fits)
    assert report.to_dict()["block_words"]


@pytest.mark.parametrize("side", [2, 8, 16])
def test_other_sides_than_the_usual_one_are_found(side):
    def encrypt(images):
        n, height, width, channels = images.shape
        cut = images.reshape(n, height // side, side, width // side, side, channels).transpose(0, 1, 3, 2, 4, 5)
        flat = cut.reshape(-1, side * side * channels)
        order = np.random.default_rng(1).permutation(flat.shape[1])
        return flat[:, order].reshape(cut.shape).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)

    found = 4 if side == 2 else side  # 4 px are whole blocks of 2 px
    assert attacked(encrypt, ["thumbnail"], block=None).patch_size == found
