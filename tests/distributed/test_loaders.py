"""Loaders that are wrong in ways that accelerate would not notice, models on the meta device, and mixed precision."""

from __future__ import annotations

import accelerate
import pytest
import timm
import torch
from conftest import ANY_SIDE, normalised
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import timm_encmixer as te
from timm_encmixer.distributed import processes
from timm_encmixer.errors import DataError, KeyFormatError, ProcessError, StemError
from timm_encmixer.evaluation.exactness import verify
from timm_encmixer.images import cipher_input


@pytest.fixture
def accelerator() -> accelerate.Accelerator:
    return accelerate.Accelerator(cpu=True)


@pytest.fixture
def cipher(plain_model, key) -> te.BlockCipher:
    return te.BlockCipher(key, te.encrypt_model(plain_model, key).encmixer)


class Photos(torch.utils.data.Dataset):
    def __init__(self, photos):
        self.photos, self.transform = photos, None

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return self.transform(self.photos[index]), index


def test_batches_of_every_form(accelerator, cipher, pixels, plain_model, key):
    """Bare tensors, tuples and dicts; the encrypted model on them computes what the plain one does."""
    forms = {
        0: [(image, 7) for image in pixels],
        "image": [{"image": image, "label": 7} for image in pixels],
    }
    encrypted = te.encrypt_model(plain_model, key).eval()
    with torch.inference_mode():
        want = plain_model(normalised(pixels, plain_model.pretrained_cfg))
        for place, samples in forms.items():
            loader = te.prepare_encrypted(accelerator, DataLoader(samples, 24), cipher, images=place)
            got = torch.cat([encrypted(batch[place]) for batch in loader])
            assert (got - want).abs().max() < 1e-4
            assert [int(batch[1 if place == 0 else "label"][0]) for batch in loader] == [7, 7, 7]
        bare = te.prepare_encrypted(accelerator, DataLoader(pixels, 24), cipher)
        assert torch.equal(torch.cat([encrypted(batch) for batch in bare]), got)


def test_types_and_formats_of_the_inputs(accelerator, plain_model, key, pixels):
    rotation = te.BlockCipher(key, te.encrypt_model(plain_model, key, cipher="orthogonal").encmixer)
    options = {"dtype": torch.float64, "memory_format": torch.channels_last}
    (batch,) = te.prepare_encrypted(accelerator, DataLoader(pixels, 64), rotation, **options)
    assert batch.dtype == torch.float64
    assert batch.is_contiguous(memory_format=torch.channels_last)
    back = rotation.decrypt(batch / 2 + 0.5)
    assert (back - pixels / 255).abs().max() < 1e-7


def test_what_is_normalised_already_is_refused(accelerator, cipher, pixels):
    loader = te.prepare_encrypted(accelerator, DataLoader(pixels / 255, 8), cipher)
    with pytest.raises(DataError, match=r"expected uint8 images, got torch.float32"):
        next(iter(loader))
    wrong_name = te.prepare_encrypted(accelerator, DataLoader([{"img": image} for image in pixels], 8), cipher, images="image")
    with pytest.raises(DataError, match="got dict with img; pass images="):
        next(iter(wrong_name))
    with pytest.raises(DataError, match="expected a torch DataLoader"):
        te.prepare_encrypted(accelerator, [1, 2], cipher)


def test_loaders_that_shard_themselves_are_refused(accelerator, cipher, pixels):
    data = TensorDataset(pixels)
    sampler = DistributedSampler(data, num_replicas=2, rank=0)
    with pytest.raises(DataError, match=r"accelerate shards them, got DistributedSampler"):
        te.prepare_encrypted(accelerator, DataLoader(data, 8, sampler=sampler), cipher)


@pytest.mark.parametrize("prefetcher", [True, False])
def test_timm_augments_before_the_cipher_and_erases_after_it(prefetcher, accelerator, cipher, photos):
    options = {"is_training": True, "num_workers": 0, "use_prefetcher": prefetcher, "device": torch.device("cpu")}
    erasing = timm.data.create_loader(Photos(photos), (3, 32, 32), 16, re_prob=0.5, **options)
    with pytest.raises(DataError, match="re_prob=0"):
        te.prepare_encrypted(accelerator, erasing, cipher)
    data = Photos(photos)
    training = timm.data.create_loader(data, (3, 32, 32), 16, color_jitter=0.4, **options)
    before = data.transform
    batches = list(te.prepare_encrypted(accelerator, training, cipher))
    assert data.transform is before  # the loader that was given still works as it did
    assert [len(inputs) for inputs, _ in batches] == [16] * 4
    grey_levels = cipher.decrypt(batches[0][0] / 2 + 0.5) * 255
    assert (grey_levels - grey_levels.round()).abs().max() < 1e-3  # uint8 values went into the cipher


def test_more_processes_asked_for_than_run_is_an_error(monkeypatch, accelerator, cipher, pixels):
    """The real launcher is met in test_examples.py."""
    monkeypatch.setattr(processes, "_processes_asked_for", lambda: 2)
    with pytest.raises(ProcessError, match="expected 2 processes, got 1"):
        te.prepare_encrypted(accelerator, DataLoader(pixels, 8), cipher)


def test_a_key_in_place_of_its_path_is_not_repeated(key_file):
    text = key_file.read_text().strip()
    with pytest.raises(KeyFormatError, match="a key's own text") as caught:
        te.create_transform(te.Scheme(patch_size=4), key=text)
    assert text[20:40] not in str(caught.value)


@pytest.mark.filterwarnings("ignore:for .*is a no-op")  # torch, of each parameter, before the error
def test_the_meta_device_says_why_not(key):
    with torch.device("meta"), pytest.raises(StemError, match="weights in memory, got the meta device"):
        timm.create_model("encmixer_256_8_ks5_p4.cifar10", pretrained=True, key=key)


def test_big_model_loading_reads_encrypted_checkpoints(encrypted, key, pixels, plain_model):
    """init_empty_weights and load_checkpoint_and_dispatch: the record rides in the config that the empty model is built of."""
    with accelerate.init_empty_weights():
        empty = timm.create_model(f"local-dir:{encrypted}", pretrained=False)
    model = accelerate.load_checkpoint_and_dispatch(empty, str(encrypted / "model.safetensors"), device_map={"": "cpu"}).eval()
    cipher = te.BlockCipher(key, te.scheme_of(model))
    with torch.inference_mode():
        got = model(cipher_input(cipher, pixels))
        assert (got - plain_model(normalised(pixels, plain_model.pretrained_cfg))).abs().max() < 1e-4


def test_a_state_dict_from_elsewhere_is_saved_with_the_record(accelerator, plain_model, key, tmp_path):
    model = te.encrypt_model(plain_model, key)
    te.save_encrypted(accelerator, accelerator.prepare(model), tmp_path / "saved")
    assert te.scheme_of(timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True)) == model.encmixer


@pytest.mark.nightly(but=("shuffle+negpos-bf16",))
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("cipher_name", ANY_SIDE)
def test_low_precision_stays_within_twice_its_own_noise_floor(precision, cipher_name, plain_model, key, photos):
    encrypted = te.encrypt_model(plain_model, key, cipher=cipher_name)
    result = verify(plain_model, encrypted, key, [(str(i), photo) for i, photo in enumerate(photos)], precision=precision)
    assert result.precision == precision
    exact = verify(plain_model, encrypted, key, [(str(i), photo) for i, photo in enumerate(photos)])
    assert result.noise_floor > 20 * exact.noise_floor  # it was computed in the low precision
    assert result.holds, (result.noise_floor, result.max_logit_difference)
