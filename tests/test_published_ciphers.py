"""The published ciphers of the audit: laws that hold for all of them, and answers that were computed by hand for each."""

from __future__ import annotations

import re
from dataclasses import fields

import ffx
import numpy as np
import pytest
import torch
from conftest import ROOT
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

import timm_encmixer as te
from timm_encmixer.audit.published_ciphers import blocks
from timm_encmixer.audit.published_ciphers.cipher import CipherKey
from timm_encmixer.audit.published_ciphers.encmixer import ours
from timm_encmixer.audit.published_ciphers.registry import PUBLISHED_CIPHERS
from timm_encmixer.errors import AuditError, KeyFormatError, SchemeError

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
SMALL = {"neuracrypt": {"width": 8, "depth": 2}}
DECRYPTED = ["le", "ele", "pixelwise", "etc_blocks", "shf", "np", "ffx", "vit_blocks", "cfe"]
OURS = ["encmixer_shuffle_negpos", "encmixer_etc"]
KEY_AN_IMAGE = ["pixelwise_per_image", "instahide", "aes_ctr", "noise"]
IN_ORDER = [name for name in KEY_AN_IMAGE if name != "instahide"]  # whose ciphertext depends on no other image of the batch


@pytest.fixture(params=PUBLISHED_CIPHERS)
def published(request):
    return PUBLISHED_CIPHERS[request.param](**SMALL.get(request.param, {}))


def photos(count=3, height=32, width=48, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


class Scripted:
    """Stands for a key's stream: each call takes the next answer of its kind."""

    def __init__(self, **answers):
        self._answers = answers

    def _next(self, kind, shape):
        answer = np.array(self._answers[kind].pop(0))
        assert answer.shape == shape
        return answer

    def orders(self, count, size):
        return self._next("orders", (count, size))

    def integers(self, bound, *shape):
        answer = self._next("integers", shape)
        assert (answer < bound).all()
        return answer

    def chosen(self, size, share):
        return self._next("chosen", (size,)).astype(bool)


@pytest.fixture
def script(monkeypatch):
    def scripted(**answers):
        monkeypatch.setattr(CipherKey, "draws", lambda self, purpose: Scripted(**answers))

    return scripted


def encrypted(name, pixels, **parameters):
    """Encrypt one image, given as rows of pixels or of numbers."""
    image = np.array(pixels, dtype=np.uint8)
    image = image[..., None] if image.ndim == 2 else image
    return PUBLISHED_CIPHERS[name](**parameters).encryption(KEY)(image[None])[0].squeeze().tolist()


# laws of all


def test_ciphertext_has_the_shape_and_the_dtype_that_the_cipher_says(published):
    images = photos()
    before = images.copy()
    ciphertext = published.encryption(KEY)(images)
    assert ciphertext.dtype == published.ciphertext
    assert ciphertext.dtype in (np.uint8, np.float32)
    expected = (3, 2, 3, 8) if published.name == "neuracrypt" else images.shape
    assert ciphertext.shape == expected
    assert np.isfinite(ciphertext).all()
    assert np.array_equal(images, before)
    assert not np.shares_memory(images, ciphertext)


def test_a_view_of_images_is_encrypted_as_its_copy_is(published):
    view = photos(4, 32, 64)[::2, ::-1, :, ::-1].transpose(0, 2, 1, 3)
    assert not view.flags.c_contiguous
    assert np.array_equal(published.encryption(KEY)(view), published.encryption(KEY)(view.copy()))


def test_a_key_gives_one_cipher_and_another_key_another(published):
    images = photos()
    ciphertext = published.encryption(KEY)(images)
    assert np.array_equal(published.encryption(KEY)(images), ciphertext)
    assert np.array_equal(published.encryption(OTHER)(images), ciphertext) == (published.name == "identity")


def test_decryption_undoes_encryption_for_every_number_of_channels_and_size(published):
    known = published.name in (*DECRYPTED, *OURS, "identity")
    assert (published.decryption(KEY) is not None) == known
    if known:
        encrypt, decrypt = published.encryption(KEY), published.decryption(KEY)
        for channels, width in ((1, 16), (3, 16), (3, 48), (4, 32)):
            images = photos(2, 32, width, channels)
            assert np.array_equal(decrypt(encrypt(images)), images)
        assert published.name == "identity" or not np.array_equal(published.decryption(OTHER)(encrypt(images)), images)


def test_equal_images_have_equal_ciphertext_under_one_key_and_not_under_a_key_an_image(published):
    twice = np.repeat(photos(1), 2, axis=0)
    first, second = published.encryption(KEY)(twice)
    assert np.array_equal(first, second) == (published.name not in (*KEY_AN_IMAGE, "neuracrypt"))
    assert published.key_use == {"identity": "none"}.get(
        published.name, "a key an image" if published.name in KEY_AN_IMAGE else "one key"
    )


@pytest.mark.parametrize("name", IN_ORDER)
def test_the_keys_of_images_go_on_from_call_to_call(name):
    images = photos(4)
    encrypt = PUBLISHED_CIPHERS[name]().encryption(KEY)
    parts = [encrypt(images[:1]), encrypt(images[1:])]
    assert np.array_equal(np.concatenate(parts), PUBLISHED_CIPHERS[name]().encryption(KEY)(images))


@pytest.mark.parametrize("name", ["le", "shf", "np", "ffx", "encmixer_shuffle_negpos", "encmixer_etc"])
def test_all_blocks_are_encrypted_alike_where_the_scheme_says_so(name):
    encrypt = PUBLISHED_CIPHERS[name]().encryption(KEY)
    images = photos(1)
    assert np.array_equal(encrypt(images[:, 8:24, 16:40]), encrypt(images)[:, 8:24, 16:40])


@pytest.mark.parametrize("name", ["pixelwise", "pixelwise_per_image", "etc_blocks", "shf", "np", "vit_blocks", "cfe", *OURS])
def test_numbers_move_and_are_reflected_and_nothing_else(name):
    images = photos()
    ciphertext = PUBLISHED_CIPHERS[name]().encryption(KEY)(images)
    for image, coded in zip(images, ciphertext, strict=True):
        assert np.array_equal(np.sort(np.minimum(image, 255 - image), None), np.sort(np.minimum(coded, 255 - coded), None))


def test_images_that_the_cipher_cannot_take_are_refused_in_one_line(published):
    wrong = [
        (photos().astype(np.float32), "uint8 of shape"),
        (photos()[0], "uint8 of shape"),
        (photos()[:0], "uint8 of shape"),
        (photos(channels=5), "C from 1 to 4"),
        (torch.from_numpy(photos()), "got Tensor"),
        ("photos", "got str"),
    ]
    if published.block > 1:
        wrong += [(photos(height=33), f"multiples of {published.block} px, got 33 x 48 px"), (photos(width=50), "32 x 50 px")]
    calls = [published.encryption(KEY), published.decryption(KEY) if published.ciphertext == np.uint8 else None]
    for call in filter(None, calls):
        for images, message in wrong:
            with pytest.raises(AuditError, match=message) as caught:
                call(images)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), "k" * 32, None])
