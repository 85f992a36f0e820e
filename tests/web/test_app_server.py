"""What the server of the page computes and refuses, without a browser; and what its guard lets through."""

from __future__ import annotations

import ast
import asyncio
import base64
import functools
import io
import json
import logging
import re
import struct
import sys
import threading
import types
import zlib

import numpy as np
import pytest
import timm
import torch
import yaml
from conftest import ROOT, assert_no_secret
from PIL import Image

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images, bundled_photo
from timm_encmixer.errors import AddressError, ImageError, MissingExtraError, SchemeError, SourceError
from timm_encmixer.web.answers import MOST_UNFETCHED, Answers
from timm_encmixer.web.arguments import ArgumentError, Call
from timm_encmixer.web.guard import MOST_BYTES, Guard
from timm_encmixer.web.hosts import Hosts
from timm_encmixer.web.listener import listen
from timm_encmixer.web.owner import DEMO_CIPHERS, class_names, publish
from timm_encmixer.web.samples import album, samples
from timm_encmixer.web.server import ModelServer, PlainComparison

CIPHER = "shuffle+negpos"


@pytest.fixture(scope="module")
def published(plain_model):
    return publish(plain_model)


@pytest.fixture(scope="module")
def server(published):
    return ModelServer(published.models, published.classes, key_is_public=True)


@pytest.fixture(scope="module")
def client(published, server):
    return te.create_transform(server.records[CIPHER], key=published.key, output="image")


