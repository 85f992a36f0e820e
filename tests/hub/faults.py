"""Faults on demand: an ASGI layer around the Hub that answers, drops, truncates, stalls, flips or resets chosen requests."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Fault:
    """What to do with the requests that match.

    Args:
        request: Regular expression over "METHOD raw-path?query".
        do: "status": answer `status` instead of acting. "status-after": act first.
            "drop": act, then reset the connection instead of replying.
            "reset": reset it without acting. "truncate": reply, but hang up half-way through the body. "stall": never reply.
            "stall-after": act, then never reply. "flip": flip one bit in the middle of the body. "call": run `call` first.
        times: How many matching requests it takes part in; None is all.
        skip: How many matching requests to let pass first.
    """

    request: str
    do: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    times: int | None = 1
    skip: int = 0
    call: Callable[[], None] | None = None
    seen: int = 0

    def takes(self, request: str) -> bool:
        if not re.search(self.request, request):
            return False
        self.seen += 1
        return self.seen > self.skip and (self.times is None or self.seen <= self.skip + self.times)


@dataclass
class Exchange:
    """One request as the server saw it, and how many bytes of body it sent back."""

    request: str
    range: str | None
    authorization: str | None
    sent: int = 0


class Faults:
    """The outermost ASGI app; the table `self.table` may be changed between requests."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.table: list[Fault] = []
        self.log: list[Exchange] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        query = scope["query_string"].decode()
        request = f"{scope['method']} {scope['raw_path'].decode()}" + (f"?{query}" if query else "")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        exchange = Exchange(request, headers.get("range"), headers.get("authorization"))
        self.log.append(exchange)
        fault = next((fault for fault in self.table if fault.takes(request)), None)
        transport = getattr(getattr(send, "__self__", None), "transport", None)

        async def counted(message: Any) -> None:
            exchange.sent += len(message.get("body", b""))
            await send(message)

        if fault is None or fault.do == "call":
            if fault is not None and fault.call is not None:
                fault.call()
            await self.app(scope, receive, counted)
        elif fault.do == "status":
            await _answer(fault, send)
        elif fault.do == "status-after":
            await self.app(scope, receive, _nowhere)
            await _answer(fault, send)
        elif fault.do in ("drop", "stall-after"):
            await self.app(scope, receive, _nowhere)
            await (asyncio.sleep(600) if fault.do == "stall-after" else _reset(transport))
        elif fault.do == "reset":
            await _reset(transport)
        elif fault.do == "stall":
            await asyncio.sleep(600)
        else:
            await self._spoil(fault, scope, receive, counted, transport)

    async def _spoil(self, fault: Fault, scope: Any, receive: Any, send: Any, transport: Any) -> None:
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        body = bytearray(b"".join(message.get("body", b"") for message in messages))
        await send(messages[0])
        if fault.do == "flip":
            body[len(body) // 2] ^= 1
            await send({"type": "http.response.body", "body": bytes(body)})
        else:
            assert fault.do == "truncate", fault.do
            await send({"type": "http.response.body", "body": bytes(body[: len(body) // 2]), "more_body": True})
            await asyncio.sleep(0.2)
            transport.close()
            await asyncio.sleep(0.2)


async def _nowhere(message: Any) -> None:
    pass


async def _reset(transport: Any) -> None:
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST
    transport.abort()
    await asyncio.sleep(0.1)


async def _answer(fault: Fault, send: Any) -> None:
    body = json.dumps(fault.body or {"error": f"injected {fault.status}"}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **fault.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
