"""Answers that wait to be fetched: bounded in number, bytes and time. Gradio would keep them until it ends.

Gradio's queue has the messages of each session, and the ids of its calls that are not answered. A session is what a program
calls so, or one call of the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

MOST_UNFETCHED = 16  # calls of a session whose answers nobody has fetched
MOST_BYTES = 64 * 2**20  # of all answers that wait
SECONDS = 60.0  # that an answer waits for somebody to ask for it
_MESSAGE_BYTES = 500  # of a message beside its texts


class Answers:
    """Looks after the sessions of a queue.

    Args:
        queue: Gradio's.
        most_bytes: Of all answers together; the oldest go first.
        seconds: How long a session that nobody listens to is kept.
    """

    def __init__(self, queue: Any, *, most_bytes: int = MOST_BYTES, seconds: float = SECONDS) -> None:
        self._queue, self._most_bytes, self._seconds = queue, most_bytes, seconds
        self._since: dict[str, float] = {}  # when somebody last called or listened, by session; the oldest first
        self._listened: dict[str, int] = {}  # open streams
        self._timer: asyncio.TimerHandle | None = None

    def session_of(self, waited_for: str) -> str | None:
        """Return the session of an id, which is a call's or a session's; None where nothing of it is to be fetched."""
        sessions = self._queue.pending_event_ids_session
        if sessions.get(waited_for):
            return waited_for
        return next((session for session, calls in sessions.items() if waited_for in calls), None)

    def is_full(self, session: str | None) -> bool:
        """Whether a session has as many answers to fetch as it may."""
        return len(self._queue.pending_event_ids_session.get(session, ())) >= MOST_UNFETCHED

    @contextlib.contextmanager
    def listening(self, session: str) -> Iterator[None]:
        """Keep a session for as long as somebody listens to it."""
        self._listened[session] = self._listened.get(session, 0) + 1
        try:
            yield
        finally:
            self._listened[session] -= 1
            if not self._listened[session]:
                del self._listened[session]
                self._touch(session)

    async def sweep(self, called: str | None = None) -> None:
        """Forget sessions that waited too long, and the oldest where all are too large.

        Args:
            called: A session that was called just now.
        """
        sessions, now = self._queue.pending_messages_per_session, time.monotonic()
        if called is not None:
            self._touch(called)
        for session in sessions:
            self._since.setdefault(session, now)
        self._since = {session: since for session, since in self._since.items() if session in sessions}
        old = [s for s, since in self._since.items() if s not in self._listened and now - since >= self._seconds]
        for session in old:
            await self._forget(session)
        sizes = {session: _bytes_in(sessions[session]) for session in self._since if session in sessions}
        total = sum(sizes.values())
        for session in sorted(sizes, key=lambda session: session in self._listened):  # stable: the oldest first in each part
            if total <= self._most_bytes:
                break
            total -= sizes[session]
            await self._forget(session)
        self._wake_later()

    def _touch(self, session: str) -> None:
        self._since.pop(session, None)
        self._since[session] = time.monotonic()

    async def _forget(self, session: str) -> None:
        self._since.pop(session, None)
        await self._queue.clean_events(session_hash=session)  # of calls that have not been answered
        self._queue.pending_messages_per_session.pop(session, None)
        self._queue.pending_event_ids_session.pop(session, None)

    def _wake_later(self) -> None:
        """Sweep again when the oldest session may have waited too long, also where nobody calls."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._since:
            self._timer = asyncio.get_running_loop().call_later(self._seconds / 2, self._start_sweep)

    def _start_sweep(self) -> None:
        self._task = asyncio.ensure_future(self.sweep())


def _bytes_in(messages: Any) -> int:
    """Return about how many bytes the messages of a session have."""
    return sum(_MESSAGE_BYTES + _text_bytes(getattr(message, "output", None)) for message in list(messages._queue))


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_text_bytes, value.values()))
    return sum(map(_text_bytes, value)) if isinstance(value, (list, tuple)) else 0
