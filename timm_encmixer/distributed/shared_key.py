"""One process reads the key, the others get it from that one."""

from __future__ import annotations

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast

from timm_encmixer.distributed.processes import on_every_process, same_everywhere
from timm_encmixer.keys import KEY_BYTES, KeyLike, SecretKey, find_key


def share_key(accelerator: Accelerator | PartialState, key: KeyLike | None = None) -> SecretKey:
    """Read the key on the main process and hand it to the others by broadcast; no other process needs the file.

    The key goes from process to process as a tensor, never through a pickle, an environment variable or a command line.
    Between machines it crosses the network as it is, like gradients: the processes of a run trust each other.

    Args:
        accelerator: The run, or its state. Every process must call this.
        key: On the main process the key, its file, or None for the file that TIMM_ENCMIXER_KEY names. What the others give
            is not read; a `SecretKey` there must be the same.

    Returns:
        The key, on every process.

    Raises:
        MissingKeyError, KeyFormatError, FileAccessError: The main process has no key. Raised on all processes.
        ProcessError: Another process was given another `SecretKey`. Raised on all processes.

    Examples:
        >>> accelerator = accelerate.Accelerator(cpu=True)
        >>> te.share_key(accelerator, "owner.key") == te.SecretKey.load("owner.key")
        True
    """
    found = on_every_process(lambda: find_key(key) if accelerator.is_main_process else None)
    if accelerator.num_processes > 1:
        raw = found.reveal() if found is not None else bytes(KEY_BYTES)
        tensor = torch.frombuffer(bytearray(raw), dtype=torch.uint8).to(accelerator.device)
        found = SecretKey(bytes(broadcast(tensor).tolist()))
    assert found is not None  # the main process has found it, and sent it
    given = key if isinstance(key, SecretKey) else found
    same_everywhere("key", given.fingerprint, remedy="leave the key to the main process")
    return found
