from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import ANY_SIDE
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import timm_encmixer as te
from timm_encmixer.ciphers.blocks import split
from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.ciphers.key_stream import KeyStream
from timm_encmixer.errors import ImageError, ImageTypeError, KeyMismatchError, SchemeError, SchemeMismatchError, SecretLeakError
from timm_encmixer.scheme import facts_of

ALL = [cipher for cipher in te.CIPHERS if facts_of(cipher).fits(4)]
EXACT = [cipher for cipher in ANY_SIDE if facts_of(cipher).exact]
SIGNED = [cipher for cipher in te.CIPHERS if facts_of(cipher).exact]
VECTORS = json.loads((Path(__file__).parent / "vectors" / "format-1.json").read_text())
KEY = te.SecretKey(bytes(range(32)))


@pytest.fixture(autouse=True)
def two_threads():
    """As in most programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def cipher_of(cipher="shuffle+negpos", patch=4, channels=3, key=KEY, grid=None) -> te.BlockCipher:
    return te.BlockCipher(key, te.Scheme(cipher=cipher, patch_size=patch, in_chans=channels, grid=grid))


def reference(images: torch.Tensor, cipher: te.BlockCipher) -> torch.Tensor:
    """Block by block, number by number, from the definition u = 1/2 + A (v - 1/2); float64 in and out."""
    channels, patch = cipher.scheme.in_chans, cipher.scheme.patch_size
    matrix = cipher.fold_rows(torch.eye(cipher.scheme.block_size, dtype=torch.float64)).T
    out = images.clone()
    if cipher.scheme.grid is not None:
        columns = cipher.scheme.grid[1]
        for place, block in enumerate(cipher.order.tolist()):
            there, here = (
                (slice(None), slice(None), *(slice(at * patch, (at + 1) * patch) for at in divmod(b, columns)))
                for b in (place, block)
            )
            out[there] = images[here]
    for image in out:
        for top in range(0, image.shape[1], patch):
            for left in range(0, image.shape[2], patch):
                block = image[:, top : top + patch, left : left + patch]
                block.copy_((0.5 + matrix @ (block.reshape(-1) - 0.5)).reshape(channels, patch, patch))
    return out


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["fingerprint"])
def test_known_answers(case):
    """The derivation is a format: vectors from an independent script."""
    key = te.SecretKey(bytes.fromhex(case["key"]))
    for vector in case["ciphers"]:
        cipher = cipher_of(vector["cipher"], vector["P"], vector["C"], key, grid=vector.get("grid"))
        size = vector["C"] * vector["P"] ** 2
        expected = torch.eye(size, dtype=torch.float64)
        for part in vector["cipher"].split("+"):
            if part == "scramble":
                assert cipher.order.tolist() == vector[part]
                continue
            if part == "etc":
                sources, negated = map(torch.tensor, zip(*vector[part], strict=True))
                step = torch.eye(size, dtype=torch.float64)[sources] * (1 - 2 * negated)[:, None]
            elif part in ("shuffle", "shuffle-planes"):
                step = torch.eye(size, dtype=torch.float64)[vector[part]]
            elif part == "negpos":
                step = torch.eye(size, dtype=torch.float64)
                step[vector[part]] *= -1
            else:
                step = torch.tensor(vector[part], dtype=torch.float64)
            expected = step @ expected
        matrix = cipher.fold_rows(torch.eye(size, dtype=torch.float64)).T
        assert torch.allclose(matrix, expected, rtol=0, atol=1e-12 if "orthogonal" in vector["cipher"] else 0)
        if cipher.scheme.exact and "scramble" not in vector["cipher"]:  # the same of arrays: one block is an image
            block = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
            array = block.reshape(vector["C"], vector["P"], vector["P"]).transpose(1, 2, 0)
            answer = (255 * (0.5 + expected.numpy() @ (block / 255 - 0.5))).round().astype(np.uint8)
            assert np.array_equal(te.ImageCipher(key, cipher.scheme).encrypt(array).transpose(2, 0, 1).reshape(-1), answer)


@settings(deadline=None, max_examples=60)
@given(
    cipher=st.sampled_from(SIGNED),
    channels=st.sampled_from([1, 2, 3, 4, 7]),
    patch=st.integers(2, 32),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    batch=st.integers(1, 3),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_uint8_round_trips_bit_for_bit(cipher, channels, patch, rows, columns, batch, channels_last, seed):
    patch = 8 * (1 + patch // 9) if "etc" in cipher else patch
    block_cipher = cipher_of(cipher, patch, channels, grid=(rows, columns) if "scramble" in cipher else None)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, channels, rows * patch, columns * patch), dtype=torch.uint8, generator=generator)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    encrypted = block_cipher.encrypt(images)
    assert torch.equal(images, before)
    assert encrypted.dtype == torch.uint8
    assert encrypted.stride() == images.stride() or images.is_contiguous()
    assert torch.equal(block_cipher.decrypt(encrypted), images)
    assert torch.equal(encrypted.double() / 255, (reference(images.double() / 255, block_cipher) * 255).round() / 255)
    image_cipher = te.ImageCipher(KEY, block_cipher.scheme)
    arrays, ciphertexts = (np.ascontiguousarray(batch.permute(0, 2, 3, 1)) for batch in (images, encrypted))
    assert np.array_equal(image_cipher.encrypt_batch(arrays), ciphertexts)
    assert np.array_equal(image_cipher.decrypt_batch(ciphertexts), arrays)
    assert np.array_equal(image_cipher.encrypt(arrays[0]), ciphertexts[0])


@pytest.mark.parametrize("cipher", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_floats_follow_the_definition(cipher, dtype, channels_last):
    block_cipher = cipher_of(cipher, 4, grid=(2, 3) if "scramble" in cipher else None)
    images = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    encrypted = block_cipher.encrypt(images)
    tolerance = 8 * torch.finfo(dtype).eps
    assert encrypted.dtype == dtype
    assert encrypted.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert torch.allclose(encrypted.double(), reference(images.double(), block_cipher), rtol=0, atol=tolerance)
    assert torch.allclose(block_cipher.decrypt(encrypted).double(), images.double(), rtol=0, atol=tolerance)


def test_scrambled_images_have_one_size(pixels):
    cipher = cipher_of("shuffle+negpos+scramble", grid=(8, 8))
    assert torch.equal(cipher.encrypt(pixels)[0], cipher.encrypt(pixels[0]))
    with pytest.raises(ImageError, match="expected 32 x 32 px, the one size whose blocks the scheme permutes, got 32 x 16 px"):
        cipher.encrypt(pixels[:, :, :, :16])
    with pytest.raises(SchemeMismatchError, match=r"a cipher that scrambles blocks.*\+scramble"):
        _ = cipher_of().order
    for copied in (copy.deepcopy(cipher), copy.deepcopy(cipher_of("orthogonal+scramble", grid=(8, 8)))):
        unit = pixels[:2].float() / 255
        assert torch.allclose(copied.decrypt(cipher_of(copied.scheme.cipher, grid=(8, 8)).encrypt(unit)), unit, atol=1e-5)


def test_the_number_of_threads_changes_nothing(pixels):
    threads = torch.get_num_threads()
    for cipher in map(cipher_of, EXACT):
        for images in (pixels, pixels.float() / 255, pixels.contiguous(memory_format=torch.channels_last)):
            results = []
            for count in (1, 2):
                torch.set_num_threads(count)
                results.append(cipher.encrypt(images))
            torch.set_num_threads(threads)
            assert torch.equal(*results)


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_the_map_is_orthogonal(cipher):
    block_cipher = cipher_of(cipher, 5)
    matrix = block_cipher.fold_rows(torch.eye(75, dtype=torch.float64))
    assert torch.allclose(matrix @ matrix.T, torch.eye(75, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(block_cipher.unfold_rows(matrix), torch.eye(75, dtype=torch.float64), atol=1e-12)


def test_negpos_negates_exactly_half():
    for patch, channels in ((2, 1), (3, 1), (3, 3), (7, 3)):
        matrix = cipher_of("negpos", patch, channels).fold_rows(torch.eye(channels * patch**2, dtype=torch.float64))
        assert int((matrix.diagonal() == -1).sum()) == channels * patch**2 // 2


def test_every_public_parameter_and_every_part_has_its_own_stream():
    block = {}
    for cipher in EXACT:
        for patch, channels in ((4, 3), (2, 12)):
            matrix = cipher_of(cipher, patch, channels).fold_rows(torch.eye(48, dtype=torch.float64))
            block[cipher, patch] = matrix.abs().argmax(dim=0), matrix.sum(dim=0) < 0
    assert not torch.equal(block["shuffle", 4][0], block["shuffle", 2][0])
    assert not torch.equal(block["shuffle", 4][0], block["shuffle+negpos", 4][0])
    assert not torch.equal(block["negpos", 4][1], block["shuffle+negpos", 4][1])


def test_permutations_are_uniform():
    """Chi-squared over the 24 permutations of 4 positions: 49.7 is the 99.9% point for 23 degrees of freedom."""
    stream, counts = KeyStream(bytes(32)), dict.fromkeys(range(24), 0)
    numbers = {order: number for number, order in enumerate(sorted({*map(tuple, _permutations(4))}))}
    for _ in range(2400):
        counts[numbers[tuple(stream.permutation(4))]] += 1
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 49.7


def _permutations(size: int) -> list[list[int]]:
    import itertools

    return [list(order) for order in itertools.permutations(range(size))]


def test_pil_arrays_and_tensors_agree(photos, pixels):
    cipher = cipher_of()
    expected = cipher.encrypt(pixels[0])
    picture, array = cipher.encrypt(photos[0]), cipher.encrypt(np.array(photos[0]))
    assert isinstance(picture, Image.Image)
    assert picture.mode == "RGB"
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert np.array_equal(np.array(picture), array)
    assert np.array_equal(array, expected.permute(1, 2, 0).numpy())
    assert np.array_equal(np.array(cipher.decrypt(picture)), np.array(photos[0]))


def test_grey_images(photos):
    cipher, grey = cipher_of(channels=1), photos[0].convert("L")
    encrypted = cipher.encrypt(grey)
    assert encrypted.mode == "L"
    assert np.array_equal(np.array(cipher.decrypt(encrypted)), np.array(grey))
    assert np.array_equal(cipher.encrypt(np.array(grey)[:, :, None])[:, :, 0], np.array(encrypted))


def test_strided_read_only_and_permuted_inputs(photos):
    cipher = cipher_of()
    array = np.array(photos[0])
    assert np.array_equal(cipher.encrypt(array[::-1]), cipher.encrypt(np.ascontiguousarray(array[::-1])))
    array.flags.writeable = False
    encrypted = cipher.encrypt(array)
    tensor = torch.from_numpy(np.array(photos[0])).permute(2, 0, 1)  # lies in memory as H, W, C
    assert np.array_equal(cipher.encrypt(tensor).permute(1, 2, 0).numpy(), encrypted)
    assert cipher.encrypt(tensor).stride() == tensor.stride()
    wide = torch.from_numpy(np.array(photos[0])).permute(2, 0, 1).repeat(1, 1, 2)[:, :, :32]
    assert np.array_equal(cipher.encrypt(wide).permute(1, 2, 0).numpy(), encrypted)


@pytest.mark.parametrize("cipher", ALL)
def test_empty_batches_pass(cipher):
    empty = torch.zeros(0, 3, 8, 8, dtype=torch.uint8 if facts_of(cipher).exact else torch.float32)
    scrambled = (2, 2) if facts_of(cipher).scrambles else None
    assert cipher_of(cipher, grid=scrambled).encrypt(empty).shape == empty.shape


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 30, 32, dtype=torch.uint8), "multiples of 4 px, got 30 x 32 px"),
        (torch.zeros(3, 32, 33), "multiples of 4 px"),
        (torch.zeros(3, 0, 32), "multiples of 4 px"),
        (torch.zeros(1, 32, 32), r"shape \(3, H, W\)"),
        (torch.zeros(32, 32), "shape"),
        (torch.zeros(1, 1, 3, 32, 32), "shape"),
        (torch.zeros(3, 32, 32, dtype=torch.int64), "uint8, or floats"),
        (np.zeros((32, 32, 4), dtype=np.uint8), r"shape \(H, W, 3\)"),
        (np.zeros((32, 32, 3), dtype=np.float32), "uint8 array"),
        (Image.new("L", (32, 32)), "mode RGB, got mode L"),
        (Image.new("RGBA", (32, 32)), "mode RGB"),
        (Image.new("RGB", (31, 32)), "multiples of 4 px"),
    ],
)
def test_images_that_do_not_fit(image, message):
    with pytest.raises(ImageError, match=message):
        cipher_of().encrypt(image)


def test_things_that_are_no_images():
    with pytest.raises(ImageTypeError, match="got str"):
        cipher_of().encrypt("photo.png")


def test_orthogonal_needs_floats():
    with pytest.raises(ImageError, match="float tensor"):
        cipher_of("orthogonal").encrypt(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ImageError, match="float tensor"):
        cipher_of("orthogonal").encrypt(Image.new("RGB", (8, 8)))


def test_wrong_keys_are_refused_or_give_something_else(pixels, other_key):
    scheme = te.Scheme(patch_size=4, fingerprint=KEY.fingerprint)
    with pytest.raises(KeyMismatchError, match=f"{KEY.fingerprint}.*{other_key.fingerprint}"):
        te.BlockCipher(other_key, scheme)
    wrong = te.BlockCipher(other_key, scheme.without_fingerprint())
    assert not torch.equal(wrong.decrypt(te.BlockCipher(KEY, scheme).encrypt(pixels)), pixels)


def test_rows_of_another_size():
    with pytest.raises(SchemeMismatchError, match="3 x 4 x 4"):
        cipher_of().fold_rows(torch.zeros(5, 47))


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_as_a_module(cipher):
    block_cipher = cipher_of(cipher)
    model = nn.Sequential(block_cipher, nn.Flatten(), nn.Linear(192, 2))
    assert all(not name.startswith("0.") for name in model.state_dict())
    assert not list(block_cipher.parameters())
    images = torch.rand(2, 3, 8, 8)
    expected = block_cipher.encrypt(images)
    assert torch.equal(block_cipher(images), expected)
    half = copy.deepcopy(block_cipher).half()  # a cast of the model must not round the key
    assert torch.equal(half.encrypt(images), expected)


def test_moves_between_devices():
    """Without a GPU the meta device stands in: it proves that nothing is left on the CPU."""
    device = "cuda" if torch.cuda.is_available() else "meta"
    images = torch.rand(2, 3, 8, 8)
    for cipher in ANY_SIDE:
        moved = cipher_of(cipher).to(device)
        result = moved(images.to(device))
        assert result.device.type == device
        if device == "cuda":
            assert torch.allclose(result.cpu(), cipher_of(cipher)(images), atol=1e-6)


@pytest.mark.nightly
@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_runs_under_compile(cipher):
    backend = "inductor" if cipher == "shuffle+negpos" and shutil.which("g++") else "aot_eager"
    block_cipher = cipher_of(cipher)
    images = torch.rand(2, 3, 8, 8)
    compiled = torch.compile(block_cipher, backend=backend, fullgraph=True)
    assert torch.allclose(compiled(images), block_cipher.encrypt(images), atol=1e-6)
    if cipher != "orthogonal":
        codes = (images * 255).to(torch.uint8)
        assert torch.equal(compiled(codes), block_cipher.encrypt(codes))


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_gradients_pass_through(cipher):
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cipher_of(cipher).encrypt, (images,))


@pytest.mark.nightly(but=("fork",))
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_serves_in_a_loaders_collate_function(context, pixels):
    cipher = cipher_of()
    dataset = torch.utils.data.TensorDataset(pixels[:8], torch.arange(8))
    loader = torch.utils.data.DataLoader(
        dataset, 4, collate_fn=cipher.collate, num_workers=1, multiprocessing_context=multiprocessing.get_context(context)
    )
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(images, cipher.encrypt(pixels[:8]))
    assert labels.tolist() == list(range(8))


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_is_never_pickled_or_shown(cipher, tmp_path):
    block_cipher = cipher_of(cipher)
    with pytest.raises(SecretLeakError):
        pickle.dumps(block_cipher)
    with pytest.raises(SecretLeakError):
        torch.save(nn.Sequential(block_cipher), tmp_path / "model.pt")
    assert repr(block_cipher) == f"BlockCipher({cipher}, patch_size=4, in_chans=3, fingerprint=None)"
    image_cipher = block_cipher.for_images
    with pytest.raises(SecretLeakError):
        pickle.dumps(image_cipher)
    assert copy.deepcopy(image_cipher) is image_cipher
    assert repr(image_cipher) == f"ImageCipher({cipher}, patch_size=4, in_chans=3, fingerprint=None)"


def _encrypt_in_child(cipher, image, results):
    results.put(cipher.encrypt(image))


@pytest.mark.nightly
def test_an_image_cipher_serves_a_child_process(photos):
    cipher, context = te.ImageCipher(KEY, te.Scheme(patch_size=4)), multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=_encrypt_in_child, args=(cipher, np.asarray(photos[0]), results))
    child.start()
    assert np.array_equal(results.get(timeout=120), cipher.encrypt(np.asarray(photos[0])))
    child.join()


def test_function_transforms_pass_through():
    """torch.func's transforms and inference mode see tensors that numpy cannot."""
    cipher, images = cipher_of(), torch.rand(4, 3, 8, 8)
    expected = cipher.encrypt(images)
    assert torch.equal(torch.func.vmap(cipher.encrypt)(images[:, None])[:, 0], expected)
    with torch.inference_mode():
        assert torch.equal(cipher.encrypt(images), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_etc_moves_whole_sub_blocks(channels):
    """Neighbours in a square of 8 x 8 px of the ciphertext are neighbours in one square, and have one sign and one channel."""
    mapping, _ = cipher_of("etc", 16, channels).for_images.maps
    channel, row, column = np.unravel_index(mapping.source.reshape(channels, 16, 16), (channels, 16, 16))
    negative = mapping.negative.reshape(channels, 16, 16)
    seen = set()
    for top, left in ((0, 0), (0, 8), (8, 0), (8, 8)):
        square = np.s_[:, top : top + 8, left : left + 8]
        assert len(np.unique(negative[square])) == 1
        assert all(len(np.unique(one)) == 1 for one in channel[square])
        (origin,) = {(int(r), int(c)) for r, c in zip(row[square].ravel() // 8, column[square].ravel() // 8, strict=True)}
        seen.add(origin)
        for axis in (1, 2):
            steps = np.abs(np.diff(row[square], axis=axis)), np.abs(np.diff(column[square], axis=axis))
            assert {(int(down), int(across)) for down, across in zip(*(s.flat for s in steps), strict=True)} in (
                {(0, 1)},
                {(1, 0)},
            )
    assert len(seen) == 4


def test_etc_needs_blocks_of_jpegs_transform():
    with pytest.raises(te.errors.SchemeError, match=r"multiple of 8 px for the cipher etc, got 4 px; .*encmixer models --etc"):
        te.Scheme(cipher="etc", patch_size=4)
    assert te.Scheme(cipher="etc", patch_size=8).version == 4


# maps of any kind


@dataclass(frozen=True)
class Reflection:
    """A third kind of keyed map, by its protocol alone: u - 1/2 = (1 - 2 w w^T)(v - 1/2) for a unit vector w."""

    w: np.ndarray
    order: np.ndarray | None = None
    gather: None = None

    @property
    def matrix(self):
        return np.eye(len(self.w)) - 2 * np.outer(self.w, self.w)

    def inverse(self):
        return Reflection(self.w, None if self.order is None else self.order.argsort())

    def permuted(self, order):
        return Reflection(self.w, order)

    def then(self, other):
        raise NotImplementedError


@pytest.mark.parametrize("order", [None, np.array([3, 0, 1, 2])])
def test_a_map_of_another_kind_is_applied_by_its_protocol(order):
    w = np.random.default_rng(0).standard_normal(48)
    mapping = Reflection(w / np.linalg.norm(w)).permuted(order)
    scheme = te.Scheme(patch_size=4, cipher="orthogonal")
    images = ImageCipher.of_map(scheme, "0" * 16, mapping)
    with pytest.raises(ImageError, match="a float tensor"):
        images.encrypt(np.zeros((8, 8, 3), np.uint8))
    cipher, plain = te.BlockCipher.of(images), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    blocks = split(plain, 4).flatten(1, 2) - 0.5
    wanted = blocks @ torch.from_numpy(mapping.matrix).T + 0.5
    wanted = wanted if order is None else wanted[:, order]
    ciphertext = cipher.encrypt(plain)
    assert torch.allclose(split(ciphertext, 4).flatten(1, 2), wanted, atol=1e-12)
    assert torch.allclose(cipher.decrypt(ciphertext), plain, atol=1e-12)
    rows = torch.rand(5, 48, dtype=torch.float64)
    assert torch.allclose(cipher.unfold_rows(cipher.fold_rows(rows)), rows, atol=1e-12)


def test_shuffle_planes_keeps_the_histogram_of_each_channel():
    key, image = te.SecretKey(bytes(range(32))), torch.randint(0, 256, (1, 3, 28, 28), dtype=torch.uint8)
    ciphertext = te.BlockCipher(key, te.Scheme(patch_size=7, cipher="shuffle-planes")).encrypt(image)
    assert not torch.equal(ciphertext, image)
    for one, other in zip(split(image, 7).flatten(0, 2), split(ciphertext, 7).flatten(0, 2), strict=True):
        assert torch.equal(one.reshape(3, 49).sort(dim=1).values, other.reshape(3, 49).sort(dim=1).values)


# what a cipher is made of


def test_ciphers_take_a_model_or_its_record(plain_model, key, encrypted_folder):
    encrypted = te.encrypt_model(plain_model, key)
    stock = timm.create_model(f"local-dir:{encrypted_folder}", pretrained=True)
    assert not hasattr(stock, "encmixer")
    image = np.zeros((32, 32, 3), np.uint8)
    for kind in (te.BlockCipher, te.ImageCipher):
        wanted = kind(key, encrypted.encmixer).encrypt(image)
        models = (encrypted, stock, nn.DataParallel(encrypted))
        assert all(np.array_equal(kind(key, model).encrypt(image), wanted) for model in models)
        for wrong in (plain_model, "encrypted", None):
            with pytest.raises(SchemeError, match=r"scheme: expected a Scheme, or an encrypted model in memory"):
                kind(key, wrong)


@pytest.mark.parametrize("cipher", ANY_SIDE)
@pytest.mark.parametrize("wrong", [-248.0, 255.0, -0.5, 1.5, float("nan"), float("inf")])
def test_floats_that_are_no_pixels_are_refused(key, cipher, wrong):
    block_cipher, images = te.BlockCipher(key, te.Scheme(patch_size=4, cipher=cipher)), torch.rand(2, 3, 8, 8)
    images[1, 2, 3, 4] = wrong
    for batch in (images, images[1], images.half(), images.to(memory_format=torch.channels_last)):
        with pytest.raises(ImageError, match=r"floats in \[0, 1\], got floats from"):
            block_cipher.encrypt(batch)
    rounded = torch.tensor(1.0001).repeat(1, 3, 4, 4)
    assert block_cipher.encrypt(rounded).shape == rounded.shape
