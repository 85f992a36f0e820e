"""huggingface_hub's session belongs to the whole process: our requests are bounded in time, and nobody else's are."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import get_session

from timm_encmixer.errors import HubError
from timm_encmixer.hub import client


@pytest.fixture
def silent():
    """A server that answers when it is told to."""
    told = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            told.wait(60)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", told
    told.set()
    server.shutdown()


def test_our_requests_end_and_others_wait(silent, monkeypatch):
    url, told = silent
    monkeypatch.setattr(client, "RETRY_SECONDS", ())
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.2)
    monkeypatch.delenv("HF_HUB_DOWNLOAD_TIMEOUT", raising=False)
    session = get_session()
    before = session.timeout
    others = ThreadPoolExecutor(1)
    asked = threading.Event()

    def ask_as_another():
        asked.set()
        return session.get(url).status_code

    waiting = others.submit(ask_as_another)
    asked.wait()

    def upload_from_threads():
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(session.get, [url, url]))

    for ours in (lambda: session.get(url), upload_from_threads):
        with pytest.raises(HubError, match="no answer"):
            client.request("hf-hub:me/m", "an answer", ours)
    assert not waiting.done()
    assert session.timeout == before
    told.set()
    assert waiting.result(60) == 200
    assert session.get(url, timeout=None).status_code == 200
    assert client._running == {}
