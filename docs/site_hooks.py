"""The site's own steps: README is the first page, examples are pages, and links out of docs/ lead to them.

On GitHub the documents link to files of the repository (`../examples/client.py`). The site has no such files. So each
gets a page, and the links are changed. mkdocs then checks them like all others.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
FRONT = "<!-- site: front -->"  # mkdocs.yml says what stands there
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def examples() -> list[Path]:
    """Return the scripts that have pages."""
    return sorted(script for pattern in ("*.py", "serving/*.py") for script in (ROOT / "examples").glob(pattern))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README, CONTRIBUTING and the like, and the examples to the pages."""
    added = {"index.md": (ROOT / "README.md").read_text().replace(FRONT, config.extra["front"])}
    added |= {f"repository/{name}": (ROOT / name).read_text() for name in PAGES}
    for script in examples():
        source = script.read_text()
        words = ast.get_docstring(ast.parse(source))
        code = source[source.index('"""', 3) + 3 :].lstrip()
        added[_on_site(str(script.relative_to(ROOT)))] = f"# {script.name}\n\n{words}\n\n```python\n{code}```\n"
    for path, text in added.items():
        files.append(File.generated(config, path, content=_with_links(text, path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Change the links of a page that is a file of docs/, and say where it stands among the results of a search."""
    page.meta["search"] = {"boost": _boost(page.file.src_uri)}
    return markdown if page.file.generated_by else _with_links(markdown, page.file.src_uri)


def _boost(page: str) -> float:
    """Return how much a page counts in a search: guides before the API, the API before decisions and the repository's pages."""
    folder = page.partition("/")[0] if "/" in page else ""
    return {"": 4.0, "api": 0.5}.get(folder, 0.25)


def _with_links(text: str, page: str) -> str:
    """Return a page's text with links to pages of the site; `page` is its path below docs/."""
    source = {"index.md": "README.md"}.get(page) or (
        page.removeprefix("repository/") if "repository/" in page else f"docs/{page}"
    )

    def changed(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        return f"{match[1]}{posixpath.relpath(_on_site(path), posixpath.dirname(page) or '.')}{match[3]}"

    if page.startswith("examples/"):
        return text
    return "".join(part if FENCE.match(part) else LINK.sub(changed, part) for part in FENCE.split(text))


def _on_site(path: str) -> str:
    """Where a file of the repository is on the site, as a path below docs/."""
    if path == "README.md":
        return "index.md"
    if path in PAGES:
        return f"repository/{path}"
    if path.startswith("examples/"):
        return f"{path.removesuffix('.py')}.md"
    return path.removeprefix("docs/")
