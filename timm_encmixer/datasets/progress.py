"""One progress bar for all processes: each writes down what it has done, the main one adds it up and shows it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

_SECONDS = 0.5


class Progress:
    """This process's own account, in a file that the main process reads.

    Args:
        folder: Where the accounts of all processes are.
        process: This one's number.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self._file = folder / f"progress-{process}"
        self._bytes = self._images = 0
        self._written = 0.0

    def add(self, size: int, images: int) -> None:
        """Count source bytes and converted images; written down twice a second at most."""
        self._bytes += size
        self._images += images
        now = time.monotonic()
        if now - self._written >= _SECONDS:
            self.write()
            self._written = now

    def write(self) -> None:
        """Write the account down."""
        with contextlib.suppress(OSError):  # a full disk is reported where it matters
            self._file.write_text(json.dumps([self._bytes, self._images]))


@contextlib.contextmanager
def bar_of_all(folder: Path, total: int, done: int, *, label: str, show: bool) -> Iterator[None]:
    """Show one bar over all processes while the context lasts: bytes of the source, images per second, time left.

    Args:
        folder: Where the processes write their accounts.
        total: Bytes of all shards.
        done: Bytes of the shards that were done before.
        label: What is being done.
        show: False shows nothing, as does a stderr that is no terminal.
    """
    over = threading.Event()
    start = time.monotonic()
    options = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "disable": None if show else True}
    with tqdm(total=total, initial=done, desc=label, **options) as bar:

        def update() -> None:
            accounts = [_account(file) for file in folder.glob("progress-*")]
            images = sum(account[1] for account in accounts)
            bar.set_postfix_str(f"{images} images, {images / max(time.monotonic() - start, 1e-9):.0f}/s", refresh=False)
            bar.update(done + sum(account[0] for account in accounts) - bar.n)
            bar.refresh()

        def watch() -> None:
            while not over.wait(_SECONDS):
                update()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            update()


def _account(file: Path) -> list[int]:
    try:
        value: list[int] = json.loads(file.read_text())
    except (OSError, ValueError):  # it is being written
        return [0, 0]
    return value
