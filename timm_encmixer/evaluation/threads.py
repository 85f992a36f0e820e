"""How many threads torch may use.

Threads that share small work wait for each other most of the time, and while they wait they keep their cores busy. On a machine
with other work that takes several times as long as one thread does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch

_SMALL_PIXELS = 64 * 64


def threads_for(input_size: tuple[int, int, int]) -> contextlib.AbstractContextManager[None]:
    """Let torch use one thread for small images, and as many as before for larger ones.

    Args:
        input_size: Channels, height and width of an image in pixels.
    """
    return one_thread() if math.prod(input_size[1:]) <= _SMALL_PIXELS else contextlib.nullcontext()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, for small tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
