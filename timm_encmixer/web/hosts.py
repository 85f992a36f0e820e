"""Which names a server answers to. A page elsewhere can have its own name mean 127.0.0.1, and so reach what listens there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

ANY_HOST = "*"


class Hosts:
    """The names in the header Host that are answered: addresses, localhost, and those that were allowed.

    An address needs no permission: no other page has it for a name.

    Args:
        allowed: Names without a port, such as "gpu7.example.org"; "*" for any.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = {name.lower().rstrip(".") for name in allowed}

    def __contains__(self, header: str) -> bool:
        """Whether a header's value names this server."""
        if ANY_HOST in self._allowed:
            return True
        name = _without_port(header.strip().lower()).rstrip(".")
        return name == "localhost" or name.endswith(".localhost") or name in self._allowed or _is_address(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        name, closed, _ = host[1:].partition("]")
        return name if closed else ""
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
