"""Debian's Chromium, driven by playwright; and the JavaScript client's tests for Node, which run in it as they are."""

from __future__ import annotations

import base64
import contextlib
import mimetypes
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
CLIENT, SHIMS = "timm_encmixer/web/client", "tests/web/shims"  # the second: what the tests want of Node
EXECUTABLE = shutil.which("chromium")
LONGEST_MS = 240_000  # that anything may take; what takes longer hangs
_ORIGIN = "http://127.0.0.1:9"  # nobody listens there: every request is answered here
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

needs_chromium = pytest.mark.skipif(EXECUTABLE is None, reason="no chromium here: Debian's package chromium has it")


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Start a browser with a fresh profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(_ARGUMENTS))
        yield started
        started.close()


def open_client(context: Any, cases: Path | None = None) -> Any:
    """Return a page that has the repository's files, `cases` at /cases, and what the client's scripts want of Node."""
    page = context.new_page()
    page.set_default_timeout(LONGEST_MS)
    page.route("**/*", lambda route: _answer(route, cases))
    page.goto(f"{_ORIGIN}/{SHIMS}/page.html")
    return page


def run_tests(page: Any, *files: str) -> dict[str, Any]:
    """Run tests for Node in a page. Returns how many passed, what failed, what they say, and the files that they write."""
    urls = [f"/{CLIENT}/test/{file}" for file in files]
    done: dict[str, Any] = page.evaluate(f"async (urls) => (await import('/{SHIMS}/run.js')).run(urls)", urls)
    return {**done, "written": {name: base64.b64decode(text) for name, text in done["written"].items()}}


def _answer(route: Any, cases: Path | None) -> None:
    path = unquote(urlsplit(route.request.url).path)
    file = cases / path.removeprefix("/cases/") if cases and path.startswith("/cases/") else ROOT / path[1:]
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    route.fulfill(body=file.read_bytes(), content_type=kind) if file.is_file() else route.fulfill(status=404)
