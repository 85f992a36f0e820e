"""The page `encmixer app` in headless Chromium, served by a process of its own: the story, what leaves the page, and faults."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import chromium
import numpy as np
import processes
import pytest
from conftest import ROOT, assert_no_secret, secret_forms
from PIL import Image
from test_app_server import huge_png
from test_client_js import photo_like, resizing_as_pillow_13

import timm_encmixer as te
from timm_encmixer.bundled import bundled_photo
from timm_encmixer.web.samples import album, pixel_note, samples

pytestmark = chromium.needs_chromium
# The process says on stderr what it opens to write, makes or renames, and where it connects to.
APP = """
import os, sys
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def watch(event, arguments):
    opens = event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & WRITES
    if opens or event in ("os.mkdir", "os.rename"):
        os.write(2, f"WRITES {arguments[0]}\\n".encode())
    if event in ("socket.connect", "socket.getaddrinfo"):
        os.write(2, f"CONNECTS {arguments}\\n".encode())
sys.addaudithook(watch)
sys.argv = ["encmixer", "app", "--port", PORT]
from timm_encmixer.__main__ import main
main()
"""
SHOWN = 60_000  # ms, until something that takes seconds is shown
ROW = 48  # bytes of pixels that nothing else has


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A running `encmixer app` on the bundled model."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "tmp").mkdir()
    (folder / "home").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    log = (folder / "log").open("wb")
    child = processes.start(["-c", f"PORT = '{port}'\n{APP}"], env=env, cwd=folder / "home", err=log.fileno())
    url = f"http://127.0.0.1:{port}/"
    while child.poll() is None:
        try:
            urllib.request.urlopen(f"{url}about.json", timeout=9).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            continue
        break

    key_file = folder / "demo.key"
    key_file.touch(mode=0o600)
    with urllib.request.urlopen(f"{url}demo.key") as answer:
        key_file.write_bytes(answer.read())
    started = (folder / "log").stat().st_size
    yield SimpleNamespace(url=url, folder=folder, key=te.SecretKey.load(key_file), key_file=key_file, started=started)
    with socket.create_connection(("127.0.0.1", port)) as half:  # a request that never ends, as pages may be open too
        half.sendall(b"POST /gradio_api/call/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        child.send_signal(signal.SIGINT)
        assert child.wait() == 130
    log.close()
    said = (folder / "log").read_text().splitlines()
    note = pixel_note()  # of this machine's Pillow
    assert [line for line in said if not line.startswith("WRITES ") and line != note] == []


@pytest.fixture(scope="module")
def browser():
    with chromium.browser() as started:
        yield started


def open_page(browser, app, *, width: int = 1280, query: str = ""):
    """A page of a new user, with the requests that it makes; an error in its scripts fails the test where it is looked at."""
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    context.set_default_timeout(SHOWN)
    page = context.new_page()
    page.sent = []
    context.on(
        "request", lambda request: page.sent.append((request.url, str(request.headers), request.post_data_buffer or b""))
    )
    page.on("pageerror", lambda error: page.sent.append(("error", str(error), b"")))
    page.goto(f"{app.url}{query}")
    page.wait_for_selector("#send:enabled")
    return page


def send(page) -> list[str]:
    """Send what is shown, and return the classes that the server answers."""
    page.click("#send")
    page.wait_for_selector("#send:not(.busy)")
    assert page.is_hidden("#message"), page.inner_text("#message")
    return page.locator("#answer li > span:first-child").all_inner_texts()


def message(page, pattern: str) -> None:
    """The page shows one message, and it says so."""
    page.wait_for_selector("#message:visible")
    assert page.locator("[role=alert]:visible").count() == 1
    text = page.inner_text("#message-text")
    assert re.search(pattern, text), text
    assert "\n" not in text


def photo_file(image: Image.Image, name: str = "mine.png") -> dict[str, object]:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def scheme_of_page(page, cipher: str = "shuffle+negpos") -> te.Scheme:
    return te.Scheme.from_dict(page.evaluate("async () => (await fetch('about.json')).json()")["records"][cipher])


def contents(sent: list[tuple[str, str, bytes]]) -> bytes:
    """All that requests carry: as it is, out of base64, and the pixels of PNG files in it."""
    found = []
    for url, headers, body in sent:
        texts = [url.encode(), headers.encode(), body]
        decoded = [base64.b64decode(text) for text in re.findall(rb"(?:[A-Za-z0-9+/]{4}){10,}(?:[A-Za-z0-9+/]+=+)?", body)]
        url_safe = re.findall(rb"(?:[A-Za-z0-9_-]{4}){10,}", body)
        images = [pixels_of_png(data) for data in decoded if data.startswith(b"\x89PNG")]
        found += [*texts, *decoded, *(base64.urlsafe_b64decode(text) for text in url_safe), *images]
    return b"\0".join(found)


def pixels_of_png(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


def rows(image: Image.Image) -> list[bytes]:
    """Rows of an image's pixels, as RGB and as RGBA, some of each."""
    return [
        image.convert(mode).tobytes()[start:][:ROW]
        for mode in ("RGB", "RGBA")
        for start in range(0, image.width * image.height, 512)
    ]


