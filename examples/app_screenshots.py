"""Draw the pictures of the page `encmixer app`: starts it, clicks through it in headless Chromium, and writes what is shown.

It needs the extra web, and test for playwright: pip install ".[web,test]". And Debian's package chromium.

    python examples/app_screenshots.py

It writes docs/pictures/app-*.jpg: 1280 px wide, light and dark, and 390 px wide. The demo's key is new each time, so the
ciphertext and the answers without the right key differ from run to run.
"""

from __future__ import annotations

import argparse
import io
import shutil
import threading
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from timm_encmixer.web import listen, make_app, serve

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
SIZES = {"app-light": (1280, "light"), "app-dark": (1280, "dark"), "app-narrow": (390, "light")}
ARGUMENTS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
COLLECTED = 30  # ciphertexts of others
GAP = 24  # px
MOVE = "([slider, value]) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder to write to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    listener = listen(port=0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    threading.Thread(target=serve, args=(make_app(), listener), daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS.split())
        for name, (width, scheme) in SIZES.items():
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            picture = side_by_side(Image.open(io.BytesIO(story(context.new_page(), address))))
            path = out / f"{name}.jpg"
            picture.convert("RGB").save(path, quality=75, optimize=True)
            print(f"{path}: {picture.width} x {picture.height} px, {path.stat().st_size // 1000} kB")
        browser.close()


def side_by_side(picture: Image.Image) -> Image.Image:
    """Return a picture as it is, or in three parts beside each other where it is much higher than wide."""
    if picture.height < 3 * picture.width:
        return picture
    height = -(-picture.height // 3)
    made = Image.new("RGB", (3 * picture.width + 2 * GAP, height), "white")
    for part in range(3):
        made.paste(picture.crop((0, part * height, picture.width, (part + 1) * height)), (part * (picture.width + GAP), 0))
    return made


def story(page: Any, address: str) -> bytes:
    """Send the first sample, attack, and return the whole page as a PNG file."""
    page.goto(address)
    page.wait_for_selector("#send:enabled")
    page.click("#send")
    page.wait_for_selector("#server-result:visible")
    page.evaluate(MOVE, [page.query_selector("#collected"), COLLECTED])
    page.click("#attack")
    page.wait_for_selector("#attack-result:visible")
    page.wait_for_timeout(500)  # bars grow
    page.mouse.move(0, 0)
    screenshot: bytes = page.screenshot(full_page=True)
    return screenshot


if __name__ == "__main__":
    main()
