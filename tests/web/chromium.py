"""Debian's Chromium, driven by playwright; and the JavaScript client's tests for Node, which run in it as they are."""

from __future__ import annotations

import base64
import contextlib
import json
import mimetypes
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = "timm_encmixer/web/client"
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
    page.goto(f"{_ORIGIN}/shims/page.html")
    return page


def run_tests(page: Any, *files: str) -> dict[str, Any]:
    """Run tests for Node in a page. Returns how many passed, what failed, what they say, and the files that they write."""
    urls = [f"/{CLIENT}/test/{file}" for file in files]
    done: dict[str, Any] = page.evaluate("async (urls) => (await import('/shims/run.js')).run(urls)", urls)
    return {**done, "written": {name: base64.b64decode(text) for name, text in done["written"].items()}}


def _answer(route: Any, cases: Path | None) -> None:
    path = unquote(urlsplit(route.request.url).path)
    if path.startswith("/shims/"):
        kind, body = mimetypes.guess_type(path)[0], _SHIMS[path.removeprefix("/shims/")].encode()
    else:
        file = cases / path.removeprefix("/cases/") if cases and path.startswith("/cases/") else ROOT / path[1:]
        if not file.is_file():
            return route.fulfill(status=404)
        kind, body = mimetypes.guess_type(file.name)[0], file.read_bytes()
    route.fulfill(body=body, content_type=kind or "application/octet-stream")


_NODE = ("node:test", "node:assert/strict", "node:fs", "node:path", "node:perf_hooks")
_IMPORTS = {name: f"/shims/{name[5:].replace('/', '-')}.js" for name in _NODE}
_SHIMS = {
    "page.html": f'<!doctype html><script type="importmap">{json.dumps({"imports": _IMPORTS})}</script>',
    "run.js": """
        const encoded = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
        export async function run(urls) {
          const hex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
          globalThis.process = { env: { ENCMIXER_CASES: "/cases" } };
          globalThis.Buffer = { from: (given, kind) => {
            const bytes = kind === "hex" ? hex(given) : given;
            const url = () => encoded(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
            return { toString: (form) => (form === "base64url" ? url() : new TextDecoder().decode(bytes)) };
          } };
          Object.assign(globalThis, { queued: [], written: {} });
          for (const url of urls) await import(url);
          const done = { passed: 0, failed: [], said: [] };
          for (const [name, body] of globalThis.queued) {
            try {
              await body({ diagnostic: (text) => done.said.push(text) });
              done.passed++;
            } catch (error) {
              done.failed.push(`${name}: ${error.stack}`);
            }
          }
          const written = Object.fromEntries(Object.entries(globalThis.written).map(([name, bytes]) => [name, encoded(bytes)]));
          return { ...done, written };
        }""",
    "test.js": """
        export function test(name, options, body = options) {
          if (!options.skip) globalThis.queued.push([name, body]);
        }""",
    "assert-strict.js": """
        function same(one, other) {
          if (Object.is(one, other)) return true;
          if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
          if (ArrayBuffer.isView(one) || Array.isArray(one)) {
            return one.constructor === other.constructor && one.length === other.length && one.every((value, i) => same(value, other[i]));
          }
          const names = Object.keys(one);
          return names.length === Object.keys(other).length && names.every((name) => name in other && same(one[name], other[name]));
        }
        const short = (value) => String(JSON.stringify(value)).slice(0, 200);
        const assert = (holds, message = "does not hold") => { if (!holds) throw new Error(message); };
        assert.equal = (one, other, message = "") => assert(Object.is(one, other), `${short(one)} is not ${short(other)} ${message}`);
        assert.deepEqual = (one, other, message = "") => assert(same(one, other), `${short(one)} is not ${short(other)} ${message}`);
        assert.throws = (call, pattern) => {
          let thrown = null;
          try { call(); } catch (error) { thrown = error; }
          assert(thrown !== null && pattern.test(String(thrown)), `${thrown} is not ${pattern}`);
        };
        export default assert;""",
    "fs.js": """
        export function readFileSync(path, encoding) {
          const request = new XMLHttpRequest();
          request.open("GET", path, false);
          if (encoding === undefined) request.overrideMimeType("text/plain; charset=x-user-defined");
          request.send();
          if (request.status !== 200) throw new Error(`${path}: ${request.status}`);
          return encoding === undefined ? Uint8Array.from(request.responseText, (character) => character.charCodeAt(0) & 255) : request.responseText;
        }
        export function writeFileSync(path, bytes) {
          globalThis.written[path.split("/").at(-1)] = bytes;
        }""",
    "path.js": "export const join = (...parts) => parts.join('/');",
    "perf_hooks.js": "export const performance = globalThis.performance;",
}
