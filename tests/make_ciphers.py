"""Write what follows from the table of ciphers: the JavaScript client's copy, and the tables in the documents (`make ciphers`).

tests/test_scheme.py writes them again and compares.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from timm_encmixer.scheme import CIPHERS, DEFAULT_CIPHER, PARTS, CipherFacts, Part, facts_of

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / "timm_encmixer" / "web" / "client" / "src" / "ciphers.json"
PAGES = [ROOT / "docs" / "families.md", ROOT / "docs" / "format.md"]


def client() -> str:
    """Return the table as JSON, one part and one cipher a line."""
    parts = {name: {"moves": part.moves, "inverts": part.inverts} for name, part in PARTS.items()}
    ciphers = {name: facts(facts_of(name)) for name in CIPHERS}
    rows = {"parts": parts, "ciphers": ciphers}
    texts = [f'"default": {json.dumps(DEFAULT_CIPHER)}', *(f'"{name}": {_lines(table)}' for name, table in rows.items())]
    return "{\n" + ",\n".join(texts) + "\n}\n"


def facts(cipher: CipherFacts) -> dict[str, object]:
    names = ("scrambles", "exact", "takes_jpeg", "side_multiple", "keeps_normalisation", "since")
    return {"parts": [part.name for part in cipher.parts], **{name: getattr(cipher, name) for name in names}}


def parts_table() -> str:
    """Return the table of parts for people."""
    rows = [
        "| part | what it does | ciphertext | sides of blocks | colours | mean of a block | record |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*rows, *map(_row, PARTS.values())])


def names() -> str:
    """Return all ciphers in a sentence."""
    return f"The ciphers are {', '.join(f'`{name}`' for name in CIPHERS[:-1])} and `{CIPHERS[-1]}`."


TABLES = {"parts of ciphers": parts_table, "names of ciphers": names}


def written(page: str) -> str:
    """Return a page with its tables made again: what stands between two marks."""
    for name, make in TABLES.items():
        begin, end = f"<!-- made by `make ciphers`: {name} -->\n\n", f"\n\n<!-- end of {name} -->"
        page = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, b=begin, e=end, m=make: b + m() + e, page, flags=re.S)
    return page


def main() -> None:
    """Write all of it."""
    CLIENT.write_text(client(), encoding="utf-8")
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


def _row(part: Part) -> str:
    ciphertext = "uint8, exact" if part.exact else "float tensors only"
    ciphertext += "; may travel as JPEG" if part.takes_jpeg else "; of one size" if part.moves == "blocks" else ""
    sides = "2 to 32 px" if part.side_multiple == 1 else f"multiples of {part.side_multiple} px, to 32"
    cells = (
        f"`{part.name}`",
        part.words,
        ciphertext,
        sides,
        "mixed" if part.mixes_channels else "each stays by itself",
        "stays" if part.exact and not part.inverts else "changes",
        f"from version {part.since}",
    )
    return f"| {' | '.join(cells)} |"


def _lines(table: dict[str, dict[str, object]]) -> str:
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items()) + "\n}"


if __name__ == "__main__":
    main()