def test_a_key_is_32_bytes_and_no_message_shows_it(published, key):
    for make in (published.encryption, published.decryption):
        with pytest.raises(KeyFormatError, match="32 bytes") as caught:
            make(key)
        assert "kkk" not in str(caught.value)


def test_parameters_stand_in_the_repr_and_bad_ones_are_refused():
    assert repr(PUBLISHED_CIPHERS["instahide"]()) == "InstaHide(block=1, k=4, most=0.65)"
    assert repr(PUBLISHED_CIPHERS["neuracrypt"](width=64)) == "NeuraCrypt(block=16, depth=4, width=64, batch=128)"
    for name, parameters in (
        ("le", {"block": 0}),
        ("le", {"block": 4.0}),
        ("le", {"block": True}),
        ("np", {"share": 1.5}),
        ("np", {"share": "half"}),
        ("ffx", {"share": -1}),
        ("ffx", {"levels": 255}),
        ("cfe", {"sub_block": 5}),
        ("cfe", {"variant": "V3"}),
        ("neuracrypt", {"width": 0}),
        ("neuracrypt", {"batch": 0}),
        ("instahide", {"k": 0}),
        ("instahide", {"most": 0.25}),
    ):
        field = next(reversed(parameters))
        with pytest.raises(AuditError, match=f"{field}: expected"):
            PUBLISHED_CIPHERS[name](**parameters)
    with pytest.raises(SchemeError, match="cipher"):
        ours("rot13")


