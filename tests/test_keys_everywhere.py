"""Every public call that takes a key takes a SecretKey or a path, and says in one line when it is given something else."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import torch
from accelerate import PartialState

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_MODEL, bundled_images
from timm_encmixer.checkpoints import load_model
from timm_encmixer.errors import KeyMismatchError, MissingKeyError
from timm_encmixer.evaluation import evaluate, run_demo, verify
from timm_encmixer.images import MemoryImages
from timm_encmixer.publishing import rotate_on_hub

NO_KEYS = {
    "bytes": bytes(range(32)),
    "number": 7,
    "list": [1],
    "text of another kind": b"owner.key",
    "class": te.SecretKey,
}


@pytest.fixture(scope="module")
def things(tmp_path_factory, plain_model):
    """What the calls need: a folder to write to, plain and encrypted models, checkpoints and images."""
    root, key = tmp_path_factory.mktemp("keys"), te.SecretKey(bytes(range(32)))
    encrypted = te.encrypt_model(plain_model, key)
    te.save_model(encrypted, root / "encrypted")
    images, labels, _ = bundled_images()
    (root / "photos").mkdir()
    images[0].save(root / "photos" / "a.png")
    te.encrypt_images(root / "photos", root / "ciphertext", key, encrypted)
    te.encrypt_dataset(root / "photos", root / "dataset", key, encrypted, progress=False)
    next_key = te.SecretKey(bytes(range(1, 33)))
    next_key.save(root / "next.key")
    names = itertools.count()
    return {
        "plain": plain_model,
        "encrypted": encrypted,
        "folder": root / "encrypted",
        "photos": root / "photos",
        "ciphertext": root / "ciphertext",
        "dataset": root / "dataset",
        "next": root / "next.key",
        "data": MemoryImages(images[:2], labels[:2]),
        "pixels": torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        "new": lambda: root / f"new-{next(names)}",
    }


def written(things, call):
    """What a call writes to a new target: the files of a folder, or a file."""
    target = things["new"]()
    call(target)
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def comparable(value):
    """Tensors as bytes, in whatever they stand; without times."""
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        return value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: comparable(one) for name, one in value.items() if name != "seconds"}
    return value


# Each returns what it made, by a key or its file.
CALLS = {
    "BlockCipher": lambda t, key: te.BlockCipher(key, te.Scheme(patch_size=4)).encrypt(t["pixels"]),
    "create_transform": lambda t, key: te.create_transform(t["encrypted"], key=key)(t["data"].images[0]),
    "decrypt_checkpoint": lambda t, key: written(t, lambda new: te.decrypt_checkpoint(t["folder"], new, key)),
    "decrypt_dataset": lambda t, key: written(t, lambda new: te.decrypt_dataset(t["dataset"], new, key, progress=False)),
    "decrypt_images": lambda t, key: written(t, lambda new: te.decrypt_images(t["ciphertext"], new, key, t["encrypted"])),
    "decrypt_model": lambda t, key: te.decrypt_model(t["encrypted"], key),
    "encrypt_checkpoint": lambda t, key: written(t, lambda new: te.encrypt_checkpoint(BUNDLED_FOLDER, new, key)),
    "encrypt_dataset": lambda t, key: written(
        t, lambda new: te.encrypt_dataset(t["photos"], new, key, t["encrypted"], progress=False)
    ),
    "encrypt_images": lambda t, key: written(t, lambda new: te.encrypt_images(t["photos"], new, key, t["encrypted"])),
    "encrypt_model": lambda t, key: te.encrypt_model(t["plain"], key),
    "evaluate": lambda t, key: evaluate(t["encrypted"], key, t["data"], progress=False).to_dict(),
    "rotate_checkpoint": lambda t, key: written(t, lambda new: te.rotate_checkpoint(t["folder"], new, key, t["next"])),
    "rotate_model": lambda t, key: te.rotate_model(t["encrypted"], key, t["next"]),
    "share_key": lambda t, key: te.share_key(PartialState(cpu=True), key).reveal(),
    "verify": lambda t, key: verify(t["plain"], t["encrypted"], key, [("a", t["data"].images[0])]).to_dict(),
    "audit.run": lambda t, key: te.audit.run(t["encrypted"], key=key, attacks=["key_reuse"], progress=False).to_dict(),
}
# Calls that reach the Hub, or need a run of accelerate, before or after they have found the key: only refusals are tried here.
REFUSING = {
    "push_to_hub": lambda t, key: te.push_to_hub(t["folder"], "me/m", key=key),
    "push_dataset": lambda t, key: te.push_dataset(t["dataset"], "me/m", key=key),
    "rotate_on_hub": lambda t, key: rotate_on_hub("me/m", key, t["next"]),
    "rotate_on_hub, new key": lambda t, key: rotate_on_hub("me/m", t["next"], key),
    "rotate_model, new key": lambda t, key: te.rotate_model(t["encrypted"], t["next"], key),
    "run_demo": lambda t, key: run_demo(t["new"](), key=key),
}


@pytest.mark.nightly(only=("audit.run",))
@pytest.mark.parametrize("name", CALLS)
def test_a_path_is_as_good_as_a_key(things, key, other_key, key_file, name):
    by_key = comparable(CALLS[name](things, key))
    assert by_key not in ({}, None)
    assert comparable(CALLS[name](things, key_file)) == by_key
    assert comparable(CALLS[name](things, str(key_file))) == by_key
    with contextlib.suppress(KeyMismatchError):
        assert comparable(CALLS[name](things, other_key)) != by_key  # so the comparison shows something


@pytest.mark.parametrize("wrong", NO_KEYS)
@pytest.mark.parametrize("name", [*CALLS, *REFUSING])
def test_anything_else_is_a_missing_key(things, name, wrong):
    with pytest.raises(MissingKeyError) as caught:
        (CALLS | REFUSING)[name](things, NO_KEYS[wrong])
    assert "expected a SecretKey or a path" in str(caught.value)
    assert repr(NO_KEYS[wrong]) not in str(caught.value)  # it may be the key itself


def test_every_public_call_that_takes_a_key_is_here():
    import inspect

    tried = {name.partition(",")[0] for name in (*CALLS, *REFUSING)}
    for name in te.__all__:
        thing = getattr(te, name)
        if callable(thing) and not inspect.isclass(thing) and "key" in inspect.signature(thing).parameters:
            assert name in tried | {"load_encrypted", "prepare_encrypted"}, name  # these need an Accelerator: tests/distributed


@pytest.mark.filterwarnings("ignore::timm_encmixer.errors.PublicWeightsWarning")
def test_create_model_takes_both(key, key_file):
    import timm

    for given in (key, key_file, str(key_file)):
        assert te.scheme_of(timm.create_model("encmixer_256_8_ks5_p4.cifar10", pretrained=True, key=given)) is not None
    with pytest.raises(MissingKeyError, match="got int"):
        timm.create_model("encmixer_256_8_ks5_p4.cifar10", pretrained=True, key=7)
    assert load_model(BUNDLED_MODEL) is not None
