"""What is let through to the page and its API: known paths, small requests, and calls with the arguments that they name."""

from __future__ import annotations

import inspect
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8 * 2**20  # of a request
_JOIN, _DATA = "/gradio_api/queue/join", "/gradio_api/queue/data"
_API = (  # of Gradio: calls, and what its client asks for; no uploads, no files, no pages
    "/config",
    "/gradio_api/info",
    _JOIN,
    _DATA,
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
_KINDS: dict[Any, str] = {str: "a text", list[str]: "a list of texts", bool: "true or false"}
logger = logging.getLogger(__name__)


class Guard:
    """ASGI middleware. Gradio would take uploads, fetch files that a call names into a folder on the disk, and log requests.

    Args:
        app: What is guarded.
        own: Paths of the page.
        calls: The endpoints by name, in Gradio's order. Their parameters are texts, lists of texts, and flags.
        waits: Whether there is a call or a session of an id.
    """

    def __init__(
        self,
        app: ASGIApp,
        own: Iterable[str],
        calls: Mapping[str, Callable[..., Any]],
        waits: Callable[[str], bool],
    ) -> None:
        self._app, self._waits = app, waits
        self._calls = {name: inspect.signature(call, eval_str=True) for name, call in calls.items()}
        self._named = re.compile(f"/gradio_api/(call/v2|call|run|api)/({'|'.join(calls)})(?:/([A-Za-z0-9_-]+))?/?")
        self._open = re.compile("|".join([*(re.escape(path) for path in own if path), *_API, self._named.pattern]))

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
            try:
                receive = _again(self._checked(scope["path"], body), receive)
            except _ArgumentError as error:
                return await _refuse(send, 422, str(error))
        elif not self._is_waited_for(scope):
            return await _refuse(
                send, 404, "event: expected the id of a call that is not answered yet, got another; call again"
            )
        return await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An error of the application may have the request in it: its text stays here."""
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, _with_headers(send_on))
        except Exception as error:
            logger.error("a request failed: %s", where_it_failed(error))
            if not started:
                await _refuse(send, 500, "server: the request failed; its log says where")

    def _is_waited_for(self, scope: Scope) -> bool:
        if scope["path"] == _DATA:
            (session,) = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[:1]
            return self._waits(session)
        named = self._named.fullmatch(scope["path"])
        return named is None or named[3] is None or self._waits(named[3])

    def _checked(self, path: str, body: bytes) -> bytes:
        """Return the body of a request with all arguments of its call, and nothing else that Gradio would read.

        Raises:
            _ArgumentError: The arguments are others than those of the call. An object, for example, could name a file, here or
                elsewhere, for Gradio to fetch.
        """
        try:
            value = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            raise _ArgumentError("request: expected JSON, got other text") from None
        if not isinstance(value, dict):
            raise _ArgumentError('request: expected a JSON object such as {"data": [...]}, got another value')
        named = self._named.fullmatch(path)
        if named is None and path != _JOIN:
            if not all(isinstance(one, (str, int, type(None))) for one in value.values()):
                raise _ArgumentError("request: expected texts and numbers, got others")
            return body
        for_gradio = {name: value[name] for name in ("fn_index", "session_hash") if value.get(name) is not None}
        name = named[2] if named else _name_of(for_gradio.get("fn_index"), list(self._calls))
        if not isinstance(for_gradio.get("session_hash", ""), str):
            raise _ArgumentError("session_hash: expected a text, got another value")
        by_name = named is not None and named[1] == "call/v2"
        arguments = self._arguments(name, value if by_name else value.get("data"))
        return json.dumps(arguments if by_name else {**for_gradio, "data": list(arguments.values())}).encode()

    def _arguments(self, name: str, given: Any) -> dict[str, Any]:
        """Return the arguments of a call by name, those that may be left out too."""
        signature = self._calls[name]
        words = ", ".join(f"{one.name} ({_KINDS[one.annotation]})" for one in signature.parameters.values())
        expected, remedy = f"{name}: expected the arguments {words}", "docs/app.md describes them"
        try:
            bound = signature.bind(**given) if isinstance(given, dict) else signature.bind(*_listed(given))
        except TypeError:
            got = f"{len(given)}" if isinstance(given, (list, dict)) else "no list of them in data"
            raise _ArgumentError(f"{expected}, got {got}{' by other names' * isinstance(given, dict)}; {remedy}") from None
        bound.apply_defaults()
        for one in signature.parameters.values():
            if not _is_of(bound.arguments[one.name], one.annotation):
                raise _ArgumentError(f"{expected}, got another value for {one.name}; {remedy}")
        return bound.arguments


class _ArgumentError(Exception):
    """A request whose arguments are refused, in one line. What was sent is not in it."""


def where_it_failed(error: Exception) -> str:
    """Return the kind of an error and the line that raised it; its text may have in it what a user sent."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {last.filename}:{last.lineno}"


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


def _name_of(index: Any, names: list[str]) -> str:
    if type(index) is not int or not 0 <= index < len(names):
        raise _ArgumentError(f"fn_index: expected a number from 0 to {len(names) - 1}, got another value")
    return names[index]


def _listed(given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise TypeError
    return given


def _is_of(value: Any, kind: Any) -> bool:
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, kind)


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
