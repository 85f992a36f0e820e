"""Processor time of the quick audit of the bundled model, attack by attack.

python tests/benchmarks/bench_audit.py
"""

from __future__ import annotations

import time

from timm_encmixer.audit import ATTACKS, run


def main() -> None:
    whole = 0.0
    for name in ATTACKS:
        start = time.process_time()
        verdict = run(attacks=[name], progress=False).results[name].verdict
        seconds = time.process_time() - start
        whole += seconds
        print(f"{name:<28}{verdict:<15}{seconds:>7.1f} s", flush=True)
    print(f"{'all, each prepared by itself':<43}{whole:>7.1f} s")


if __name__ == "__main__":
    main()
