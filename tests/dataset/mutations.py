"""Change manifests, jobs, journals and lists at random, and read them: only errors of the package may come out.

Run: python tests/dataset/mutations.py --count 20000 --seed 1 --finished DATA_SET --begun UNFINISHED_DATA_SET --out FOLDER
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

from timm_encmixer.datasets import describe_dataset
from timm_encmixer.datasets.inspection import manifest_in
from timm_encmixer.datasets.layout import differences, read_layout
from timm_encmixer.datasets.ledger import Ledger
from timm_encmixer.datasets.sources import LocalFolder
from timm_encmixer.errors import EncMixerError

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**63, 10**400, 1e308, -0.5, "", "x", "\0", "../x", "/etc/passwd", "é" * 300),
    *([], [[]], [None], [0], {}, {"x": 1}, {"": None}, "0" * 64, "a#00000000", ["a", 1], [["a", "b", 1]]),
]
DEEP = "[" * 100_000


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values of a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, item in inner for place in places(item, (*path, name)))]


def mutated(text: str, chance: random.Random) -> str:
    """A document with one or two changes: values, fields, or bytes of its text."""
    if chance.random() < 0.2:
        at = chance.randrange(len(text))
        return chance.choice((text[:at], text[:at] + chance.choice('{}[]",:0\\\ud800é') + text[at + 1 :], text[:at] + DEEP))
    value = json.loads(text)
    for _ in range(chance.choice((1, 1, 2))):
        path = chance.choice(places(value))
        if not path:
            value = copy.deepcopy(chance.choice(ODD)) if chance.random() < 0.2 else value
            continue
        parent = value
        for name in path[:-1]:
            parent = parent[name]
        kind = chance.randrange(3)
        if kind == 0:
            parent[path[-1]] = copy.deepcopy(chance.choice(ODD))
        elif kind == 1:
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[chance.choice(("x", "samples", "is_run", "totals"))] = copy.deepcopy(chance.choice(ODD))
        else:
            parent.append(copy.deepcopy(chance.choice(ODD)))
    return json.dumps(value)


def read_all(root: Path) -> None:
    """Everything that is done with the books of a data set but the work itself."""
    source, ledger = LocalFolder(root), Ledger(root)
    describe_dataset(str(root))
    ledger.known(), ledger.job(), ledger.done(), ledger.origin()
    if (root / ".encmixer" / "manifest.json").exists():
        manifest = manifest_in(source)
        list(ledger.made_from(manifest))
        differences(manifest, read_layout(source)), ledger.written(manifest)
    else:
        ledger.keep(lambda entry, made_from: True)


def run(count: int, seed: int, folders: list[Path], out: Path) -> dict[str, float]:
    """Mutate and read; returns how many were refused, and the longest reading in seconds."""
    chance = random.Random(seed)
    refused, longest = 0, 0.0
    victims = [Path(shutil.copytree(folder, out / folder.name)) for folder in folders]
    books = {victim: [path for path in (victim / ".encmixer").rglob("*.json*") if path.stat().st_size] for victim in victims}
    for number in range(count):
        victim = victims[number % len(victims)]
        path = chance.choice(books[victim])
        whole = path.read_text()
        lines = whole.splitlines() if path.suffix == ".jsonl" else [whole]
        line = chance.randrange(len(lines))
        lines[line] = mutated(lines[line], chance)
        path.write_text("\n".join(lines), errors="surrogatepass")
        begin = time.monotonic()
        try:
            read_all(victim)
        except EncMixerError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"mutation {number} of {path.name}: {lines[line][:3000]!r}") from error
        longest = max(longest, time.monotonic() - begin)
        path.write_text(whole)
        if number % 50 == 0:  # what a run forgets of a journal that it does not believe
            shutil.rmtree(victim)
            shutil.copytree(folders[victims.index(victim)], victim)
        else:
            for name in books[victim]:
                if not name.exists():
                    shutil.copy2(folders[victims.index(victim)] / name.relative_to(victim), name)
    return {"mutations": count, "refused": refused, "longest_seconds": longest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("finished", "begun", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    print(json.dumps(run(args.count, args.seed, [args.finished, args.begun], args.out)))


if __name__ == "__main__":
    main()