def test_the_registry_and_the_page_name_every_scheme_with_its_source():
    assert te.audit.PUBLISHED_CIPHERS is PUBLISHED_CIPHERS
    page = (ROOT / "docs" / "published-ciphers.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.MULTILINE)
    assert [name for name, _ in rows] == list(PUBLISHED_CIPHERS)
    for name, row in rows:
        kind = PUBLISHED_CIPHERS[name]
        assert kind.name == kind().name == name
        assert issubclass(kind, te.audit.PublishedCipher)
        assert all((kind.title, kind.citation, kind.purpose, kind.key_use, kind.__doc__))
        assert set(re.findall(r"arXiv (\d{4}\.\d{5})", kind.citation)) <= set(re.findall(r"\d{4}\.\d{5}", row))
        assert all(f"`{field.name}={field.default}`" in row.replace("'", "") for field in fields(kind))


# answers by hand


def test_le_splits_shuffles_and_reflects_half_bytes(script):
    script(orders=[[[1, 0]]], chosen=[[True, False]])
    assert encrypted("le", [[0xA3, 0x0F]], block=1) == [0x35, 0xFF]  # lower half: 15 - upper one; upper half: lower one


def test_ele_permutes_blocks_that_have_their_own_keys(script):
    script(orders=[[[1, 0]], [[0, 1], [1, 0]], [[1, 0], [0, 1]]])
    assert encrypted("ele", [[0xA3, 0x0F]], block=1) == [0xFF, 0x35]  # upper half reflected; swapped, lower one reflected


def test_pixelwise_reorders_and_reflects_the_colours_of_each_pixel(script):
    script(integers=[np.reshape([1, 0, 0, 0, 0, 1], (2, 1, 1, 3)), [5, 0]])
    assert encrypted("pixelwise", [[[10, 20, 30], [1, 2, 3]]]) == [[255 - 30, 20, 10], [1, 2, 255 - 3]]


def test_etc_permutes_turns_recolours_and_reflects_blocks(script):
    script(orders=[[[1, 0]]], integers=[[1, 4], [0, 0], [1, 0]])
    got = encrypted("etc_blocks", [[1, 2, 5, 6], [3, 4, 7, 8]], block=2)
    assert got == [[255 - 6, 255 - 5, 1, 3], [255 - 8, 255 - 7, 2, 4]]
    script(orders=[[[0]]], integers=[[0], [3], [0]])  # the fourth order of three colours is 1, 2, 0
    assert encrypted("etc_blocks", [[[10, 20, 30]]], block=1) == [20, 30, 10]


def test_shf_np_and_the_vit_cipher(script):
    script(orders=[[[3, 2, 0, 1]]])
    assert encrypted("shf", [[1, 2], [3, 4]], block=2) == [[4, 3], [1, 2]]
    script(chosen=[[1, 0, 0, 1]])
    assert encrypted("np", [[1, 2], [3, 4]], block=2) == [[254, 2], [3, 251]]
    script(orders=[[[1, 0]], [[3, 2, 0, 1]]])
    assert encrypted("vit_blocks", [[1, 2, 5, 6], [3, 4, 7, 8]], block=2) == [[8, 7, 4, 3], [5, 6, 1, 2]]


@pytest.mark.parametrize("variant", ["V1", "V2"])
def test_cfe_permutes_and_reflects_sub_blocks_and_then_blocks(script, variant):
    v1 = variant == "V1"
    orders = [[[3, 2, 1, 0]]] if v1 else [[[3, 2, 1, 0], [0, 1, 2, 3]]]
    signs = [[1, 0, 0, 0]] if v1 else [[1, 0, 0, 0], [0, 0, 0, 1]]
    zeros = np.zeros_like(signs)
    script(orders=[*orders, [[1, 0]]], integers=[zeros, signs, zeros])
    got = encrypted("cfe", [[1, 2, 5, 6], [3, 4, 7, 8]], block=2, sub_block=1, variant=variant)
    second = [[255 - 8, 7], [6, 5]] if v1 else [[5, 6], [7, 255 - 8]]
    assert got == [[*second[0], 255 - 4, 3], [*second[1], 2, 1]]


def test_turns_are_the_eight_symmetries_of_a_square():
    square = np.arange(9).reshape(1, 3, 3, 1)
    got = {blocks.turned(square, np.array([turn])).tobytes() for turn in range(8)}
    turns = [np.rot90(side, quarter, (1, 2)) for side in (square, square[:, ::-1]) for quarter in range(4)]
    assert got == {turn.tobytes() for turn in turns}


@pytest.mark.parametrize("levels", [256, 1000])
def test_ffx_encrypts_half_of_a_blocks_numbers_one_by_one(levels):
    published = PUBLISHED_CIPHERS["ffx"](levels=levels)
    images = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 4, 4, 3)).copy()
    got = published.encryption(KEY)(images).reshape(256, -1) * (1 if levels == 256 else levels - 1)
    got = np.rint(got).astype(int)
    same = (got == np.arange(256)[:, None]).all(axis=0)
    assert same.sum() == 24
    assert (got[:, ~same] == got[:, ~same][:, :1]).all()
    cipher = ffx.FF1(CipherKey("ffx", KEY).draws("table").read(32), allow_small_domain=True)
    table = got[:, ~same][:, 0]
    assert [cipher.decrypt_int(int(value), domain=levels) for value in table] == list(range(256))
    assert (table > 255).any() == (levels == 1000)


