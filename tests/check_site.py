"""Build the site and check what `mkdocs build --strict` does not: `make docs`, and part of `make check`.

- The headings of a document are the headings of its page, and each fence is a block of code: no prose became code. A CommonMark
  reader, which GitHub's is, finds the same headings and fences.
- Links, pictures and anchors of all pages lead somewhere.
- No page, style or script loads anything from the network, so the site works offline, and opened from files.
- The API pages document every public name of the package and of its folders.

    python tests/check_site.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

try:
    from markdown_it import MarkdownIt
except ModuleNotFoundError as error:
    if __name__ == "__main__":
        raise SystemExit(f'make docs needs the extra docs ({error.name} is missing): pip install -e ".[docs]"') from error
    raise

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^( *)```(.*)$")
URL_OF_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""")
URL_OF_SCRIPT = re.compile(r"""["'`](https?://[^"'`]*)""")
LOADING_LINKS = {"stylesheet", "icon", "preconnect", "dns-prefetch", "preload", "modulepreload", "prefetch", "manifest"}
# The theme's script names these; it loads them where a page has the class or component. Every browser since 2020 has the last.
OF_THE_THEME = {
    "https://unpkg.com/mermaid": "mermaid",
    "https://api.github.com/": "source",
    "https://${e}/api/v4/projects/": "source",
    "https://unpkg.com/resize-observer-polyfill": None,
}


