"""The JavaScript client in headless Chromium: the tests that it passes under Node, and what only a browser does."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re

import chromium
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageOps, JpegImagePlugin
from test_client_js import check_equal, check_written, make_cases, photo_like

import timm_encmixer as te
from timm_encmixer.images.image_record import attach_record

pytestmark = chromium.needs_chromium
SUBSAMPLED = 2  # Pillow's number of 4:2:0
CLOSE = 3  # grey levels, mean over an image, between two decoders of JPEG


@pytest.fixture(scope="module")
def browser():
    with chromium.browser() as started:
        yield started


@pytest.mark.nightly
def test_it_passes_the_tests_for_node(browser, tmp_path):
    cases = make_cases(tmp_path, ciphers=9, photos=24, records=60)
    tests = ("vectors.test.js", "python.test.js", "files.test.js")
    done = chromium.run_tests(chromium.open_client(browser, tmp_path), *tests)
    assert done["failed"] == []
    assert done["passed"] > 180
    check_equal(" ".join(done["said"]))
    for name, content in done["written"].items():
        (tmp_path / name).write_bytes(content)
    for case in cases["ciphers"]:
        check_written(tmp_path, case)


def test_photos_are_read_upright_and_without_colour_management(browser):
    page = chromium.open_client(browser)
    read = """async ({ text, name }) => {
      const { readImage } = await import("/timm_encmixer/web/client/dist/encmixer.js");
      const file = new File([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))], name);
      const found = await readImage(file, { where: name }).catch((error) => error.message);
      if (typeof found === "string") return found;
      return [found.height, found.width, found.channels, btoa(String.fromCharCode(...found.data))];
    }"""

    def pixels(image: Image.Image, name: str, **options):
        file = io.BytesIO()
        image.save(file, Image.registered_extensions()[name[name.index(".") :]], **options)
        found = page.evaluate(read, {"text": base64.b64encode(file.getvalue()).decode(), "name": name})
        assert not isinstance(found, str), found
        height, width, channels, text = found
        file.seek(0)
        expected = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        made = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, channels)[..., :3]
        return made.astype(int), np.asarray(expected).astype(int)

    photo = photo_like((60, 41), np.random.default_rng(3)).resize((48, 33))
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        found, expected = pixels(photo, "photo.jpg", quality=95, subsampling=0, exif=exif, icc_profile=WIDE)
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < CLOSE, turn
    found, expected = pixels(photo, "photo.webp", lossless=True, icc_profile=WIDE)
    assert np.array_equal(found, expected)
    assert page.evaluate(MANAGED, data_url(photo)) != expected[0, 0].tolist()  # an image element applies the profile
    with_alpha = photo.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize(photo.size))
    found, expected = pixels(with_alpha, "photo.png", icc_profile=WIDE)
    assert np.array_equal(found, expected)  # what is behind alpha too
    with pytest.raises(AssertionError, match=r"photo\.webp: expected opaque pixels, in formats other than PNG"):
        pixels(with_alpha, "photo.webp", lossless=True)


READ = """async ({ text, name }) => {
  const { EncMixerError, readImage } = await import("/timm_encmixer/web/client/dist/encmixer.js");
  const file = new File([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))], name);
  return readImage(file, { where: name }).then(({ width, height }) => [width, height], (error) => {
    return error instanceof EncMixerError ? error.message : error.stack;
  });
}"""


def test_a_canvas_that_returns_noise_is_found_before_a_photo_is_read_with_it(browser):
    page = chromium.open_client(browser)
    photo = photo_like((60, 41), np.random.default_rng(3))

    def read(name: str) -> object:
        file = io.BytesIO()
        photo.save(file, Image.registered_extensions()[name[name.index(".") :]])
        return page.evaluate(READ, {"text": base64.b64encode(file.getvalue()).decode(), "name": name})

    assert read("photo.jpg") == [60, 41]
    for noise in ("data.fill(255)", "data[1234] ^= 1", "data.forEach((level, i) => { data[i] = Math.random() * 256 })"):
        page.evaluate(NOISY, noise)
        assert re.match(r"photo\.jpg: expected a canvas that returns the pixels drawn on it, got noise", read("photo.jpg"))
        assert read("photo.png") == [60, 41]  # without a canvas
    page.evaluate("delete globalThis.OffscreenCanvas")
    page.evaluate("() => { HTMLCanvasElement.prototype.getContext = () => null }")
    assert re.match(r"photo\.jpg: expected a canvas to read the image with, got none; save the photo as PNG", read("photo.jpg"))


NOISY = """(change) => {
  const kind = OffscreenCanvasRenderingContext2D.prototype;
  kind.known ??= kind.getImageData;
  const noisy = new Function("data", change);
  kind.getImageData = function (...args) {
    const image = this.known(...args);
    noisy(image.data);
    return image;
  };
}"""


def test_a_page_without_an_offscreen_canvas_reads_photos_on_one_of_its_own(browser):
    page = chromium.open_client(browser)
    page.evaluate("delete globalThis.OffscreenCanvas")
    file = io.BytesIO()
    photo_like((60, 41), np.random.default_rng(3)).save(file, "JPEG")
    assert page.evaluate(READ, {"text": base64.b64encode(file.getvalue()).decode(), "name": "photo.jpg"}) == [60, 41]


def test_the_page_of_the_document_works_as_a_new_user_tries_it(browser, encrypted_folder, key, other_key, tmp_path, photos):
    """Photo before key, a wrong key first, the right one later; what it posts is what the recipes for servers read."""
    (html,) = re.findall(r"^```html\n(.*?)^```$", (ROOT / "docs" / "browser.md").read_text(), re.M | re.S)
    files = {
        "/": html.encode(),
        "/encmixer.js": (ROOT / chromium.CLIENT / "dist" / "encmixer.js").read_bytes(),
        "/config.json": (encrypted_folder / "config.json").read_bytes(),
    }
    recipe, received = load_recipe(), []

    def answer(route) -> None:
        path = route.request.url.removeprefix("http://127.0.0.1:9")
        if path == "/predict":
            received.append(recipe.open_ciphertext(route.request.post_data_json["inputs"], json.loads(files["/config.json"])))
            route.fulfill(body='{"logits": [1, 2]}')
        else:
            route.fulfill(body=files[path], content_type="text/javascript" if path.endswith(".js") else "text/html")

    page = browser.new_page()
    page.route("**/*", answer)
    page.goto("http://127.0.0.1:9/")
    photos[0].resize((50, 41)).save(tmp_path / "photo.png")
    key.save(tmp_path / "owner.key")
    other_key.save(tmp_path / "other.key")
    said = page.locator("#answer")
    page.get_by_label("Photo").set_input_files(tmp_path / "photo.png")
    assert said.inner_text() == "Choose the key file and a photo."
    for name, text in (
        ("photo.png", "photo.png: expected one line of text"),
        ("other.key", "key: expected the key with fingerprint"),
        ("owner.key", '{"logits"'),
    ):
        page.get_by_label("Key file").set_input_files(tmp_path / name)
        page.wait_for_function("(text) => document.getElementById('answer').textContent.startsWith(text)", arg=text)
    (sent,) = received
    client = te.create_transform(encrypted_folder, key=key, output="image")
    assert np.array_equal(np.asarray(sent), np.asarray(client(photos[0].resize((50, 41)))))


def load_recipe():
    spec = importlib.util.spec_from_file_location("ciphertext", ROOT / "examples" / "serving" / "ciphertext.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_jpeg_ciphertext_is_read_and_decrypted(browser, key, tmp_path):
    record = te.Scheme(cipher="etc", patch_size=16, fingerprint=key.fingerprint)
    cipher = te.ImageCipher(key, record)
    plain = photo_like((64, 48), np.random.default_rng(5)).resize((96, 64))
    sent = cipher.encrypt(plain)
    attach_record(sent, cipher)
    page = chromium.open_client(browser)

    def read(image: Image.Image = sent, **options):
        file = io.BytesIO()
        image.save(file, "JPEG", **{"quality": 95, "subsampling": 0, **options})
        text = base64.b64encode(file.getvalue()).decode()
        found = page.evaluate(DECRYPTED, {"text": text, "key": key.file_text().decode(), "record": record.to_dict()})
        if isinstance(found, str):
            return found
        python = cipher.decrypt(Image.open(file))
        made = np.frombuffer(base64.b64decode(found[2]), np.uint8).reshape(*found[:2], 3)
        assert np.abs(made.astype(int) - np.asarray(python)).mean() < CLOSE
        return None

    exif = Image.Exif()
    exif[0x0112] = 6  # ciphertext is never turned
    for options in ({}, {"quality": 75}, {"icc_profile": WIDE}, {"exif": exif}):
        assert read(**options) is None, options
    bare = Image.fromarray(np.asarray(sent))
    assert read(bare) is None  # without a record, as from other software
    assert re.search("not subsampled", read(subsampling=2))
    assert re.search("a baseline JPEG", read(progressive=True))
    assert re.search("64 x 96 px, as it was written, got 48 x 96 px", read(changed(sent.crop((0, 0, 96, 48)), sent)))
    attach_record(bare, te.ImageCipher(key, record.replace(cipher="etc+scramble", grid=(4, 6))))
    assert re.search(r"a ciphertext of etc, blocks of 16 px, got etc\+scramble", read(bare))


def changed(image: Image.Image, original: Image.Image) -> Image.Image:
    image.info = original.info
    return image


DECRYPTED = """async ({ text, key, record }) => {
  const { makeCipher, readCiphertext, readKey, readRecord } = await import("/timm_encmixer/web/client/dist/encmixer.js");
  const file = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  try {
    const model = readRecord(record);
    const { data, width, height } = makeCipher(readKey(key), model).decrypt(await readCiphertext(file, model));
    return [height, width, btoa(String.fromCharCode(...data))];
  } catch (error) {
    return error.message;
  }
}"""


def test_a_canvas_subsamples_the_colours_of_jpeg(browser):
    """So ciphertext of `etc` cannot be written by one as JPEG, but at the highest quality (docs/browser.md)."""
    page = chromium.open_client(browser)
    made = [base64.b64decode(page.evaluate(AS_JPEG, quality)) for quality in (0.5, 0.85, 0.99)]
    assert [JpegImagePlugin.get_sampling(Image.open(io.BytesIO(file))) for file in made] == [SUBSAMPLED] * 3


AS_JPEG = """async (quality) => {
  const canvas = new OffscreenCanvas(32, 32);
  canvas.getContext("2d").fillRect(0, 0, 9, 9);
  const file = await canvas.convertToBlob({ type: "image/jpeg", quality });
  return btoa(String.fromCharCode(...new Uint8Array(await file.arrayBuffer())));
}"""
MANAGED = """async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}"""


def data_url(photo: Image.Image) -> str:
    file = io.BytesIO()
    photo.save(file, "WEBP", lossless=True, icc_profile=WIDE)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _wide() -> bytes:
    """A colour profile of another gamut: sRGB's with red and blue exchanged, so that whoever applies it shows."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = profile[blue + 4 : blue + 12], profile[red + 4 : red + 12]
    return bytes(profile)


WIDE = _wide()


def test_browsers_are_given_files_in_one_part(browser):
    """Firefox 140 decodes no Blob of several parts."""
    page = chromium.open_client(browser)
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(file, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    read = """async (text) => {
      const { readImage } = await import("/timm_encmixer/web/client/dist/encmixer.js");
      globalThis.Blob = class extends Blob {
        constructor(parts, options) {
          super(parts, options);
          if (parts.length > 1) throw new TypeError("a Blob of several parts");
        }
      };
      const { width } = await readImage(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), { where: "photo" });
      return width;
    }"""
    assert page.evaluate(read, base64.b64encode(file.getvalue()).decode()) == 16
