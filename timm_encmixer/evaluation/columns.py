"""Rows of cells laid out in columns: how every result of the package is printed as text."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], *, left: int = 1, indent: str = "") -> list[str]:
    """Return one line for each row.

    Args:
        rows: Cells, as many in each row; the first row may be a heading.
        left: How many of the first columns are aligned to the left; the others, mostly numbers, are aligned to the right.
        indent: Before each line.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines
