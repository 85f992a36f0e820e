"""Processor time of the quick audit of the bundled model, and the seconds that each attack takes.

python tests/benchmarks/bench_audit.py
"""

from __future__ import annotations

import time

from timm_encmixer.audit import run


def main() -> None:
    start = time.process_time()
    report = run(progress=False)
    for result in report.results.values():
        print(f"{result.name:<28}{result.verdict:<15}{result.seconds:>7.1f} s")
    print(f"{'processor time of all':<43}{time.process_time() - start:>7.1f} s")


if __name__ == "__main__":
    main()