def test_the_story(browser, app, plain_model):
    page = open_page(browser, app)
    assert page.inner_text("#limits").startswith("The key is access control and visual obfuscation")
    assert page.inner_text("#fingerprint") == app.key.fingerprint
    assert page.inner_text("#send") == f"Send {3315:,} bytes of ciphertext"

    # A sample: the encrypted model answers as the plain one does; without the key it does not.
    assert send(page)[0] == "cat"
    answers = [page.locator(".compared > div").nth(index).inner_text().split("\n") for index in range(3)]
    assert [answer[0].split("  ")[0] for answer in answers] == ["Plain model", "Wrong key", "No key"]
    assert "cat" in answers[0]
    shares = page.locator("#answer .share").all_inner_texts()
    plain = page.locator(".compared > div").first
    assert plain.locator(".share").all_inner_texts() == shares[:3]
    assert plain.get_attribute("class") == "same"
    page.click("#attack")
    page.wait_for_selector("#attack-result:visible")
    assert "ciphertext_only_shuffle" in page.inner_text("#how")
    assert "On 11 ciphertexts." in page.inner_text("#how")

    # A photo of one's own is compared with nothing, for it does not leave the page.
    photo = photo_like((301, 200), np.random.default_rng(11))
    page.set_input_files("#photo", photo_file(photo))
    page.wait_for_selector("#samples:not(:has([aria-pressed=true]))")
    send(page)
    assert "not asked about a photo of your own" in page.inner_text("#comparison")
    assert page.locator(".compared").count() == 0
    scheme = scheme_of_page(page)
    with resizing_as_pillow_13():
        plain = te.create_transform(scheme, key=app.key, output="image").prepare(photo)
    ciphertext = te.ImageCipher(app.key, scheme).encrypt(plain)

    # The attacker.
    page.evaluate("document.querySelector('#collected').value = 5")
    page.click("#attack")
    page.wait_for_selector("#attack-result:visible")
    assert page.inner_text("#verdict") == "Broken"
    assert page.inner_text("#finding").startswith("Reads every image")
    assert "On 6 ciphertexts." in page.inner_text("#how")
    assert "on the 5 album pictures: similarity" in page.inner_text("#measured")

    # Another cipher, and a key of one's own, which the server has no model for.
    page.click("text=shuffle >> nth=1")
    page.wait_for_selector("#send:enabled")
    page.click("#key-new")
    page.wait_for_selector("#key-note.alarm")
    own = page.inner_text("#fingerprint")
    assert page.is_disabled("#send")  # the photo went under the demo's key, which is public
    page.set_input_files("#photo", photo_file(photo_like((40, 50), np.random.default_rng(12))))
    page.wait_for_selector("#send:enabled")
    page.wait_for_selector("#server-old:visible")
    assert page.is_visible("#attack-old")
    send(page)
    assert page.is_hidden("#server-old")
    assert page.is_visible("#worthless")
    assert own in page.inner_text("#arrived-caption")
    with page.expect_download() as download:
        page.click("#key-save")
    saved = app.folder / "saved.key"
    saved.touch(mode=0o600)
    saved.write_bytes(Path(download.value.path()).read_bytes())
    own_key = te.SecretKey.load(saved)
    assert own_key.fingerprint == own

    # A file with another key is refused, unless its user wants to see what a wrong key gives.
    page.click("#key-demo")
    page.set_input_files("#key-open", saved)
    message(page, f"^key: expected the key with fingerprint {app.key.fingerprint}, got one with fingerprint {own}")
    assert page.inner_text("#fingerprint") == app.key.fingerprint
    page.click("#message-anyway")
    page.wait_for_function("own => document.querySelector('#fingerprint').textContent === own", arg=own)

    # What left the page: ciphertext, and nothing of the photo or of the keys, and nothing to anybody else.
    assert not [error for error in page.sent if error[0] == "error"]
    assert {url for url, _, _ in page.sent if not url.startswith(("data:", "blob:"))} == {
        url for url, _, _ in page.sent if url.startswith(app.url)
    }
    everything = contents(page.sent)
    assert any(row in everything for row in rows(ciphertext)), "the search finds what is there"
    for row in [*rows(plain), *rows(photo), photo_file(photo)["buffer"][64 : 64 + ROW]]:
        assert row not in everything
    for key in (app.key, own_key):
        assert key.fingerprint.encode() in everything
        assert_no_secret(key, everything)
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]

    # The same page on a telephone.
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("scrollTo(0, 0)")
    page.click("#key-demo")
    page.wait_for_selector("#samples [aria-pressed=true]")
    for button, shown in (("#send", ".server"), ("#attack", "#attack-result")):  # it goes to what has come
        page.click(button)
        page.wait_for_function("s => Math.abs(document.querySelector(s).getBoundingClientRect().top) < 400", arg=shown)
    for name in ("light", "dark"):
        page.goto(f"{app.url}?__theme={name}")
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == name


