"""The page and its API: static files, what the owner hands to the page, and the server's calls as named endpoints of Gradio."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gradio
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from fastapi.routing import APIRoute

from timm_encmixer.bundled import BUNDLED_MODEL
from timm_encmixer.checkpoints.loading import ModelLike
from timm_encmixer.errors import EncMixerError
from timm_encmixer.limits import LIMITS
from timm_encmixer.scheme import PARTS
from timm_encmixer.web.answers import Answers
from timm_encmixer.web.arguments import ArgumentError, Call
from timm_encmixer.web.guard import Guard, where_it_failed
from timm_encmixer.web.hosts import Hosts
from timm_encmixer.web.owner import publish
from timm_encmixer.web.quiet import keep_quiet
from timm_encmixer.web.samples import ALBUM_PICTURES, album, album_sheet, png, samples
from timm_encmixer.web.server import ModelServer, PlainComparison

_FOLDER = Path(__file__).parent
_STATIC = {
    "": ("page/index.html", "text/html"),
    "app.css": ("page/app.css", "text/css"),
    "app.js": ("page/app.js", "text/javascript"),
    "theme.js": ("page/theme.js", "text/javascript"),
    "encmixer.js": ("client/dist/encmixer.js", "text/javascript"),
}
_WAITING = 32  # calls in the queue; more are refused
_AT_ONCE = 4  # classifications
_GOODBYE_SECONDS = 2
_REMEMBERED = 16  # calls whose arguments Gradio keeps in memory, where it would keep 10,000
logger = logging.getLogger(__name__)


def make_app(model: ModelLike = BUNDLED_MODEL, *, allow_hosts: Iterable[str] = ()) -> FastAPI:
    """Return the page `encmixer app` as an ASGI application, for uvicorn or another such server.

    A plain model is encrypted here, once for each cipher that it can take, with a new key that is handed to every page: a demo.
    An encrypted model is served as it is. The page then asks its user for the key, which stays in the browser. Samples and the
    album are public, so they are there with the demo's key only: a pair of one and its ciphertext gives a key away.

    The page loads nothing from elsewhere. What users send is in memory only: while it is computed on, and in Gradio's memory of
    the last calls.

    Args:
        model: As for `load_model`.
        allow_hosts: Names under which it is reached, beside localhost and addresses: "gpu7.example.org"; "*" for any name.

    Raises:
        MissingExtraError: The extra `web` is not installed.
        EncMixerError: As for `load_model` and `encrypt_model`.
    """
    published = publish(model)
    is_demo = published.key is not None
    server = ModelServer(published.models, published.classes, key_is_public=is_demo)
    app = FastAPI(title="encmixer", openapi_url=None, docs_url=None, redoc_url=None)
    for path, (name, kind) in _STATIC.items():
        _add_route(app, f"/{path}", (_FOLDER / name).read_bytes(), kind)
    about = {
        "records": {cipher: record.to_dict() for cipher, record in server.records.items()},
        "parts": {name: part.words for name, part in PARTS.items()},
        "samples": list(samples()) if is_demo else [],
        "album_px": album()[0].width if is_demo else None,
        "most_collected": ALBUM_PICTURES,
        "has_key": is_demo,
        "limits": " ".join(LIMITS),
    }
    _add_route(app, "/about.json", json.dumps(about).encode(), "application/json")
    calls: dict[str, Callable[..., Any]] = {"classify": server.classify, "attack": server.attack}
    if published.key is not None and published.plain is not None:
        _add_route(app, "/demo.key", published.key.file_text(), "text/plain")
        _add_route(app, "/album.png", album_sheet(), "image/png")
        for name, picture in samples().items():
            _add_route(app, f"/samples/{name}.png", png(picture), "image/png")
        calls["without_key"] = server.without_key
        calls["plain"] = PlainComparison(published.plain, server).classify
    own = [route.path for route in app.routes if isinstance(route, APIRoute)]
    _guarded(app, own, calls, Hosts(allow_hosts))
    return app


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve until the process is interrupted.

    Args:
        app: As `make_app` returns it.
        listener: As `listen` returns it.
    """
    with listener:
        # uvicorn's own warnings and errors are of broken requests, and of tabs that are open at the end
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=_GOODBYE_SECONDS)
        uvicorn.Server(config).run(sockets=[listener])


def _add_route(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    def answer() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-store"})

    app.add_api_route(path, answer, methods=["GET"], include_in_schema=False)


def _guarded(app: FastAPI, own: Iterable[str], functions: Mapping[str, Callable[..., Any]], hosts: Hosts) -> None:
    """Mount Gradio's side, with the guard around it all."""
    keep_quiet(gradio)
    calls = {name: Call(name, function) for name, function in functions.items()}
    blocks = _blocks(calls)
    gradio.mount_gradio_app(app, blocks, path="/", ssr_mode=False, show_error=False)
    by_number = {number: calls[str(function.api_name)] for number, function in blocks.fns.items()}

    def start() -> None:
        if not blocks.is_running:
            blocks.run_startup_events()  # type: ignore[no-untyped-call]

    app.add_middleware(Guard, own=own, calls=by_number, answers=Answers(blocks._queue), hosts=hosts, start=start)


def _blocks(calls: Mapping[str, Call]) -> gradio.Blocks:
    """Return Gradio's side: no components, for the page is our own, but a queue and named endpoints."""
    blocks = gradio.Blocks(analytics_enabled=False, title="encmixer")
    with blocks:
        for name, call in calls.items():
            gradio.api(
                _told(call),
                api_name=name,
                api_description=(inspect.getdoc(call.function) or "").partition("\n")[0],
                concurrency_limit=1 if name == "attack" else _AT_ONCE,
            )
    blocks.queue(max_size=_WAITING)
    blocks.state_session_capacity = _REMEMBERED
    return blocks


def _told(call: Call) -> Callable[..., Any]:
    """Return a call whose errors are told to the one who called; what is no error of ours stays here."""

    @functools.wraps(call.function)
    def answer(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (EncMixerError, ArgumentError) as error:
            raise gradio.Error(str(error), print_exception=False) from error
        except Exception as error:
            logger.error("a call failed: %s", where_it_failed(error))
            raise gradio.Error("server: the call failed; its log says why", print_exception=False) from error

    return answer
