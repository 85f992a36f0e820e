"""Taking an address to serve at, before anything slow is imported or loaded."""

from __future__ import annotations

import os
import socket

from timm_encmixer.errors import AddressError

HOST, PORT = "127.0.0.1", 7860  # Gradio's


def listen(host: str = HOST, port: int = PORT) -> socket.socket:
    """Return a socket for `serve` that is bound to an address.

    Args:
        host: "0.0.0.0" for all addresses of this machine, as in a container.
        port: Its number; 0 takes any that is free.

    Raises:
        AddressError: It cannot be had.
    """
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        got = os.strerror(number) if number else str(error)
        raise AddressError(
            f"{host}:{port}", "an address of this machine that is free", got, "give another host or port (--host, --port)"
        ) from error
