"""Fixtures: a running Hub, and real processes with their own HF_HOME that talk to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import processes
import pytest
from server import LoopbackHub
from store import Store


@dataclass
class Client:
    """A user's machine: HF_HOME, token and working folder."""

    hub: LoopbackHub
    home: Path
    token: str | None
    cwd: Path

    @property
    def patience(self) -> int:
        """Seconds that it waits for an answer: long on a busy machine, but for answers that are never to come."""
        faults = [*self.hub.faults.table, *self.hub.storage_faults.table]
        busy = os.getloadavg()[0] / (os.cpu_count() or 1)
        return max(3, round(3 * busy)) if any(fault.do.startswith("stall") for fault in faults) else 120

    def environment(self, **changes: str) -> dict[str, str]:
        ours = ("HF_", "HUGGING", "TIMM_ENCMIXER")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **inherited,
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.home),
            "HF_HUB_DOWNLOAD_TIMEOUT": str(self.patience),
            "HF_HUB_ETAG_TIMEOUT": str(self.patience),
            processes.HURRY: "0.1",  # test_hub_faults.py meets the pauses as they are, in a process of its own
            "HF_XET_CLIENT_AC_INITIAL_UPLOAD_CONCURRENCY": "1",
            **({"HF_TOKEN": self.token} if self.token else {}),
            **({} if self.hub.store.cas else {"HF_HUB_DISABLE_XET": "1"}),
            **changes,
        }

    def run(self, *arguments: object, check: bool = False, **changes: str) -> subprocess.CompletedProcess:
        """Run the real `encmixer` in a real process."""
        words = ["-m", "timm_encmixer", *map(str, arguments)]
        result = processes.run(words, env=self.environment(**changes), cwd=self.cwd)
        assert not check or result.returncode == 0, result.stderr
        return result

    def start(self, *arguments: object, **changes: str) -> processes.Child:
        words = ["-m", "timm_encmixer", *map(str, arguments)]
        return processes.start(words, env=self.environment(**changes), cwd=self.cwd)

    def python(self, code: str, *, without_plugin: bool = False, **changes: str) -> str:
        block = "import sys; sys.modules['timm_encmixer'] = None\n" if without_plugin else ""
        result = processes.run(["-c", block + code], env=self.environment(**changes), cwd=self.cwd)
        assert result.returncode == 0, result.stderr
        return result.stdout

    @property
    def cache(self) -> Path:
        return self.home / "hub"


@pytest.fixture
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder for every client's HF_HOME; the same path in every test, so that their environments are the same."""
    folder = tmp_path_factory.getbasetemp() / "homes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@pytest.fixture
def hub(homes: Path) -> Iterator[LoopbackHub]:
    hub = LoopbackHub(homes)
    yield hub
    hub.close()


@pytest.fixture
def xet_hub(homes: Path, tmp_path: Path) -> Iterator[LoopbackHub]:
    cas = tmp_path / "cas"
    cas.mkdir()
    hub = LoopbackHub(homes, Store(cas=cas))
    yield hub
    hub.close()


def client_of(hub: LoopbackHub, tmp_path: Path, name: str | None = "me", role: str = "write") -> Client:
    """Return a user's new machine; None is a visitor who is not logged in."""
    token = hub.user(name, role) if name else None
    cwd = tmp_path / f"{name}-{role}-cwd"
    cwd.mkdir(exist_ok=True)
    home = hub.homes / f"{name}-{role}-{len(list(hub.homes.iterdir()))}"
    home.mkdir()
    return Client(hub, home, token, cwd)


@pytest.fixture(scope="session")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model encrypted with bytes(range(32)), as a folder; read only."""
    import timm_encmixer as te
    from timm_encmixer.bundled import BUNDLED_FOLDER
    from timm_encmixer.models.provenance import Provenance

    folder = tmp_path_factory.mktemp("encrypted") / "model"
    te.encrypt_checkpoint(BUNDLED_FOLDER, folder, te.SecretKey(bytes(range(32))), provenance=Provenance(public=True))
    return folder


@pytest.fixture
def owner(hub: LoopbackHub, tmp_path: Path) -> Client:
    return client_of(hub, tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, for a repository or to be compared."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damage(path: Path) -> None:
    """Flip one bit in the middle of a cached file, whatever links lead to it."""
    path = path.resolve()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cached(client: Client, repo_id: str, name: str) -> Path:
    """Return the one cached copy of a file."""
    folder = client.cache / f"models--{repo_id.replace('/', '--')}" / "snapshots"
    (path,) = folder.glob(f"*/{name}")
    return path


def age() -> str:
    found = shutil.which("age")
    if found is None:
        pytest.skip("Debian's age is not installed")
    return found