@pytest.mark.parametrize("depth", [0, 2])
def test_neuracrypt_is_its_formula_up_to_the_order_of_patches(depth):
    published, images = PUBLISHED_CIPHERS["neuracrypt"](block=8, width=5, depth=depth, batch=2), photos(3, 16, 16)
    got = published.encryption(KEY)(images).reshape(3, 4, 5)
    key = CipherKey("neuracrypt", KEY)
    weights, positions, layers = key.draws("weights/C=3"), key.draws("positions").normals(4, 5), []
    for inputs in (192, *[5] * (depth + 1)):
        layers.append((weights.uniforms(inputs, 5) / inputs**0.5, weights.uniforms(5) / inputs**0.5))
    for some, codes in ((images[:2], got[:2]), (images[2:], got[2:])):
        patches = np.array([[i[r : r + 8, c : c + 8].reshape(-1) for r in (0, 8) for c in (0, 8)] for i in some]) / 127.5 - 1
        values = np.maximum(patches @ layers[0][0] + layers[0][1], 0)
        for weight, bias in layers[1:-1]:
            values = values @ weight + bias
            values = (values - values.mean((0, 1))) / np.sqrt(values.var((0, 1)) + 1e-5)
            values = np.maximum(values, 0)
        values = np.maximum(values + positions, 0) @ layers[-1][0] + layers[-1][1]
        for code, value in zip(codes, values, strict=True):
            distances = np.abs(code[:, None] - value[None]).max(axis=2)
            assert sorted(distances.argmin(axis=1)) == [0, 1, 2, 3]
            assert distances.min(axis=1).max() < 1e-4


def test_neuracrypt_puts_the_patches_of_each_image_into_an_order_of_its_own():
    published = PUBLISHED_CIPHERS["neuracrypt"](block=4, width=3)
    codes = published.encryption(KEY)(np.repeat(photos(1), 2, axis=0)).reshape(2, -1, 3)
    assert not np.array_equal(codes[0], codes[1])
    assert np.allclose(np.sort(codes[0], axis=0), np.sort(codes[1], axis=0), atol=1e-5)


def test_instahide_mixes_with_coefficients_whose_sum_is_one_and_flips_signs():
    dark = PUBLISHED_CIPHERS["instahide"]().encryption(KEY)(np.zeros((4, 16, 16, 3), dtype=np.uint8))
    assert np.allclose(np.abs(dark), 1, atol=1e-6)
    assert 0.4 < (dark > 0).mean() < 0.6
    images = photos()
    alone = PUBLISHED_CIPHERS["instahide"](k=1).encryption(KEY)(images)
    assert np.allclose(np.abs(alone), np.abs(images / 127.5 - 1), atol=1e-6)
    flat = np.repeat(np.array([0, 255], dtype=np.uint8), 50)[:, None, None, None] * np.ones((1, 1, 1, 1), dtype=np.uint8)
    shares = (1 - np.abs(PUBLISHED_CIPHERS["instahide"](k=2).encryption(KEY)(flat)).reshape(-1)) / 2
    mixed = shares > 1e-6  # the partner was of the other kind
    assert 20 < mixed.sum() < 80
    assert shares[mixed].min() > 0.35 - 1e-6  # no coefficient is above 0.65


def test_aes_ctr_is_aes_of_counters():
    zeros = np.zeros((2, 4, 4, 1), dtype=np.uint8)
    first, second = PUBLISHED_CIPHERS["aes_ctr"]().encryption(KEY)(zeros)
    ecb = Cipher(algorithms.AES(CipherKey("aes_ctr", KEY).draws("aes").read(32)), modes.ECB()).encryptor()
    assert first.tobytes() == ecb.update(bytes(16))
    assert second.tobytes() == ecb.update((1).to_bytes(8, "big") + bytes(8))


