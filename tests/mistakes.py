"""Type commands, one after the other, in one interpreter that has loaded neither torch nor timm; say what came of each.

python tests/mistakes.py < COMMANDS > ANSWERS, both JSON: a list of objects.

A command has `words`; `missing`, packages that are to seem absent; and `nowhere`, whether no host has an address. An answer
has `code`, `out`, `err`, `slept` (seconds) and `loaded`, what has been imported by then of what takes seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import time
from unittest.mock import patch

SLOW = ("torch", "timm", "torchvision", "accelerate", "datasets", "scipy", "pyarrow")


def answer(command: dict) -> dict:
    from timm_encmixer.cli.app import main

    out, err, slept = io.StringIO(), io.StringIO(), []
    nobody = {"side_effect": socket.gaierror(-2, "Name or service not known")} if command.get("nowhere") else {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(patch.object(sys, "argv", ["encmixer", *command["words"]]))
        for name in command.get("missing", ()):
            sys.modules[name] = None
            stack.callback(sys.modules.pop, name)
        stack.enter_context(patch.object(time, "sleep", slept.append))
        stack.enter_context(patch.object(socket, "getaddrinfo", wraps=socket.getaddrinfo, **nobody))
        code = None
        try:
            main()
        except SystemExit as end:
            code = end.code
    loaded = [name for name in SLOW if sys.modules.get(name) is not None]
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "slept": sum(slept), "loaded": loaded}


if __name__ == "__main__":
    json.dump([answer(command) for command in json.load(sys.stdin)], sys.stdout)