def own_photos(page, seeds: range) -> None:
    """Choose and send photos of one's own."""
    for seed in seeds:
        page.set_input_files("#photo", photo_file(photo_like((48, 40), np.random.default_rng(seed))))
        page.wait_for_selector("#send:enabled")
        page.wait_for_selector("#server-old:visible, #server-empty:visible")
        send(page)


def known_ciphertexts(key: te.SecretKey, scheme: te.Scheme) -> list[bytes]:
    """The pixels of all public pictures of the page, under a key."""
    transform = te.create_transform(scheme, key=key, output="image", wrong_key=key.fingerprint != scheme.fingerprint)
    with resizing_as_pillow_13():
        return [transform(picture).tobytes() for picture in (*samples().values(), *album())]


@pytest.mark.nightly
def test_nothing_public_is_encrypted_with_a_key_that_is_not_the_demos(browser, app, tmp_path):
    """A public picture and its ciphertext are a pair that gives the key away."""
    page = open_page(browser, app)
    scheme = scheme_of_page(page)
    send(page)
    page.click("#attack")
    page.wait_for_selector("#attack-result:visible")
    sent = contents(page.sent)
    assert sum(known in sent for known in known_ciphertexts(app.key, scheme)) == 11, "the search finds what is there"
    page.sent.clear()

    page.click("#key-new")
    page.wait_for_selector("#samples-note:visible")
    assert page.is_hidden("#samples")
    assert page.is_disabled("#send")
    assert page.evaluate("document.querySelector('#photo-view').width") == 1
    own_photos(page, range(3))
    page.click("#attack")
    page.wait_for_selector("#attack-result:visible")
    assert page.inner_text("#collected-count") == "2"  # what was sent before
    assert page.inner_text("#verdict") == "Not measured"
    assert page.inner_text("#finding") == "You know the true picture: compare."
    with page.expect_download() as download:
        page.click("#key-save")
    saved = tmp_path / "saved.key"
    saved.touch(mode=0o600)
    saved.write_bytes(Path(download.value.path()).read_bytes())
    sent = contents(page.sent)
    assert not [known for known in known_ciphertexts(te.SecretKey.load(saved), scheme) if known in sent]
    assert not [name for name in samples() if f'"{name}"'.encode() in sent]
    assert {url.removeprefix(app.url).split("/")[2] for url, _, _ in page.sent if "gradio_api" in url} == {"classify", "attack"}

    page.click("#key-demo")  # and back: the photo that was sent is not shown under the public key
    page.wait_for_selector("#samples [aria-pressed=true]")
    assert not [error for error in page.sent if error[0] == "error"]
    page.context.close()