class Page(HTMLParser):
    """What of a page is checked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.parts: set[str] = set()  # classes, and components of the theme
        self.headings: list[str] = []
        self.fences = 0
        self._article = 0
        self._heading: list[str] | None = None
        self._hidden = 0
        self._raw: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.parts |= {*values.get("class", "").split(), values.get("data-md-component", "")}
        self.loaded += [values[name] for name in ("src", "poster", "data") if name in values]
        self.loaded += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        self.loaded += URL_OF_STYLE.findall(values.get("style", ""))
        if tag in ("use", "image") or (tag == "link" and LOADING_LINKS & set(values.get("rel", "").split())):
            self.loaded += [values[name] for name in ("href", "xlink:href") if name in values]
        self._raw = tag if tag in ("style", "script") else None
        if tag == "article":
            self._article += 1
        if self._article and re.fullmatch("h[1-6]", tag):
            self._heading = []
        if self._heading is not None and tag == "a" and "headerlink" in values.get("class", ""):
            self._hidden += 1
        if tag == "div" and "highlight" in values.get("class", "").split():
            self.fences += 1

    def handle_endtag(self, tag: str) -> None:
        self._raw = None
        if tag == "article":
            self._article -= 1
        if tag == "a":
            self._hidden = 0
        if self._heading is not None and re.fullmatch("h[1-6]", tag):
            self.headings.append(_words("".join(self._heading)))
            self._heading = None

    def handle_data(self, data: str) -> None:
        if self._raw is not None:
            self.loaded += (URL_OF_STYLE if self._raw == "style" else URL_OF_SCRIPT).findall(data)
        if self._heading is not None and not self._hidden:
            self._heading.append(data)


def _words(text: str) -> str:
    """Return a heading without marks, so that Markdown and HTML can be compared."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"[`*\\]", "", text).split())


def outline(markdown: str) -> tuple[list[str], int]:
    """Return a document's headings outside of fences, and how many fences it has."""
    headings, fences, inside = [], 0, False
    for line in re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL).splitlines():
        if FENCE.match(line):
            inside = not inside
            fences += inside
        elif not inside and (match := re.match(r"#{1,6} (.*)", line)):
            headings.append(_words(match[1]))
    assert not inside, "a fence is not closed"
    return headings, fences


def commonmark(markdown: str) -> tuple[list[str], int]:
    """Return the same as CommonMark has it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    headings = [_words(tokens[index + 1].content) for index, token in enumerate(tokens) if token.type == "heading_open"]
    return headings, sum(token.type == "fence" for token in tokens)


def faults_of_rendering(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    documents = {path.relative_to(ROOT / "docs").with_suffix(".html"): path for path in (ROOT / "docs").rglob("*.md")}
    documents[Path("index.html")] = ROOT / "README.md"
    for relative, document in sorted(documents.items()):
        text, page = document.read_text(), pages[site / relative]
        headings, fences = outline(text)
        if commonmark(text) != (headings, fences):
            yield f"{document.relative_to(ROOT)}: {(headings, fences)}, CommonMark has {commonmark(text)}"
        if "\n::: " in text:  # its other headings come from docstrings
            continue
        if page.headings != headings:
            yield f"{document.relative_to(ROOT)}: headings {headings}, the page shows {page.headings}"
        indented = len(re.findall(r"(?:\A|\n\n)    \S", text))
        if not fences <= page.fences <= fences + indented:
            yield f"{document.relative_to(ROOT)}: {fences} fences, the page shows {page.fences} blocks of code"


def faults_of_loading(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """What pages, styles and scripts would load from elsewhere."""
    for path, page in pages.items():
        yield from (f"{path.relative_to(site)}: loads {url}" for url in page.loaded if _is_elsewhere(url))
    for path in sorted(site.rglob("*.css")):
        found = URL_OF_STYLE.findall(path.read_text())
        yield from (f"{path.relative_to(site)}: loads {url}" for url in found if _is_elsewhere(url))
    for path in sorted(set(site.rglob("*.js")) - {site / "search" / "search_index.js"}):  # the text of the pages
        for url in URL_OF_SCRIPT.findall(path.read_text()):
            known = next((start for start in OF_THE_THEME if url.startswith(start)), None)
            if known is None:
                yield f"{path.relative_to(site)}: loads {url}"
            elif any(OF_THE_THEME[known] in page.parts for page in pages.values()):
                yield f"{path.relative_to(site)}: loads {url}, for a page that has {OF_THE_THEME[known]}"


def _is_elsewhere(url: str) -> bool:
    return urlsplit(url).scheme not in ("", "data") or url.startswith("//")


def faults_of_links(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{path.relative_to(site)}: {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{path.relative_to(site)}: {link} has no such anchor"


def public_names() -> Iterator[str]:
    """Names of the stub files, which are the package's and its folders' public names; a folder's own names stand for it."""
    package = ROOT / "timm_encmixer"
    for stub in sorted(package.rglob("__init__.pyi")):
        folder = ".".join(stub.parent.relative_to(package).parts)
        for statement in ast.parse(stub.read_text()).body:
            if isinstance(statement, ast.ImportFrom) and statement.module is not None:
                for alias in statement.names:
                    yield ".".join(filter(None, ("timm_encmixer", folder, alias.asname or alias.name)))


def faults_of_api(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    documented = {name for path, page in pages.items() if path.parent == site / "api" for name in page.ids}
    table = (ROOT / "docs" / "api" / "index.md").read_text()
    for name in public_names():
        _, _, short = name.partition("timm_encmixer.")
        last = short.rpartition(".")[2]
        if name not in documented and f"timm_encmixer.{last}" not in documented and f"[`{short}`]" not in table:
            yield f"docs/api: {name} is public and not documented"


def build(site: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    if subprocess.run(command, cwd=ROOT, env=environment).returncode:
        raise SystemExit("mkdocs build --strict failed")


def faults(site: Path) -> list[str]:
    pages = {path.resolve(): Page(path.read_text()) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    site = site.resolve()
    checks = (faults_of_rendering, faults_of_loading, faults_of_links, faults_of_api)
    return [fault for check in checks for fault in check(site, pages)]


def main() -> None:
    if importlib.util.find_spec("mkdocs") is None:
        raise SystemExit('make docs needs the extra docs (mkdocs is missing): pip install -e ".[docs]"')
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="keep the site in this folder")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as temporary:
        site = out or Path(temporary) / "site"
        build(site)
        found = faults(site)
        print("\n".join(found) or f"{len(list(site.rglob('*.html')))} pages, no faults")
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