def test_noise_depends_on_no_image():
    encrypt, again = (PUBLISHED_CIPHERS["noise"]().encryption(KEY) for _ in range(2))
    assert np.array_equal(encrypt(photos(seed=1)), again(photos(seed=2)))


# our own ciphers


@settings(max_examples=20, deadline=None)
@given(
    cipher=st.sampled_from(["shuffle", "negpos", "shuffle+negpos", "scramble", "shuffle+scramble", "etc", "etc+scramble"]),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    patch=st.sampled_from([8, 16]),
)
def test_our_ciphers_are_those_of_image_cipher(cipher, rows, columns, patch):
    published, images = ours(cipher, patch), photos(2, rows * patch, columns * patch)
    assert published.name == f"encmixer_{cipher.replace('+', '_')}"
    grid = (rows, columns) if "scramble" in cipher else None
    direct = te.ImageCipher(te.SecretKey(KEY), te.Scheme(cipher=cipher, patch_size=patch, grid=grid))
    ciphertext = published.encryption(KEY)(images)
    assert np.array_equal(ciphertext, direct.encrypt_batch(images))
    assert np.array_equal(published.decryption(KEY)(ciphertext), images)


@pytest.mark.parametrize("cipher", ["orthogonal", "orthogonal+scramble"])
def test_our_orthogonal_cipher_is_that_of_block_cipher(cipher):
    published, images = ours(cipher, 4), photos(2, 8, 12)
    grid = (2, 3) if "scramble" in cipher else None
    direct = te.BlockCipher(te.SecretKey(KEY), te.Scheme(cipher=cipher, patch_size=4, grid=grid))
    ciphertext = published.encryption(KEY)(images)
    expected = direct.encrypt(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).permute(0, 2, 3, 1).numpy()
    assert published.ciphertext == ciphertext.dtype == np.float32
    assert np.allclose(ciphertext, expected, atol=1e-5)
    assert np.array_equal(published.decryption(KEY)(ciphertext), images)


# what ciphers draw


@settings(max_examples=25, deadline=None)
@given(side=st.integers(1, 4), rows=st.integers(1, 4), columns=st.integers(1, 4), channels=st.integers(1, 4))
def test_blocks_are_put_together_again(side, rows, columns, channels):
    images = photos(2, rows * side, columns * side, channels)
    cut = blocks.split(images, side)
    assert cut.shape == (2, rows * columns, side, side, channels)
    assert np.array_equal(cut[:, columns - 1], images[:, :side, -side:])
    assert np.array_equal(blocks.join(cut, rows * side), images)


def test_draws_are_uniform_and_in_bounds():
    draws = CipherKey("test", KEY).draws("numbers")
    assert np.abs(np.bincount(draws.integers(6, 6000), minlength=6) - 1000).max() < 150
    orders = draws.orders(6000, 3)
    assert np.abs(np.unique(orders, axis=0, return_counts=True)[1] - 1000).max() < 150
    assert draws.chosen(7, 0.5).sum() == 3
    uniforms, normals = draws.uniforms(9999), draws.normals(9999)
    assert np.abs(uniforms).max() <= 1
    assert abs(uniforms.mean()) < 0.03
    assert abs(normals.std() - 1) < 0.03
    same = CipherKey("test", KEY).draws("numbers"), CipherKey("other", KEY).draws("numbers")
    assert not np.array_equal(same[0].integers(256, 99), same[1].integers(256, 99))


# names of earlier versions


@pytest.mark.parametrize(("old", "new"), [("SCHEMES", "PUBLISHED_CIPHERS"), ("PublishedScheme", "PublishedCipher")])
def test_earlier_names_work_and_say_the_new_one(old, new):
    with pytest.warns(DeprecationWarning, match=f"te.audit.{old} is now te.audit.{new}"):
        assert getattr(te.audit, old) is getattr(te.audit, new)


def test_the_earlier_name_of_a_citation_is_read_and_written():
    with pytest.warns(DeprecationWarning, match="LE.source is now LE.citation"):
        assert PUBLISHED_CIPHERS["le"].source == PUBLISHED_CIPHERS["le"].citation
    with pytest.warns(DeprecationWarning, match="Own.source is now Own.citation"):

        class Own(te.audit.Attack):
            name, source = "own", "a paper"

    assert Own.citation == "a paper"
