"""What several tests share: keys, small real models, real images, and the real command line."""

from __future__ import annotations

import base64
import copy
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import processes
import pytest
import timm
import torch
from PIL import Image
from torch import nn

for folder in ("hub", "dataset", "distributed"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
from loopback import encrypted, homes, hub, owner, xet_hub  # noqa: E402, F401  # fixtures

import timm_encmixer as te  # noqa: E402
from timm_encmixer.bundled import BUNDLED_MODEL, bundled_images  # noqa: E402
from timm_encmixer.scheme import facts_of  # noqa: E402

pytest_plugins = ["nightly", "order"]
torch.set_num_threads(1)  # more workers than cores share these


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker more than cores: tests wait at times, for the Hub and for other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not look at it whenever tests make many objects."""
    gc.collect()
    gc.freeze()


ROOT = Path(__file__).parent.parent
ANY_SIDE = [cipher for cipher in te.BLOCK_CIPHERS if facts_of(cipher).fits(4)]  # of one block, for blocks of any side


@pytest.fixture
def key() -> te.SecretKey:
    return te.SecretKey(bytes(range(32)))


@pytest.fixture
def other_key() -> te.SecretKey:
    return te.SecretKey(bytes(range(1, 33)))


@pytest.fixture
def key_file(key: te.SecretKey, tmp_path: Path) -> Path:
    path = tmp_path / "owner.key"
    key.save(path)
    return path


@pytest.fixture(scope="session")
def plain_model() -> nn.Module:
    """The bundled trained ConvMixer."""
    return timm.create_model(BUNDLED_MODEL, pretrained=True).eval()


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """64 real images, 32 x 32 px."""
    return bundled_images()[0][:64]


@pytest.fixture(scope="session")
def pixels(photos: list[Image.Image]) -> torch.Tensor:
    """The same as a uint8 batch (64, 3, 32, 32)."""
    return torch.stack([torch.from_numpy(np.array(photo)).permute(2, 0, 1) for photo in photos])


@pytest.fixture
def encrypted_folder(plain_model: nn.Module, key: te.SecretKey, tmp_path: Path) -> Path:
    folder = tmp_path / "encrypted"
    te.save_model(te.encrypt_model(plain_model, key), folder)
    return folder


def normalised(pixels: torch.Tensor, cfg: dict, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What timm's own transform makes of uint8 pixels under a `pretrained_cfg`."""
    mean, std = (torch.tensor(cfg[name], dtype=dtype).reshape(-1, 1, 1) for name in ("mean", "std"))
    return (pixels.to(dtype) / 255 - mean) / std


def calibrate(model: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Set BatchNorm's statistics: at its default ones a ConvMixer ignores its input."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(inputs)
    return model.eval()


def in_float64(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).double()


def secret_forms(key: te.SecretKey) -> list[bytes]:
    """Every way in which a key could have been written down."""
    raw = key.reveal()
    texts = [raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()]
    body = base64.urlsafe_b64encode(raw + b"....")[:42]  # the key file's own text, less its checksum
    return [raw, *(text.rstrip("=").encode() for text in texts), body, repr(raw)[2:-1].encode(), str(list(raw)).encode()]


def assert_no_secret(key: te.SecretKey, *places: Path | str | bytes) -> None:
    """Search files, folders and texts for the key in all its forms."""
    for place in places:
        if isinstance(place, Path):
            files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
            assert files, f"nothing to search in {place}"
            contents = [path.read_bytes() for path in files]
        else:
            contents = [place.encode() if isinstance(place, str) else place]
        for content in contents:
            for form in secret_forms(key):
                assert form not in content, place


CommandLine = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def encmixer(tmp_path: Path) -> CommandLine:
    """Run the real command in a real process; with `file_bytes` no file may grow larger, as on a full disk."""

    def run(*arguments: object, file_bytes: int | None = None, **environment: str) -> subprocess.CompletedProcess:
        words = ["-m", "timm_encmixer", *map(str, arguments)]
        env = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
        return processes.run(words, env=env, cwd=tmp_path, obey_permissions=True, file_bytes=file_bytes)

    return run
