"""What the JavaScript client does in a browser: megapixels a second in headless Chromium, best of five rounds.

    python tests/benchmarks/bench_browser.py

It runs timm_encmixer/web/client/bench.js, which `npm run bench` runs under Node.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "web"))
import chromium


def main() -> None:
    if chromium.EXECUTABLE is None:
        raise SystemExit("no chromium here: Debian's package chromium has it")
    with chromium.browser() as browser:
        print(f"Chromium {browser.version}")
        page = chromium.open_client(browser)
        page.on("console", lambda message: print(message.text))
        page.evaluate("import('/timm_encmixer/web/client/bench.js')")


if __name__ == "__main__":
    main()