def encoded(image: Image.Image, kind: str = "PNG", **options) -> str:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def huge_png(width: int, height: int) -> bytes:
    """A small file whose header promises many pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    checked = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


def test_the_owner_makes_a_model_for_each_cipher_that_it_can_take(published, server):
    # a ConvMixer follows no order, and its blocks are of 4 px
    assert list(published.models) == [CIPHER, "shuffle", "negpos", "shuffle-planes"]
    assert {record.fingerprint for record in server.records.values()} == {published.key.fingerprint}
    assert published.classes == bundled_images()[2]
    assert_no_secret(published.key, repr(published), repr(vars(server)))


def test_an_encrypted_model_is_served_as_it_is_and_nobody_here_has_its_key(encrypted_folder, key):
    published = publish(encrypted_folder)
    assert (list(published.models), published.plain, published.key) == ([CIPHER], None, None)
    assert published.classes == bundled_images()[2]
    server = ModelServer(published.models, published.classes)
    ciphertext = te.create_transform(encrypted_folder, key=key, output="image")(bundled_photo("cat"))
    assert server.classify(encoded(ciphertext), CIPHER)["classes"][0]["class"] == "cat"


def test_where_the_key_is_private_nothing_public_is_offered_to_encrypt(encrypted_folder):
    from starlette.testclient import TestClient

    from timm_encmixer.web import make_app

    client = TestClient(make_app(encrypted_folder, allow_hosts=["testserver"]))
    about = client.get("/about.json").json()
    assert (about["has_key"], about["samples"], about["album_px"]) == (False, [], None)
    for path in ("album.png", "samples/cat.png", "demo.key", "gradio_api/call/without_key/x", "gradio_api/call/plain/x"):
        assert client.get(f"/{path}").json() == {"error": "there is nothing here"}


def test_models_that_cannot_be_shown_are_refused(plain_model, key):
    with pytest.raises(SchemeError, match="expected a cipher whose ciphertext is an image, got orthogonal"):
        publish(te.encrypt_model(plain_model, key, cipher="orthogonal"))
    with pytest.raises(SourceError, match="expected a classifier"):
        publish(timm.create_model("encmixer_256_8_ks5_p4", num_classes=0))


@pytest.mark.nightly
def test_a_model_that_can_take_every_cipher():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
    published = publish(model)
    assert tuple(published.models) == DEMO_CIPHERS
    server = ModelServer(published.models, published.classes)
    for cipher, record in server.records.items():
        ciphertext = te.create_transform(record, key=published.key, output="image")(bundled_photo("cat"))
        answers = [server.classify(encoded(ciphertext), cipher)["classes"]]
        if record.takes_jpeg:
            answers.append(server.classify(encoded(ciphertext, "JPEG", quality=95, subsampling=0), cipher)["classes"])
        assert {answer[0]["class"] for answer in answers} == {PlainComparison(model, server).classify("cat")[0]["class"]}
    scrambled = "shuffle+negpos+scramble"
    picture = te.create_transform(server.records[scrambled], key=published.key, output="image")(bundled_photo("cat"))
    with pytest.raises(
        SchemeError, match=r"attack: expected a cipher that is attacked in seconds, got shuffle\+negpos\+scramble with"
    ):
        server.attack(encoded(picture), [], scrambled)


def test_names_of_classes():
    named = timm.create_model("vit_tiny_patch16_224", num_classes=2)
    assert class_names(named) == ["class 0", "class 1"]
    named.pretrained_cfg["label_names"] = ["left", "right"]
    assert class_names(named) == ["left", "right"]
    assert class_names(timm.create_model("vit_tiny_patch16_224"))[:2] == ["tench, Tinca tinca", "goldfish, Carassius auratus"]


def test_the_encrypted_model_answers_as_the_plain_one_does(published, server, client):
    plain = PlainComparison(published.plain, server)
    for name in ("cat", "rocket", "small ship"):
        answer = server.classify(encoded(client(samples()[name])), CIPHER)
        assert [one["class"] for one in answer["classes"][:3]] == [one["class"] for one in plain.classify(name)]
        shares = zip(answer["classes"], plain.classify(name), strict=False)
        assert all(abs(one["share"] - other["share"]) < 1e-3 for one, other in shares)
        assert (answer["arrived"]["height"], answer["arrived"]["width"]) == (32, 32)
        assert len(answer["classes"]) == 5
        assert set(server.without_key(name, CIPHER)) == {"wrong key", "no key"}
        json.dumps(answer)


def test_a_wrong_key_gives_other_answers_and_is_taken_on_purpose_only(server, other_key):
    wrong = te.create_transform(server.records[CIPHER], key=other_key, wrong_key=True, output="image")
    pictures = [encoded(wrong(picture)) for picture in album()[:20]]
    with pytest.raises(ImageError, match=f"got the key {other_key.fingerprint}; encrypt the plain image with the model's key"):
        server.classify(pictures[0], CIPHER)
    answers = [server.classify(picture, CIPHER, True)["classes"][0]["class"] for picture in pictures]
    assert sum(answer == name for answer, name in zip(answers, bundled_images()[2] * 2, strict=True)) < 10
    with pytest.raises(ImageError, match="got the key"):
        server.classify(pictures[0], CIPHER, "yes")  # what is no flag is not one


@pytest.mark.nightly
def test_the_attack_measures_itself_on_the_public_album(server, client, monkeypatch):
    collected = [encoded(client(picture)) for picture in album()[:3]]
    found = server.attack(encoded(client(bundled_photo("cat"))), collected, CIPHER)
    assert (found["verdict"], found["collected"], found["measured_on"]) == ("broken", 4, 3)
    with Image.open(io.BytesIO(base64.b64decode(found["image"]))) as image:
        right = np.asarray(client.prepare(bundled_photo("cat"))).astype(int)
        assert np.abs(np.asarray(image) - right).mean() < 30
    monkeypatch.setattr("timm_encmixer.web.server.recover", functools.partial(te.audit.recover, attacks=["thumbnail"]))
    alone = server.attack(encoded(client(bundled_photo("cat"))), [], CIPHER)
    assert (alone["verdict"], alone["others"], alone["measured_on"]) == ("not run", None, 0)
    json.dumps([found, alone])
    private = ModelServer(server._models, bundled_images()[2])  # whose users send their own pictures, and none of the album
    assert private.attack(collected[0], collected[1:], CIPHER)["measured_on"] == 0
    with pytest.raises(ImageError, match="collected: expected a list of at most 100 ciphertexts, got 101"):
        server.attack(collected[0], [collected[0]] * 101, CIPHER)


def faults(client):
    """What is no ciphertext of the model, and what is said of it."""
    whole = client(bundled_photo("cat"))
    bare, changed = whole.copy(), whole.point(lambda value: value ^ 1)
    bare.info, changed.info = {}, whole.info
    png = base64.b64decode(encoded(whole))
    yield "no text!", "expected a PNG file in base64, got other text"
    yield None, "expected a PNG file in base64"
    yield "", "^ciphertext: "
    yield base64.b64encode(b"hello").decode(), "^ciphertext: "
    yield base64.b64encode(png[: len(png) // 2]).decode(), "^ciphertext: "
    yield base64.b64encode(png + bytes(99_999)).decode(), "expected a file of at most 19552 bytes, got 103"
    yield base64.b64encode(huge_png(9_000, 8_000)).decode(), "expected 32 x 32 px, as the model reads, got 8000 x 9000 px"
    yield base64.b64encode(huge_png(40_000, 40_000)).decode(), "^ciphertext: "
    yield encoded(bundled_photo("cat").resize((64, 32))), "expected 32 x 32 px, as the model reads, got 32 x 64 px"
    yield encoded(bare), "expected a ciphertext that says what it is, got no record in the file; (?!.*--)"
    yield encoded(changed, pnginfo=te.images.png_info(changed)), "expected the pixels that were written, got others"
    yield encoded(whole.convert("L")), "expected a ciphertext that says what it is, got no record in the file"
    yield encoded(whole, "JPEG"), "expected a ciphertext PNG, got JPEG"
    yield encoded(whole, "BMP"), "expected a ciphertext PNG, got BMP"


def test_base64_may_have_line_breaks_and_be_a_data_url(server, client):
    text = encoded(client(bundled_photo("cat")))
    lines = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    classes = server.classify(text, CIPHER)["classes"]
    assert server.classify(lines, CIPHER)["classes"] == classes
    assert server.classify(f"data:image/png;base64,{text}", CIPHER)["classes"] == classes


def test_what_is_no_ciphertext_of_the_model_is_refused(server, client):
    found = list(faults(client))
    for text, message in found:
        with pytest.raises(ImageError, match=message) as caught:
            server.classify(text, CIPHER)
        assert caught.value.where == "ciphertext"
    with pytest.raises(ImageError, match="expected the pixels that were written"):
        server.attack(encoded(client(bundled_photo("cat"))), [found[10][0]], CIPHER)
    good = encoded(client(bundled_photo("cat")))
    with pytest.raises(ImageError, match="expected a ciphertext of negpos, blocks of 4 px, got shuffle"):
        server.classify(good, "negpos")
    with pytest.raises(SchemeError, match="did you mean negpos"):
        server.classify(good, "negpo")
    with pytest.raises(ImageError, match="did you mean rocket"):
        server.without_key("rockett", CIPHER)
    with pytest.raises(ImageError, match="sample: expected one of cat, rocket"):
        server.without_key(["cat"], CIPHER)


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch):
    import timm_encmixer.web as web

    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(vars(web), "make_app", raising=False)  # where it stays once it has been named
    with pytest.raises(MissingExtraError, match=r'app: expected the package gradio, got none.*pip install "\.\[web\]"'):
        _ = web.make_app


def test_an_address_that_cannot_be_had_is_one_error():
    with listen(port=0) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(
            AddressError, match=f"^127.0.0.1:{number}: expected an address of this machine that is free, got .*in use"
        ):
            listen(port=number)
    with pytest.raises(AddressError, match=r"give another host or port .--host, --port."):
        listen("192.0.2.1", 0)  # nobody's
    with pytest.raises(AddressError):
        listen(port=70_000)


def classify(ciphertext: str, cipher: str, any_key: bool = False) -> None: ...


def attack(collected: list[str]) -> None: ...


class Queue:
    """As much of Gradio's as is looked at."""

    def __init__(self, **sessions):
        self.pending_event_ids_session = {session: set(calls) for session, calls in sessions.items()}
        self.pending_messages_per_session = {session: asyncio.Queue() for session in sessions}
        self.cleaned = []

    async def clean_events(self, session_hash):
        self.cleaned.append(session_hash)

    def answer(self, session, text):
        message = types.SimpleNamespace(output={"data": [{"image": text}]})
        self.pending_messages_per_session.setdefault(session, asyncio.Queue()).put_nowait(message)


