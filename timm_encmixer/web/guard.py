"""What is let through to the page and its API: known paths, small requests, and texts and flags as arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8 * 2**20  # of a request
_API = (  # of Gradio: calls, and what its client asks for; no uploads, no files, no pages
    "/config",
    "/gradio_api/info",
    "/gradio_api/queue/join",
    "/gradio_api/queue/data",
    "/gradio_api/heartbeat/[a-z0-9]+",
    "/gradio_api/startup-events",
    "/gradio_api/cancel",
    "/gradio_api/reset/?",
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self' https://huggingface.co",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware. Gradio would take uploads, and fetch files that a call names, into a folder on the disk.

    Args:
        app: What is guarded.
        own: Paths of the page.
        calls: Names of the endpoints.
    """

    def __init__(self, app: ASGIApp, own: Iterable[str], calls: Iterable[str]) -> None:
        self._app = app
        named = f"/gradio_api/(call(/v2)?|run|api)/({'|'.join(calls)})(/[a-z0-9]+)?/?"
        self._open = re.compile("|".join([*(re.escape(path) for path in own if path), *_API, named]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error, or pass on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if not self._open.fullmatch(scope["path"]):
            return await _refuse(send, 404, "there is nothing here")
        if scope["method"] == "POST":
            body = await _body(receive)
            if body is None:
                return await _refuse(send, 413, f"request: expected at most {MOST_BYTES} bytes, got more; send fewer images")
            if not _is_plain(body):
                return await _refuse(send, 422, "request: expected texts, lists of texts and flags, got others; send base64")
            receive = _again(body, receive)
        await self._app(scope, receive, _with_headers(send))


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request, None where it is too large; the rest is not read then."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _is_plain(body: bytes) -> bool:
    """Whether the arguments of a call are plain: an object could name a file, here or elsewhere, for Gradio to fetch."""
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict):
        return False
    arguments = value.get("data", [value[name] for name in value if name not in _OF_GRADIO])
    return isinstance(arguments, list) and all(
        isinstance(one, (str, bool, int, float, type(None)))
        or (isinstance(one, list) and all(isinstance(text, str) for text in one))
        for one in arguments
    )


_OF_GRADIO = ("session_hash", "event_data", "event_id", "fn_index", "trigger_id", "simple_format", "batched")


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once, and then waits for the client to go."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message.get("headers", [])}
            more = [(n.lower().encode(), v.encode()) for n, v in _HEADERS.items() if n.lower().encode() not in known]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return send_with_headers


async def _refuse(send: Send, status: int, reason: str) -> None:
    body: Any = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
