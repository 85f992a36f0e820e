"""The recipes of docs/serving.md: one golden ciphertext gives the plain model's logits; anything else is refused."""

from __future__ import annotations

import ast
import base64
import contextlib
import importlib
import io
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import documents
import onnx
import processes
import pytest
import timm
import torch
from conftest import ROOT
from PIL import Image

import timm_encmixer as te

RECIPES = ROOT / "examples" / "serving"
KEY, OTHER = te.SecretKey(bytes(range(32))), te.SecretKey(bytes(32))
CIPHER = "shuffle+negpos+scramble"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 10}
Answer = tuple[int, dict]  # HTTP status, body
Recipe = Callable[[bytes], Answer]


@pytest.fixture(scope="module")
def plain() -> torch.nn.Module:
    """A shape that stock timm knows by its name."""
    torch.manual_seed(0)
    return timm.create_model("vit_base_patch32_clip_224", **SMALL).eval()


@pytest.fixture(scope="module")
def folder(plain, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("serving") / "encrypted"
    te.save_model(te.encrypt_model(plain, KEY, cipher=CIPHER), folder)
    return folder


@pytest.fixture(scope="module")
def etc_folder(plain, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("serving") / "etc"
    te.save_model(te.encrypt_model(plain, KEY, cipher="etc"), folder)
    return folder


def file_of(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format_, **options)
    return file.getvalue()


def ciphertext_of(photo: Image.Image, folder: Path, key: te.SecretKey = KEY) -> Image.Image:
    return te.create_transform(str(folder), key=key, output="image")(photo)


@pytest.fixture(scope="module")
def golden(folder, photos) -> bytes:
    return file_of(ciphertext_of(photos[0], folder))


@torch.no_grad()
def plain_logits(plain: torch.nn.Module, photo: Image.Image) -> torch.Tensor:
    """As timm itself preprocesses the photo for the plain model."""
    transform = timm.data.create_transform(**timm.data.resolve_data_config({"input_size": (3, 32, 32)}, model=plain))
    return plain(transform(photo)[None])[0]


def close(got: list[float], expected: torch.Tensor, tolerance: float) -> bool:
    """Whether logits differ by less than a share of their spread."""
    assert float(expected.std()) > 1e-2
    return float((torch.tensor(got) - expected).abs().max()) < tolerance * float(expected.std())


def request_with(content: bytes) -> bytes:
    return json.dumps({"inputs": base64.b64encode(content).decode()}).encode()


def post(url: str, body: bytes) -> Answer:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=processes.LONGEST_SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Served:
    """A server that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, content: bytes) -> Answer:
        return self.post(request_with(content))

    def post(self, body: bytes) -> Answer:
        return post(self._url, body)


def free_port() -> int:
    """Return a port below those that the system gives to connections, so that none gets it before the server does."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(first // 2, first), 100):
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def serving(script: str, model: Path, folder: Path) -> Iterator[Recipe]:
    """Run a recipe's server on a free port until the test is done."""
    port = free_port()
    with (folder / "log").open("wb") as log:
        words = [str(RECIPES / script), str(model), "--port", str(port)]
        server = processes.start(words, env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=folder, err=log.fileno())
    try:
        while True:
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=processes.LONGEST_SECONDS).close()
            except OSError:
                time.sleep(0.1)
            else:
                break
        yield Served(f"http://127.0.0.1:{port}/predict")
    finally:
        server.send_signal(2)
        server.wait()


@pytest.fixture(scope="module")
def load_handler() -> Iterator[Callable[[Path], object]]:
    """Load handler.py as the endpoint's container does: its folder is on the path, and its class gets the repository's."""
    sys.path.insert(0, str(RECIPES))
    yield lambda folder: importlib.import_module("handler").EndpointHandler(str(folder))
    sys.path.remove(str(RECIPES))


def asked(handler: object, inputs: object) -> Answer:
    """Ask as the container does: an error becomes HTTP 400."""
    try:
        return 200, handler({"inputs": inputs})
    except ValueError as error:
        return 400, {"error": str(error)}


def test_what_the_page_pushes_beside_the_model_makes_an_endpoints_repository(folder, golden, photos, plain, owner, tmp_path):
    """The blocks of docs/serving.md; the container loads handler.py from the repository, whose folder is on its path."""
    page = ROOT / "docs" / "serving.md"
    push, send = [block.code for block in documents.blocks(page) if "model push" in block.code or "upload_folder" in block.code]
    for name, source in (("encrypted", folder), ("examples/serving", RECIPES)):
        shutil.copytree(source, owner.cwd / name)
    KEY.save(owner.cwd / "owner.key")
    owner.run(*shlex.split(push)[1:], "--license", "mit", check=True)
    owner.python(send)
    owner.run(*shlex.split(push)[1:], "--license", "apache-2.0", check=True)  # a later push, which keeps them
    (tmp_path / "golden.png").write_bytes(golden)
    code = f"""
import base64, json, sys
from huggingface_hub import snapshot_download
repository = snapshot_download("me/vit", local_dir={str(tmp_path / "repository")!r})
sys.path.insert(0, repository)
from handler import EndpointHandler
content = base64.b64encode(open({str(tmp_path / "golden.png")!r}, "rb").read()).decode()
print(json.dumps(EndpointHandler(repository)({{"inputs": content}})))
"""
    answer = json.loads(owner.python(code, without_plugin=True).strip().splitlines()[-1])
    assert close(answer["logits"], plain_logits(plain, photos[0]), 1e-4)
    files = sorted(path.name for path in (tmp_path / "repository").iterdir() if path.is_file())
    assert files == [
        ".gitattributes",
        "README.md",
        "ciphertext.py",
        "config.json",
        "handler.py",
        "model.safetensors",
        "requirements.txt",
    ]


@pytest.fixture(scope="module")
def handler_with_json(load_handler, folder) -> Recipe:
    handler = load_handler(folder)
    return lambda content: asked(handler, base64.b64encode(content).decode())


@pytest.fixture(scope="module")
def handler_with_image(load_handler, folder) -> Recipe:
    """Of a body of type image/png the container makes a PIL image, RGB, before it calls the handler."""
    handler = load_handler(folder)

    def ask(content: bytes) -> Answer:
        try:
            image = Image.open(io.BytesIO(content)).convert("RGB")
        except OSError as error:  # the container refuses it
            return 400, {"error": f"image: {error}; encrypt"}
        return asked(handler, image)

    return ask


@pytest.fixture(scope="module")
def litserve_server(folder, tmp_path_factory) -> Iterator[Recipe]:
    yield from serving("litserve_server.py", folder, tmp_path_factory.mktemp("litserve"))


@pytest.fixture(scope="module")
def onnx_file(folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    result = processes.run([str(RECIPES / "onnx_export.py"), str(folder), str(path)], env=dict(os.environ), cwd=path.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("model.onnx: pixels (N, 32, 32, 3) -> logits (N, 10)\n")
    return path


@pytest.fixture(scope="module")
def onnx_server(onnx_file) -> Iterator[Recipe]:
    yield from serving("onnx_server.py", onnx_file, onnx_file.parent)


@pytest.fixture(scope="module", params=["handler_with_json", "handler_with_image", "litserve_server", "onnx_server"])
def recipe(request) -> Recipe:
    return request.getfixturevalue(request.param)


@pytest.mark.nightly(only=("litserve_server",))
def test_the_golden_ciphertext_gives_the_plain_models_logits(recipe, golden, plain, photos):
    status, body = recipe(golden)
    assert status == 200
    assert close(body["logits"], plain_logits(plain, photos[0]), 1e-4)


def with_one_other_pixel(file: bytes) -> bytes:
    """Ciphertext that was changed and kept its record."""
    image = Image.open(io.BytesIO(file))
    info = te.images.png_info(image)
    image.putpixel((3, 4), tuple(255 - value for value in image.getpixel((3, 4))))
    return file_of(image, pnginfo=info)


def resized(file: bytes) -> bytes:
    image = Image.open(io.BytesIO(file))
    return file_of(image.resize((40, 48)), pnginfo=te.images.png_info(image))


@pytest.mark.nightly(only=("litserve_server",))
def test_each_refuses_what_is_no_ciphertext_for_the_model(recipe, golden, plain, photos, folder, etc_folder, tmp_path):
    te.save_model(te.encrypt_model(plain, OTHER, cipher=CIPHER), tmp_path / "other")
    etc = ciphertext_of(photos[0], etc_folder)
    refused = {
        "an image of 32 x 32 px, the model's input, got 48 x 40 px": resized(golden),
        "a PNG file that encmixer wrote|cannot identify": b"no image",
        "a ciphertext that says what it is, got no record": file_of(photos[0]),
        "a ciphertext PNG, got JPEG|got no record": file_of(Image.open(io.BytesIO(golden)), "JPEG"),
        f"under the key {KEY.fingerprint}, got the key": file_of(ciphertext_of(photos[0], tmp_path / "other", OTHER)),
        rf"a ciphertext of {re.escape(CIPHER)}, blocks of 8 px, got etc": file_of(etc),
        "a ciphertext PNG, got JPEG": file_of(etc, "JPEG", quality=95, subsampling=0),
        "the pixels that were written, got others": with_one_other_pixel(golden),
        "a damaged one|truncated": golden[:-300],
    }
    for reason, content in refused.items():
        status, body = recipe(content)
        assert status == 400, reason
        text = body.get("detail", body.get("error"))
        assert re.match("image: .*; encrypt", text), text
        assert re.search(reason, text), text
        assert "\n" not in text


def test_requests_without_a_ciphertext_are_refused_and_not_sent_back(load_handler, folder, litserve_server, onnx_server):
    handler = load_handler(folder)
    for data, got in (({}, "nothing"), ({"inputs": 3}, "something else"), ({"inputs": ["SENT"]}, "something else")):
        with pytest.raises(ValueError, match=f"^image: expected base64 of a ciphertext file in `inputs`, got {got}; encrypt"):
            handler(data)
    for server in (litserve_server, onnx_server):
        for body in ({}, {"inputs": ["SENT"]}, "SENT"):
            status, answer = server.post(json.dumps(body).encode())
            assert (status, "SENT" in str(answer)) == (422, False)
            assert answer["detail"].startswith("request: expected")


def test_what_cannot_be_served_is_one_line(plain, folder, tmp_path, load_handler):
    te.save_model(timm.create_model("vit_base_patch32_clip_224", **SMALL), tmp_path / "plain")
    shutil.copytree(folder, tmp_path / "unknown")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "unknown" / "config.json").write_text(json.dumps({**config, "architecture": "nobody_knows"}))
    (tmp_path / "damaged.onnx").write_bytes(b"none")
    onnx.save(bare_onnx(), tmp_path / "bare.onnx")
    for script, model, reason in (
        ("onnx_export.py", "missing", "missing: expected the folder of an encrypted model, got no config.json in it; encmixer"),
        (
            "onnx_export.py",
            "plain",
            "plain: expected the config.json of an encrypted model, got another; encmixer model encrypt",
        ),
        (
            "litserve_server.py",
            "unknown",
            "unknown: expected a shape that timm knows by its name, got nobody_knows; timm-encmixer, which is here, does",
        ),
        ("onnx_server.py", "missing.onnx", "missing.onnx: expected an ONNX file, got NoSuchFile; onnx_export.py writes one"),
        ("onnx_server.py", "damaged.onnx", "damaged.onnx: expected an ONNX file, got InvalidProtobuf"),
        ("onnx_server.py", "bare.onnx", "bare.onnx: expected the config.json of an encrypted model, got another"),
    ):
        words = [str(RECIPES / script), model, *(["model.onnx"] if script == "onnx_export.py" else [])]
        done = processes.run(words, env=dict(os.environ), cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert done.stderr.startswith(f"{script}: {reason}")
    with pytest.raises(ValueError, match="expected a shape that timm knows"):
        load_handler(tmp_path / "unknown")


def bare_onnx() -> onnx.ModelProto:
    """An ONNX file that another program wrote."""
    info = onnx.helper.make_tensor_value_info
    one, two = (info(name, onnx.TensorProto.FLOAT, [1]) for name in ("one", "two"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["one"], ["two"])], "g", [one], [two])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)


def test_jpeg_of_etc_is_taken_where_the_models_record_says_etc(load_handler, etc_folder, plain, photos):
    handler = load_handler(etc_folder)
    ciphertext = ciphertext_of(photos[0].resize((32, 32)), etc_folder)
    png, jpeg = file_of(ciphertext), file_of(ciphertext, "JPEG", quality=100, subsampling=0)
    expected = plain_logits(plain, photos[0])
    for inputs in (
        *(base64.b64encode(content).decode() for content in (png, jpeg)),
        Image.open(io.BytesIO(png)).convert("RGB"),
    ):
        status, body = asked(handler, inputs)
        assert status == 200, body
        assert close(body["logits"], expected, 0.1)
    status, body = asked(handler, Image.open(io.BytesIO(jpeg)).convert("RGB"))  # its sampling does not show any more
    assert (status, "a JPEG file, got an image that was copied or converted" in body["error"]) == (400, True)
    status, body = asked(handler, base64.b64encode(file_of(ciphertext, "JPEG", quality=100, subsampling=2)).decode())
    assert (status, "not subsampled" in body["error"]) == (400, True)


def test_the_server_with_stock_timm_reads_what_its_cipher_allows_and_says_when_there_is_nothing(
    folder, etc_folder, photos, plain, tmp_path
):
    """examples/server_stock_timm.py, which needs no more than timm."""
    script = ROOT / "examples" / "server_stock_timm.py"
    (tmp_path / "sent").mkdir()
    (tmp_path / "empty").mkdir()
    ciphertext_of(photos[0].resize((32, 32)), etc_folder).save(tmp_path / "sent" / "a.JPG", quality=100, subsampling=0)

    def served(model: Path, name: str) -> subprocess.CompletedProcess[str]:
        return processes.run([str(script), f"local-dir:{model}", name], env=dict(os.environ), cwd=tmp_path)

    (line,) = served(etc_folder, "sent").stdout.splitlines()
    assert close(json.loads(line)["logits"], plain_logits(plain, photos[0]), 0.1)
    for model, name, got in (
        (folder, "sent", "no file that ends in .png"),
        (etc_folder, "empty", "no file that ends in .png or .jpg or .jpeg"),
        (etc_folder, "missing", "no such folder"),
    ):
        done = served(model, name)
        expected = (
            f"server_stock_timm.py: {name}: expected a folder of ciphertext, got {got}; encmixer images encrypt makes it\n"
        )
        assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_the_configuration_for_triton_is_that_of_the_onnx_file(onnx_file):
    """Triton itself does not run here."""
    text = (RECIPES / "triton" / "model_repository" / "encmixer" / "config.pbtxt").read_text()
    declared = re.findall(r'name: "(\w+)", data_type: TYPE_(\w+), dims: \[ ([\d, ]+) \]', text)
    types = {onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.FLOAT: "FP32"}
    graph = onnx.load(onnx_file).graph
    tensors = [(one.name, one.type.tensor_type) for one in (*graph.input, *graph.output)]
    dims = [", ".join(str(dim.dim_value) for dim in tensor.shape.dim[1:]) for _, tensor in tensors]
    assert declared == [(name, types[tensor.elem_type], size) for (name, tensor), size in zip(tensors, dims, strict=True)]
    assert all(tensor.shape.dim[0].dim_param for _, tensor in tensors)  # Triton batches


def test_no_recipe_needs_the_plugin_or_a_key():
    for script in RECIPES.glob("*.py"):
        tree = ast.parse(script.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if script.name == "ciphertext.py":  # asks it where it is there; tests/test_file_table.py runs it without
            names.remove("timm_encmixer")
        assert not any(name.startswith("timm_encmixer") for name in names), script