def guarded(answer, queue=None, allowed=("testserver",)):
    from starlette.testclient import TestClient

    calls = {4: Call("classify", classify), 7: Call("attack", attack)}
    answers = Answers(queue or Queue(x=["0a1b"], y=[]))
    return TestClient(Guard(answer, own=["/", "/demo.key"], calls=calls, answers=answers, hosts=Hosts(allowed)))


async def echo(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-frame-options", b"DENY")]})
    await send({"type": "http.response.body", "body": body})


def test_the_guard_lets_through_what_the_page_needs_and_nothing_else():
    client = guarded(echo)
    for path in (
        "",
        "demo.key",
        "config",
        "gradio_api/info",
        "gradio_api/call/classify/0a1b",
        "gradio_api/queue/data?session_hash=x",
    ):
        assert client.get(f"/{path}").status_code == 200, path
    assert "default-src 'none'" in client.get("/").headers["content-security-policy"]
    for path in (
        "upload",
        "file=/etc/passwd",
        "proxy=http://127.0.0.1",
        "call/other/0a1b",
        "call/v2/classify/0a1b",
        "stream/0a1b",
        "vibe-edit",
        "deep_link",
    ):
        assert client.get(f"/gradio_api/{path}").status_code == 404, path
    for path in ("/assets/index.js", "/theme.css", "/demo.keys", "/%2e%2e/demo.key", "/monitoring", "/docs"):
        assert client.get(path).status_code == 404, path
    for path in ("run/classify", "api/classify", "call/v2/classify", "run/attack", "api/attack", "call/classify/0a1b"):
        assert client.post(f"/gradio_api/{path}", json={"data": ["SENT", "negpos"]}).status_code == 404, path
    assert client.put("/gradio_api/call/classify", json={}).status_code == 404
    assert client.get("/gradio_api/call/classify").status_code == 404

    call, join = "/gradio_api/call/classify", "/gradio_api/queue/join"
    whole = ["SENT", "negpos", False]
    for arguments in (whole, whole[:2]):  # what may be left out is filled in; what names another call does not go on
        sent = {"data": arguments, "event_data": {}, "fn_index": 7, "session_hash": "x", "trigger_id": 3}
        assert client.post(call, json=sent).json() == {"data": whole}
    joined = {"fn_index": 7, "session_hash": "x", "data": [["SENT"]]}
    assert client.post(join, json={**joined, "event_data": {"path": "SENT"}}).json() == joined
    names = r"^classify: expected the arguments ciphertext \(a text\), cipher \(a text\), any_key \(true or false\), got "
    file = {"path": "SENT"}
    for path, sent, message in (
        (call, {}, names + "no list of them"),
        (call, {"data": file}, names + "no list of them"),
        (call, {"data": "SENT"}, names + "no list of them"),
        (call, {"data": ["SENT"]}, names + "1;"),
        (call, {"data": ["SENT", "negpos", False, 3]}, names + "4;"),
        (call, {"data": ["SENT", "negpos", 1]}, names + "another value for any_key"),
        (call, {"data": [file, "negpos"]}, names + "another value for ciphertext"),
        (call, {"data": ["SENT", ["negpos"]]}, names + "another value for cipher"),
        (
            join,
            {"data": [[file]], "fn_index": 7, "session_hash": "x"},
            r"^attack: expected the arguments collected \(a list of texts\), got another",
        ),
        (join, {"data": [[]], "fn_index": 1, "session_hash": "x"}, "^fn_index: expected one of 4, 7"),
        (join, {"data": [[]], "fn_index": True, "session_hash": "x"}, "^fn_index: expected one of 4, 7"),
        (join, {"data": [[]], "session_hash": "x"}, "^fn_index: expected one of 4, 7"),
        (join, {"data": [[]], "fn_index": 7, "session_hash": file}, "^session_hash: expected a text"),
        ("/gradio_api/cancel", {"session_hash": file}, "^request: expected texts and numbers"),
    ):
        answered = client.post(path, json=sent)
        assert answered.status_code == 422, sent
        assert re.search(message, answered.json()["error"]), answered.text
        assert "SENT" not in answered.text
    for body in (b"[]", b"not JSON", b"[" * 99_999):
        assert client.post(call, content=body).status_code == 422
    for path in ("call/classify/nope", "queue/data?session_hash=nope", "queue/data?session_hash=y", "queue/data"):
        refused = client.get(f"/gradio_api/{path}")
        assert (refused.status_code, refused.json()["error"][:6]) == (404, "event:"), path
    assert client.post(call, content=iter([bytes(2**20)] * (MOST_BYTES // 2**20 + 1))).status_code == 413


def test_a_call_checks_its_arguments_itself_whoever_calls():
    ran = []

    def take(text: str, names: list[str], flag: bool = False) -> str:
        ran.append(text)
        return text

    call = Call("take", take)
    assert call("a", ["b"]) == "a"
    for given in ((), ("a",), ("a", "b"), ({"path": "x"}, []), ("a", [{}]), ("a", [], 1), ("a", [], False, None)):
        with pytest.raises(ArgumentError, match=r"^take: expected the arguments"):
            call(*given)
    assert ran == ["a"]


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:7860", True),
        ("[::1]:7860", True),
        ("192.168.0.7", True),
        ("localhost:7860", True),
        ("page.localhost", True),
        ("GPU7.example.org:80", True),
        ("evil.example", False),
        ("evil.example:7860", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("gpu7.example.org.evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_only_known_hosts_are_answered(host, known):
    client = guarded(echo, allowed=["gpu7.example.org"])
    for path in ("/", "/demo.key", "/gradio_api/info"):
        answer = client.get(path, headers={"host": host})
        assert (answer.status_code == 200) is known
    if not known:
        assert answer.status_code == 421
        assert "--allow-host NAME" in answer.json()["error"]
        assert client.post("/gradio_api/call/classify", json={"data": ["a", "b"]}, headers={"host": host}).status_code == 421
    assert guarded(echo, allowed=["*"]).get("/", headers={"host": host}).status_code == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio", "ignore::DeprecationWarning:starlette")
@pytest.mark.parametrize("how", ["mounted", "root_path"])
def test_below_a_path_the_page_and_its_calls_work(how):
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    from timm_encmixer.web.app import _add_route, _guarded

    def double(text: str) -> str:
        return text * 2

    page = FastAPI()
    _add_route(page, "/", b"page", "text/html")
    _guarded(page, ["/"], {"double": double}, Hosts(["testserver"]))
    outer = Starlette(routes=[Mount("/below/here", page)])
    client = TestClient(outer if how == "mounted" else page, root_path="" if how == "mounted" else "/below/here")
    prefix = "/below/here" if how == "mounted" else ""  # which a proxy has taken away
    with client:
        assert client.get(f"{prefix}/").text == "page"
        if how == "mounted":
            assert client.get(prefix, follow_redirects=False).headers["location"].endswith("/below/here/")
        assert client.get(f"{prefix}/config").json()["dependencies"]
        event = client.post(f"{prefix}/gradio_api/call/double", json={"data": ["ab"]}).json()["event_id"]
        assert '["abab"]' in client.get(f"{prefix}/gradio_api/call/double/{event}").text
        assert client.get(f"{prefix}/gradio_api/upload").status_code == 404


def test_an_error_with_a_request_in_its_text_is_neither_told_nor_logged(caplog):
    async def fail(scope, receive, send):
        raise ValueError((await receive())["body"])

    client = guarded(fail)
    with caplog.at_level(logging.DEBUG):
        answer = client.post("/gradio_api/call/classify", json={"data": ["SENT", "negpos"]})
    assert (answer.status_code, "SENT" in answer.text) == (500, False)
    assert re.search("a request failed: ValueError at .*test_app_server.py:[0-9]+", caplog.text)
    assert "SENT" not in caplog.text


def test_answers_that_nobody_fetches_are_bounded_in_number_bytes_and_time():
    async def story():
        queue = Queue(**{name: ["1"] for name in "abc"})
        answers = Answers(queue, most_bytes=10_000, seconds=3600)
        for name in "abc":
            queue.answer(name, "x" * 4_000)
            await answers.sweep(name)
        assert list(queue.pending_messages_per_session) == ["b", "c"]  # the oldest has gone
        assert "a" not in queue.pending_event_ids_session
        assert queue.cleaned == ["a"]
        with answers.listening("b"):
            queue.answer("c", "x" * 4_000)
            await answers.sweep()
        assert list(queue.pending_messages_per_session) == ["b"]  # somebody listens to it
        waiting = Answers(Queue(old=["1"], heard=["2"]), seconds=0.05)
        with waiting.listening("heard"):
            await waiting.sweep()
            await asyncio.sleep(0.5)  # it wakes by itself
            assert list(waiting._queue.pending_messages_per_session) == ["heard"]
        await asyncio.sleep(0.5)
        assert not waiting._queue.pending_messages_per_session

    asyncio.run(story())
    queue = Queue(x=map(str, range(MOST_UNFETCHED)), y=["z"])
    client = guarded(echo, queue)
    joined = {"fn_index": 7, "data": [[]]}
    refused = client.post("/gradio_api/queue/join", json={**joined, "session_hash": "x"})
    assert (refused.status_code, "fetch them" in refused.text) == (429, True)
    assert client.post("/gradio_api/queue/join", json={**joined, "session_hash": "y"}).status_code == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")
def test_more_calls_than_wait_are_refused_and_what_fails_says_no_secrets(caplog, capfd):
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from timm_encmixer.web.app import _WAITING, _guarded

    go_on = threading.Event()

    def attack(text: str) -> str:
        assert go_on.wait(60)
        raise ZeroDivisionError(text)

    def quick(text: str) -> str:
        return text

    app = FastAPI()
    _guarded(app, [], {"attack": attack, "quick": quick}, Hosts(["testserver"]))
    with TestClient(app) as client:
        calls = [client.post("/gradio_api/call/attack", json={"data": ["secret"]}) for _ in range(_WAITING + 5)]
        assert {call.status_code for call in calls[:_WAITING]} == {200}
        assert calls[-1].status_code == 503
        go_on.set()
        answer = client.get(f"/gradio_api/call/attack/{calls[0].json()['event_id']}").text
        assert "event: error" in answer
        assert "server: the call failed" in answer
        said = [answer]
        for path in ("call/quick", "queue/join", "run/quick", "api/quick", "call/v2/quick"):  # Gradio ran the call of fn_index
            for number in (0, 1, 2):
                sent = {"data": ["secret"], "fn_index": number, "session_hash": "s"}
                said.append(client.post(f"/gradio_api/{path}", json=sent).text)
        assert "secret" not in "".join(said) + caplog.text + "".join(capfd.readouterr())
    assert "a call failed: ZeroDivisionError at" in caplog.text


def test_what_gradio_prints_of_a_failure_is_its_place(caplog, capfd):
    import gradio
    import gradio.queueing

    from timm_encmixer.web.quiet import keep_quiet

    keep_quiet(gradio)
    try:
        raise KeyError("secret")
    except KeyError:
        gradio.queueing.traceback.print_exc()
    assert re.search("a call failed: KeyError at .*test_app_server.py", caplog.text)
    assert "secret" not in caplog.text + "".join(capfd.readouterr())


def test_the_space_is_complete():
    space = ROOT / "examples" / "space"
    _, front, _ = (space / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert (told["sdk"], told["app_file"]) == ("gradio", "app.py")
    assert len(ast.parse((space / told["app_file"]).read_text()).body) == 3
    assert f"timm_encmixer-{te.__version__}-py3-none-any.whl[web]" in (space / "requirements.txt").read_text()
