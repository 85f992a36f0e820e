"""README and docs are run: every Python and bash fence that no comment excludes, page after page, and each page by itself."""

from __future__ import annotations

import ast
import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import check_site
import documents
import processes
import pytest
from conftest import ROOT
from PIL import Image

README = ROOT / "README.md"
IN_ORDER = [ROOT / "docs" / name for name in re.findall(r"\b([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)]
PAGES = [page for page in IN_ORDER if page.name != "index.md" and documents.runnable(page)]


def lay_photos(folder: Path, photos: list[Image.Image]) -> None:
    """A folder of photos and one photo, as the README asks for."""
    (folder / "photos").mkdir()
    for index, photo in enumerate(photos[:4]):
        photo.resize((50, 40)).save(folder / "photos" / f"{index}.jpg")
    photos[0].save(folder / "photo.jpg")


def run(blocks: list[documents.Block], folder: Path) -> None:
    """Blocks share one folder; the Python ones share one process."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": processes.path_of_commands(folder)}
    result = processes.run(["-c", documents.program(blocks)], env=environment, cwd=folder, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="session")
def after_readme(tmp_path_factory: pytest.TempPathFactory, photos: list[Image.Image]) -> Path:
    """A folder in which the README was followed; to be copied. The first worker that asks makes it, for all."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, done = root / "readme", root / "readme.done"
    with (root / "readme.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            lay_photos(folder, photos)
            run(documents.runnable(README), folder)
            done.touch()
    return folder


@pytest.mark.nightly(
    but=(
        "start.md",
        "client.md",
    )
)
@pytest.mark.nightly(
    but=(
        "start.md",
        "owner.md",
        "client.md",
    )
)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_can_be_followed_after_the_readme(page, after_readme, tmp_path):
    """The README's Python blocks run once more, since a page goes on in their process; what its commands made is copied."""
    shutil.copytree(after_readme, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("bin"))
    names = [block for block in documents.runnable(README) if block.language == "python"]
    run([*names, *documents.runnable(page)], tmp_path)


@pytest.mark.nightly  # each page by itself is tried on every push
def test_all_pages_can_be_followed_one_after_the_other(tmp_path, photos):
    lay_photos(tmp_path, photos)
    run([block for page in (README, *PAGES) for block in documents.runnable(page)], tmp_path)


def test_the_navigation_has_every_page():
    assert {page.resolve() for page in IN_ORDER} - {ROOT / "docs" / "index.md"} == set((ROOT / "docs").rglob("*.md"))


def test_the_installed_command_is_what_the_documents_ran():
    installed, module = [Path(sys.executable).parent / "encmixer"], [sys.executable, "-m", "timm_encmixer"]
    helps = [
        subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout.partition("\n")
        for words in (installed, module)
    ]
    assert helps[0][2] == helps[1][2]
    assert "dataset" in helps[0][2]


def test_the_readme_is_short_and_shows_a_picture_and_both_languages():
    text = README.read_text()
    assert len(text.split()) <= 700
    assert text.count("![") == 1
    assert {block.language for block in documents.runnable(README)} == {"python", "bash"}
    for extra in ("data", "audit", "seal", "test", "dev", "docs"):
        assert re.search(rf"`{extra}`|\[{extra}\]", text), extra


def test_the_readme_opens_with_the_two_commands_that_ci_runs():
    demo, tests = documents.blocks(README)[:2]
    ci = (ROOT / ".ci" / "run").read_text()
    for step in (step for line in (*demo.code.splitlines(), *tests.code.splitlines()) for step in line.split(" && ")):
        assert step in ci, step
    assert demo.reason == tests.reason == ".ci/run runs it"
    assert "encmixer demo" in demo.code
    assert "pytest" in tests.code


def test_no_install_command_names_a_package_that_is_not_released():
    for document in [README, *IN_ORDER[1:]]:
        assert not re.search(r"pip install [\"']?timm-encmixer", document.read_text()), document


def test_links_between_documents_lead_somewhere():
    for document in [README, *IN_ORDER, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]:
        if document.exists():  # the site's index.md is the README
            for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", documents.prose(document)):
                if not target.startswith("http"):
                    assert (document.parent / target).exists(), f"{document}: {target}"


def test_pictures_are_small():
    pictures = [path for path in (ROOT / "docs" / "pictures").iterdir() if path.is_file()]
    assert len(pictures) >= 8
    for picture in pictures:
        assert picture.stat().st_size < 300_000, picture


def test_the_check_of_the_site_finds_what_it_looks_for(tmp_path):
    """On pages that show a heading too few, a fence as prose, a dead link, a dead anchor and a script from elsewhere."""
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        relative = Path("index.html") if document == README else document.relative_to(ROOT / "docs").with_suffix(".html")
        headings, fences = check_site.outline(document.read_text())
        page = tmp_path / relative
        page.parent.mkdir(parents=True, exist_ok=True)
        body = "".join(f"<h2>{heading}</h2>" for heading in headings) + '<div class="highlight"></div>' * fences
        page.write_text(f"<article>{body}</article>")
    good = {path: check_site.Page(path.read_text()) for path in tmp_path.rglob("*.html")}
    assert list(check_site.faults_of_rendering(tmp_path, good)) == []
    assert list(check_site.faults_of_links(tmp_path, good)) == []
    assert list(check_site.faults_of_loading(tmp_path, good)) == []

    hub = tmp_path / "hub.html"
    hub.write_text(hub.read_text().replace("<h2>Sealing</h2>", "").replace('<div class="highlight"></div>', "", 1))
    (tmp_path / "cli.html").write_text(
        '<a href="none.html"></a><a href="hub.html#none"></a><script src="https://example.org/x.js"></script>'
        '<img srcset="//example.org/a.png 2x"><p style="background: url(https://example.org/b.png)" class="mermaid"></p>'
        '<link rel="preload" href="https://example.org/f"><style>@import "https://example.org/c.css";</style>'
        '<script>fetch("https://example.org/d")</script><a href="https://example.org"></a><link rel="next" href="https://e.org">'
    )
    (tmp_path / "x.css").write_text("b { background: url('https://example.org/e.png') } i { background: url(data:,) }")
    (tmp_path / "x.js").write_text(
        'import("https://example.org/f.js"); load("https://unpkg.com/mermaid@11/m.js"); // https://z'
    )
    bad = {path: check_site.Page(path.read_text()) for path in tmp_path.rglob("*.html")}
    rendering = [fault for fault in check_site.faults_of_rendering(tmp_path, bad) if fault.startswith("docs/hub.md")]
    assert [fault.partition(" ")[2].split()[-3:] for fault in rendering][1] == ["blocks", "of", "code"]
    assert len(rendering) == 2
    assert list(check_site.faults_of_links(tmp_path, bad)) == [
        "cli.html: none.html leads nowhere",
        "cli.html: hub.html#none has no such anchor",
    ]
    here = ("x.js", "a.png", "b.png", "f", "c.css", "d")
    assert [fault.rpartition("/")[2] for fault in check_site.faults_of_loading(tmp_path, bad)][: len(here)] == list(here)
    assert list(check_site.faults_of_loading(tmp_path, bad))[len(here) :] == [
        "x.css: loads https://example.org/e.png",
        "x.js: loads https://example.org/f.js",
        "x.js: loads https://unpkg.com/mermaid@11/m.js, for a page that has mermaid",
    ]
    assert "docs/api: timm_encmixer.images.create_transform is public and not documented" in list(
        check_site.faults_of_api(tmp_path, bad)
    )


def test_every_example_says_at_its_start_what_it_needs():
    for script in (script for pattern in ("*.py", "serving/*.py") for script in (ROOT / "examples").glob(pattern)):
        words = ast.get_docstring(ast.parse(script.read_text()))
        assert re.search(r"\bneeds? (the extra|no extra|scikit-learn|(litserve and )?timm only)", words, re.IGNORECASE), script
        name = script.relative_to(ROOT / "examples")
        assert f"[{name}](../examples/{name})" in (ROOT / "docs" / "examples.md").read_text()


@pytest.mark.nightly
def test_the_example_trains_on_an_encrypted_data_set(encrypted_folder, key_file, photos, tmp_path):
    for index, photo in enumerate(photos[:40]):
        path = tmp_path / "labelled" / "train" / "abcdefghij"[index % 10] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.save(path)
    encrypted = ["dataset", "encrypt", "labelled", "ciphertext", "--key", key_file, "--model", encrypted_folder]
    script = ROOT / "examples" / "train_on_dataset.py"
    trained = ["--data", "ciphertext", "--model", encrypted_folder, "--out", "trained"]
    for words in (["-m", "timm_encmixer", *encrypted], [script, *trained]):
        result = processes.run([str(word) for word in words], env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert "epoch 1: mean loss" in result.stdout
    assert (tmp_path / "trained" / "model.safetensors").exists()
    for data, message in (("labelled", "an encrypted data set with its manifest"), ("none", "a folder that encmixer dataset")):
        words = [script, "--data", data, "--model", encrypted_folder, "--out", "other"]
        result = processes.run([str(word) for word in words], env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=tmp_path)
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
