"""What is let through to the page and its API: known hosts and paths, small requests, and calls with their own arguments."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from timm_encmixer.web.answers import MOST_UNFETCHED, Answers
from timm_encmixer.web.arguments import ArgumentError, Call
from timm_encmixer.web.hosts import Hosts

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8 * 2**20  # of a request
_JOIN, _DATA = "/gradio_api/queue/join", "/gradio_api/queue/data"
_READ = ("/config", "/gradio_api/info", "/gradio_api/heartbeat/[a-z0-9]+")  # by Gradio's client
_TOLD = ("/gradio_api/cancel", "/gradio_api/reset/?")  # likewise; no uploads, no files, no pages
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self' https://huggingface.co",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NO_EVENT = "event: expected the id of a call that is not answered yet, got another; call again"
logger = logging.getLogger(__name__)


class Guard:
    """ASGI middleware. Gradio would take uploads, fetch files that a call names into a folder on the disk, and log requests.

    A call has two ways in: the page's (`call/NAME`) and that of Gradio's clients (`queue/join`). Both wait in the queue. What
    goes on to Gradio is written here: the arguments that were checked, and the number of the call that they were checked for.

    Args:
        app: What is guarded.
        own: Paths of the page.
        calls: The endpoints by the number that Gradio has for each.
        answers: What waits to be fetched.
        hosts: Names that are answered to.
        start: Called before a request: starts what is not running. An application that is mounted in another one is told
            nothing of its beginning.
    """

    def __init__(
        self,
        app: ASGIApp,
        own: Iterable[str],
        calls: Mapping[int, Call],
        answers: Answers,
        hosts: Hosts,
        start: Callable[[], None] = lambda: None,
    ) -> None:
        self._app, self._calls, self._answers, self._hosts, self._start = app, calls, answers, hosts, start
        self._numbers = {call.name: number for number, call in calls.items()}
        names = "|".join(map(re.escape, self._numbers))
        self._named = re.compile(f"/gradio_api/call/({names})/?")
        self._fetched = re.compile(f"/gradio_api/call/(?:{names})/([A-Za-z0-9_-]+)/?")
        self._read = re.compile("|".join([*(re.escape(path) for path in own), *_READ]))
        self._told = re.compile("|".join(_TOLD))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error, or pass on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # a web socket, which nothing here needs
            return await send({"type": "websocket.close", "code": 1008})
        if _header(scope, b"host") not in self._hosts:
            remedy = "the server is to allow this name: encmixer app --allow-host NAME"
            return await _refuse(send, 421, f"host: expected an address, localhost or an allowed name, got another; {remedy}")
        self._start()
        path, method = _path(scope), scope["method"]
        if not path:  # the folder without its slash, from which the page's parts would have other addresses
            return await _redirect(send, scope)
        if method in ("GET", "HEAD") and self._read.fullmatch(path):
            return await self._pass_on(scope, receive, send)
        if method == "GET" and (path == _DATA or self._fetched.fullmatch(path)):
            return await self._fetch(path, scope, receive, send)
        if method == "POST" and (path == _JOIN or self._named.fullmatch(path) or self._told.fullmatch(path)):
            return await self._take(path, scope, receive, send)
        return await _refuse(send, 404, "there is nothing here")

    async def _fetch(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on somebody who asks for an answer."""
        fetched = self._fetched.fullmatch(path)
        queried = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
        session = self._answers.session_of(fetched[1] if fetched else queried[0])
        if session is None:
            return await _refuse(send, 404, _NO_EVENT)
        with self._answers.listening(session):
            await self._pass_on(scope, receive, send)

    async def _take(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a call, written again from what was checked."""
        body = await _body(receive)
        if body is None:
            return await _refuse(send, 413, f"request: expected at most {MOST_BYTES} bytes, got more; send fewer images")
        try:
            value = self._checked(path, body)
        except ArgumentError as error:
            return await _refuse(send, 422, str(error))
        session = value.get("session_hash")
        if self._told.fullmatch(path) is None and self._answers.is_full(session):
            return await _refuse(
                send, 429, f"session: expected at most {MOST_UNFETCHED} answers to fetch, got more; fetch them"
            )
        await self._pass_on(scope, _again(json.dumps(value).encode(), receive), send)
        await self._answers.sweep(session)

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

    def _checked(self, path: str, body: bytes) -> dict[str, Any]:
        """Return what Gradio is to read of a request.

        Raises:
            ArgumentError: It is no call with its own arguments.
        """
        try:
            value = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            raise ArgumentError("request: expected JSON, got other text") from None
        if not isinstance(value, dict):
            raise ArgumentError('request: expected a JSON object such as {"data": [...]}, got another value')
        if self._told.fullmatch(path):
            known = {name: value[name] for name in ("session_hash", "event_id", "fn_index") if name in value}
            if not all(isinstance(one, (str, int, type(None))) for one in known.values()):
                raise ArgumentError("request: expected texts and numbers, got others")
            return known
        named = self._named.fullmatch(path)
        if named is not None:
            return {"data": self._calls[self._numbers[named[1]]].checked(value.get("data"))}
        number, session = value.get("fn_index"), value.get("session_hash")
        if type(number) is not int or number not in self._calls:
            raise ArgumentError(f"fn_index: expected one of {', '.join(map(str, self._calls))}, got another value")
        if not isinstance(session, str):
            raise ArgumentError("session_hash: expected a text, got another value")
        return {"data": self._calls[number].checked(value.get("data")), "fn_index": number, "session_hash": session}


def where_it_failed(error: BaseException) -> str:
    """Return the kind of an error and the line that raised it; its text may have in it what a user sent."""
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    return type(error).__name__ + (f" at {last.filename}:{last.lineno}" if last is not None else "")


def _path(scope: Scope) -> str:
    """Return the path below the place that the application is mounted at; a proxy may have taken that away already."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return str(path)


def _header(scope: Scope, name: bytes) -> str:
    """Return the value of a header, empty where it is missing or there several times."""
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


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


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that has been read, and then goes on."""
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
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _redirect(send: Send, scope: Scope) -> None:
    place = f"{scope.get('root_path', '').rstrip('/')}/".encode("latin-1", "replace")
    await send({"type": "http.response.start", "status": 307, "headers": [(b"location", place), (b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
