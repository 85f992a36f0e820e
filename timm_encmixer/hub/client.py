"""Requests to the Hugging Face Hub: retried where huggingface_hub does not, and one line of text where they fail."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from timm_encmixer.errors import EncMixerError, HubError, SourceError
from timm_encmixer.files import file_error

HUB_PREFIX = "hf-hub:"
DATASET_PREFIX = "hf://datasets/"  # as fsspec and `datasets` write it
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?")
_HUB_SOURCES = ("hf-hub", "hf_hub")  # timm takes both, in small and capital letters
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0)
UNREACHED_TRIES = 2  # a server that is busy answers something; where nobody does, a person without a network waits
LONGEST_WAIT_SECONDS = 120  # a Retry-After beyond this is reported instead of waited for
SILENCE_SECONDS = 60.0  # a reply that takes longer is given up
_TRANSIENT = frozenset((408, 429, 500, 502, 503, 504))
_LOG_IN = "log in with: hf auth login, or set HF_TOKEN"
_Result = TypeVar("_Result")


def repository_in(name: str) -> str | None:
    """Return the "owner/name[@revision]" of a name that means a repository of the Hub; None for any other name."""
    source, separator, repository = name.partition(":")
    return repository if separator and source.lower() in _HUB_SOURCES else None


def dataset_in(name: str) -> str | None:
    """Return the "owner/name[@revision]" of a name that means a data set of the Hub by its prefix; None for any other name."""
    return name.removeprefix(DATASET_PREFIX) if name.startswith(DATASET_PREFIX) else repository_in(name)


def is_repository(text: str) -> bool:
    """Whether a text has the form "owner/name[@revision]", and may so be a repository's; paths such as ./a may not."""
    return _REPOSITORY.fullmatch(text) is not None


def split_revision(repository: str) -> tuple[str, str | None]:
    """Split "owner/name[@revision]" into the id and the revision, None where there is none."""
    repo_id, _, revision = repository.partition("@")
    return repo_id, revision or None


def request(
    where: str, expected: str, action: Callable[[], _Result], *, settle: Callable[[], _Result | None] = lambda: None
) -> _Result:
    """Do something on the Hub; repeat it after errors that pass: once where no connection can be made at all.

    Args:
        where: The repository, for error messages.
        expected: What the action brings, for error messages.
        action: The request, through huggingface_hub.
        settle: Called after a failure whose request may have been carried out all the same (a reply that was lost): looks
            at what is there, and returns the result if there is one. Then nothing is repeated.

    Raises:
        SourceError: There is no such repository or revision, or none for this token.
        HubError: The Hub refused, failed or could not be reached.
    """
    for tries, delay in enumerate((*RETRY_SECONDS, None), start=1):
        try:
            with _bounded_silence():
                return action()
        except EncMixerError:
            raise
        except Exception as raised:  # huggingface_hub, its HTTP library and hf_xet each raise their own
            error = _cause(raised)
            reply = status(error)
            if reply in _TRANSIENT or reply == 412 or is_transport_error(error):
                settled = settle()
                if settled is not None:
                    return settled
            wait = max(delay or 0.0, _retry_after(error))
            passing = reply in _TRANSIENT or (reply is None and is_transport_error(error))
            passing = passing and not (_is_unreached(error) and tries >= UNREACHED_TRIES)
            if delay is None or not passing or wait > LONGEST_WAIT_SECONDS:
                raise explain(where, expected, error) from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _cause(error: Exception) -> BaseException:
    """Return what an upload's RuntimeError was raised from."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error


def explain(where: str, expected: str, error: BaseException) -> EncMixerError:
    """Say in one line what went wrong, and what to do."""
    from huggingface_hub import errors as hub

    cause = error.__cause__ if isinstance(error, hub.LocalEntryNotFoundError) and error.__cause__ is not None else error
    reply, text = status(cause), _server_text(cause)
    if isinstance(cause, hub.GatedRepoError):
        page = f"{_endpoint()}/{split_revision(repository_in(where) or where)[0]}"
        return HubError(
            where, expected, "a gated repository that your token may not read", f"ask for access at {page}, {_LOG_IN}"
        )
    if isinstance(cause, hub.RepositoryNotFoundError):
        got = "no repository of that name, or none that your token may see"
        return SourceError(where, expected, got, f"check the name; if it is private, {_LOG_IN}")
    if isinstance(cause, hub.RevisionNotFoundError):
        remedy = "check the branch, tag or commit after the @ or in revision= (--revision)"
        return SourceError(where, expected, "no such revision", remedy)
    if isinstance(cause, (hub.HFValidationError, hub.EntryNotFoundError)) and not isinstance(
        cause, hub.LocalEntryNotFoundError
    ):
        return SourceError(where, expected, _first_line(cause), "check the name, owner/name[@revision]")
    if isinstance(cause, hub.OfflineModeIsEnabled):
        return HubError(where, expected, "offline mode", "unset HF_HUB_OFFLINE")
    if reply is not None:
        return _explain_status(where, expected, reply, text, _retry_after(cause))
    if is_transport_error(cause) or isinstance(cause, hub.LocalEntryNotFoundError):
        cached = "" if where.startswith(DATASET_PREFIX) else ", or set HF_HUB_OFFLINE=1 to use verified copies in the cache"
        remedy = f"check the connection{cached}"
        return HubError(where, expected, f"no answer from {_endpoint()} ({_first_line(cause)})", remedy)
    if isinstance(cause, OSError) and cause.errno is not None:
        return file_error(cause.filename or where, "a file to use", cause)
    return HubError(where, expected, _first_line(cause), "check the connection and your token (hf auth whoami)")


def _explain_status(where: str, expected: str, reply: int, text: str, retry_after: float) -> HubError:
    said = f" ({text})" if text else ""
    if re.search(r"quota|storage.{0,20}limit|limit.{0,20}storage|payment", text, re.IGNORECASE) or reply in (402, 507):
        return HubError(
            where, expected, f"a full quota{said}", "free space or raise it at https://huggingface.co/settings/billing"
        )
    meanings = {
        400: ("a bad request", "check the name, license and metadata of the card"),
        401: ("a token that is unknown or has expired", _LOG_IN),
        403: ("a token that may not do this", "use a token with write access: https://huggingface.co/settings/tokens"),
        404: ("nothing there", "check the name and the revision"),
        409: ("a conflict with what is there", "look at the repository, then run the command again"),
        412: ("a commit that somebody made meanwhile", "look at what changed, then run the command again"),
        413: ("a file that is too large for the Hub", "send fewer or smaller files"),
        429: ("too many requests", f"try again in {max(retry_after, 1):.0f} s" if retry_after else "try again in some minutes"),
    }
    got, remedy = meanings.get(reply, ("an error of the Hub's own", "try again later: https://status.huggingface.co"))
    return HubError(where, expected, f"{reply}: {got}{said}", remedy)


def status(error: BaseException) -> int | None:
    """Return the HTTP status behind an error; hf_xet only has it in the text of a builtin ConnectionError."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code is None and isinstance(error, (ConnectionError, PermissionError)) and error.errno is None:
        found = re.search(r"\b(401|403|404|413|429|50[0-9])\b", str(error))
        code = int(found[1]) if found else None
    return int(code) if code is not None else None