@pytest.mark.nightly
def test_the_result_of_an_attack_is_of_what_was_sent_last(browser, app):
    page = open_page(browser, app)
    send(page)
    held, found = [], []
    page.route("**/call/attack", lambda route: held.append(route))
    page.on("response", lambda response: found.append(response.url) if "/call/attack/" in response.url else None)
    move = "value => { const s = document.querySelector('#collected'); s.value = value; s.dispatchEvent(new Event('change')); }"
    page.click("#attack")
    page.wait_for_selector("#attack.busy")
    for value in (2, 3, 4):  # while it runs
        page.evaluate(move, value)
    assert len(held) == 1
    held.pop().continue_()
    while not held:
        page.wait_for_timeout(20)
    assert len(json.loads(held[0].request.post_data)["data"][1]) == 4  # the last of them, once
    page.locator("#samples button").nth(1).click()
    page.wait_for_selector("#samples button:nth-child(2)[aria-pressed=true]")
    page.wait_for_selector("#server-old:visible")
    send(page)
    held.pop().continue_()
    page.wait_for_selector("#attack:enabled")
    assert page.is_hidden("#attack-result")
    assert len(found) == 2
    page.context.close()


@pytest.mark.nightly
def test_a_page_whose_model_has_another_owner_asks_for_the_key(browser, app):
    """The same server, but the page is told that nobody hands out the key."""
    context = browser.new_context()
    page = context.new_page()
    page.sent = []
    context.on("request", lambda request: page.sent.append((request.url, "", b"")))
    about = json.loads(urllib.request.urlopen(f"{app.url}about.json").read())
    private = {"has_key": False, "samples": [], "album_px": None}  # as `make_app` says of an encrypted model
    page.route("**/about.json", lambda route: route.fulfill(json={**about, **private}))
    page.goto(app.url)
    page.wait_for_selector("#samples-note:visible")
    assert f"Open the key file {app.key.fingerprint}" in page.inner_text("#key-note")
    assert page.is_disabled("#send")
    assert page.is_disabled("#attack")
    assert page.is_hidden("#key-demo")
    page.set_input_files("#photo", photo_file(bundled_photo("cat")))
    page.set_input_files("#key-open", app.key_file)
    page.wait_for_selector("#send:enabled")
    assert page.inner_text("#key-note") == "Your key fits the server's model. It stays in this page."
    assert send(page)[0] == "cat"
    assert "nothing to compare with" in page.inner_text("#comparison")

    # What the attacker has collected is of the key and the cipher that were sent with, whatever is chosen afterwards.
    own_photos(page, range(2))
    page.locator("#ciphers label").nth(2).click()
    page.click("#key-new")
    page.wait_for_selector("#key-note.alarm")
    page.click("#attack")
    page.wait_for_selector("#attack-result:visible", timeout=SHOWN)
    assert page.inner_text("#collected-count") == "2"
    assert page.is_visible("#attack-old")
    asked = {url.removeprefix(app.url).split("?")[0] for url, _, _ in page.sent if not url.startswith(("data:", "blob:"))}
    assert not [url for url in asked if re.search("sample|album|demo.key|plain|without_key", url)]
    context.close()


@pytest.mark.nightly
def test_several_users_and_programs_are_served_at_once_and_nothing_is_written(browser, app, plain_model, tmp_path):
    pages = [open_page(browser, app), open_page(browser, app)]
    pages[1].locator("#samples button").nth(1).click()
    pages[1].wait_for_selector("#samples button:nth-child(2)[aria-pressed=true]")
    for page in pages:
        page.click("#send")
    for page in pages:
        page.wait_for_selector("#server-result:visible")
        assert page.is_hidden("#message")
    tops = [page.locator("#answer li > span:first-child").first.inner_text() for page in pages]
    assert tops == [page.locator(".compared > .same li:first-child > span:first-child").first.inner_text() for page in pages]

    te.save_model(te.encrypt_model(plain_model, app.key), tmp_path / "encrypted")
    bundled_photo("cat").save(tmp_path / "cat.png")
    words = [ROOT / "examples" / "app_client.py", app.url, tmp_path / "encrypted", app.key_file, tmp_path / "cat.png"]
    done = processes.run([str(word) for word in words], env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=tmp_path)
    assert done.stdout.split("\n")[0].endswith("  cat"), done.stderr
    te.SecretKey.generate().save(tmp_path / "other.key")
    for replaced, by, reason in (
        (3, tmp_path / "other.key", "key: expected the key with fingerprint"),
        (1, "http://127.0.0.1:9", ".*onnect"),
        (4, tmp_path / "none.jpg", ".*No such file"),
    ):
        wrong = [*words[:replaced], by, *words[replaced + 1 :]]
        refused = processes.run([str(word) for word in wrong], env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=tmp_path)
        assert re.fullmatch(f"app_client.py: {reason}.*\n", refused.stderr), refused.stderr

    files = [path for folder in ("tmp", "home") for path in (app.folder / folder).rglob("*") if path.is_file()]
    assert files == []
    log = (app.folder / "log").read_bytes()
    assert b"WRITES " in log[: app.started], "the watch sees what is written"
    written = set(re.findall(rb"^WRITES (.*)$", log[app.started :], re.M))
    assert written <= {b"/dev/null"}
    assert b"CONNECTS" not in log, "it asks nobody"
    assert not [form for form in secret_forms(app.key) if form in log]


