"""The `encmixer` command, also as `python -m timm_encmixer`."""

from __future__ import annotations

import atexit
import gc
import signal


def main() -> None:
    """Run the command line. Until it is imported there is nothing to lose, so Ctrl-C ends the process as it ends any other."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as in a shell's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    atexit.register(gc.freeze)  # or the interpreter looks through all of torch for garbage before it ends
    from timm_encmixer.cli import main as run

    run()


if __name__ == "__main__":
    main()