def is_transport_error(error: BaseException) -> bool:
    """Whether no complete answer came: refused, reset, cut off, or silent for too long."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    library = _http_library()
    kinds = (library.TransportError, ConnectionError, TimeoutError)
    return isinstance(error, kinds) and not isinstance(error, OfflineModeIsEnabled)


def _is_unreached(error: BaseException) -> bool:
    """Whether no connection was made: a name without an address, a port where nobody listens, no route."""
    return isinstance(error, _http_library().ConnectError)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _http_library() -> Any:
    """Return the HTTP library that huggingface_hub uses: httpx, or httpx2 since 2.0."""
    from huggingface_hub import get_session

    return importlib.import_module(type(get_session()).__module__.partition(".")[0])


_running: dict[int, frozenset[int | None]] = {}  # by thread with a request of ours: the threads that were there before it


@contextlib.contextmanager
def _bounded_silence() -> Iterator[None]:
    """Bound the wait for a reply while a request of ours runs.

    huggingface_hub waits for ever, and its session belongs to the whole process. So the session keeps its own time-out. A hook
    bounds single requests: those of this thread, and those of threads that start meanwhile, as huggingface_hub's do when they
    upload files. It cannot tell such a thread from one that other code starts at that time.
    """
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["request"]
    if _bound_request not in hooks:
        hooks.append(_bound_request)
    here = threading.get_ident()
    outer = _running.get(here)
    _running[here] = frozenset(thread.ident for thread in threading.enumerate()) - {here}
    try:
        yield
    finally:
        if outer is None:
            del _running[here]
        else:
            _running[here] = outer


def _bound_request(request: Any) -> None:
    """Give a request of ours a time-out if it has none; the session calls this before it sends any request."""
    here = threading.get_ident()
    if all(here in others for others in list(_running.values())):
        return
    if all(limit is None for limit in request.extensions.get("timeout", {}).values()):
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), longest_silence())


def longest_silence() -> float:
    """Seconds to wait for a reply: HF_HUB_DOWNLOAD_TIMEOUT where it is set, else a minute."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT) if "HF_HUB_DOWNLOAD_TIMEOUT" in os.environ else SILENCE_SECONDS


def _retry_after(error: BaseException) -> float:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    value = str(headers.get("Retry-After", ""))
    return float(value) if value.isdigit() else 0.0


def _server_text(error: BaseException) -> str:
    text = getattr(error, "server_message", None) or ""
    return " ".join(str(text).split())[:200]


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