def test_the_program_that_the_page_shows_runs(browser, app, tmp_path):
    """With the demo's key, which it fetches, and the cipher that was chosen."""
    page = open_page(browser, app)
    (tmp_path / "program.py").write_text(page.text_content("#program"))
    bundled_photo("cat").save(tmp_path / "photo.jpg", quality=95)
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    done = processes.run([str(tmp_path / "program.py")], env=env, cwd=tmp_path)
    assert re.search(r"'classes': \[.'class': 'cat'", done.stdout.replace('"', "'")), done.stdout[-500:] + done.stderr


@pytest.mark.nightly
def test_the_focus_stays_where_enter_was_pressed(browser, app):
    page = open_page(browser, app)
    for button in ("send", "attack"):
        page.focus(f"#{button}")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#{button}:not(.busy):enabled")
        page.wait_for_function(f"document.activeElement.id === '{button}'")


@pytest.mark.nightly
def test_faults_are_one_message_each(browser, app):
    page = open_page(browser, app)

    def choose(where: str, name: str, content: bytes) -> None:
        page.set_input_files(where, {"name": name, "mimeType": "application/octet-stream", "buffer": content})

    whole = photo_file(bundled_photo("rocket"))["buffer"]
    before = page.inner_text("#fingerprint")
    for where, name, content, pattern in (
        ("#key-open", "my.key", b"hello", "^my.key: expected one line of text that starts with ENCMIXER-KEY-1"),
        ("#key-open", "my.key", app.key_file.read_bytes()[:-9] + b"\n", "^my.key: expected .*truncated or mistyped"),
        ("#key-open", "my.key", bytes(100_000), "^my.key: expected a key file of one line, got 100000 bytes"),
        ("#photo", "a.png", whole[: len(whole) // 2], "^a.png: expected a whole image, got a damaged one"),
        ("#photo", "a.png", huge_png(40_000, 40_000), "^a.png: expected at most 89478485 pixels"),
        ("#photo", "a.jpg", b"\xff\xd8\xff\xe0 no photo", "^a.jpg: expected (an|a whole) image"),
    ):
        choose(where, name, content)
        message(page, pattern)
        page.click("#message-close")
    assert page.inner_text("#fingerprint") == before
    assert page.is_disabled("#send")  # what was shown before is not sent in the place of a refused file
    page.locator("#samples button").first.click()
    page.wait_for_selector("#send:enabled")
    assert send(page)[0] == "cat"

    # What the server refuses, in its own words.
    def instead(body: dict[str, object] | str):
        page.route("**/call/classify", lambda route: route.continue_(post_data=body))
        page.click("#send")

    other = te.create_transform(scheme_of_page(page), key=app.key, output="image")(bundled_photo("rocket"))
    file = io.BytesIO()
    other.save(file, format="PNG")
    text = base64.b64encode(file.getvalue()).decode()
    for body, pattern in (
        ({"data": [text, "negpos", False]}, "^ciphertext: expected a ciphertext of negpos.*got shuffle"),
        ({"data": [text[: len(text) // 2], "shuffle+negpos", False]}, "^ciphertext: "),
        (
            {"data": [base64.b64encode(file.getvalue() * 9).decode(), "shuffle+negpos", False]},
            "^ciphertext: expected a file of at most .* bytes",
        ),
        ({"data": ["A" * 9_000_000, "shuffle+negpos", False]}, "^request: expected at most 8388608 bytes"),
        (
            {"data": [{"path": "http://127.0.0.1/", "meta": {"_type": "gradio.FileData"}}, "negpos", False]},
            "^classify: expected the arguments ciphertext",
        ),
    ):
        instead(body)
        message(page, pattern)
        page.unroute("**/call/classify")
    assert send(page)[0] == "cat"

    page.route("**/*", lambda route: route.abort("connectionrefused"))  # as when the server has gone
    page.click("#send")
    message(page, "^server: expected an answer, got none; is encmixer app still running")
    assert page.is_enabled("#send")
