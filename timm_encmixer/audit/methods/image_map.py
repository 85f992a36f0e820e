"""Maps of whole images, as anybody with pairs finds them: where each number went, what became of its values, or a matrix.

Images are uint8 numbers (N, D) here, and ciphertexts numbers of 0 to 255, D = C H W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 256
_LONGEST_MATRIX = 4096  # numbers of an image up to which a matrix is afforded


@dataclass(frozen=True)
class Places:
    """Each plain number is found at one place of ciphertext, under a table of its own.

    Args:
        source: Place of ciphertext for each plain number, int64, shape (D,).
        tables: Plain value by the code found there, uint8, shape (D, 256).
    """

    source: Tensor
    tables: Tensor

    def invert(self, codes: Tensor) -> Tensor:
        """Return plain numbers (N, D) of codes (N, D), int64."""
        met = codes[:, self.source]
        return torch.gather(self.tables.expand(len(met), -1, -1), 2, met[..., None]).squeeze(-1)


def places_from_oracle(ask: Callable[[Tensor], Tensor], size: int) -> Places | None:
    """Find a map of places by images of one's choice; None where it is no such map.

    Each number's position is written in binary digits, black and white, a digit an image. So the images in which a place of
    ciphertext differs from that of the black image spell where it came from. Then an image of each grey value fills the tables.

    Args:
        ask: Takes uint8 images (N, D), returns codes (N, D), int64.
        size: D.
    """
    position = torch.arange(1, size + 1)  # from 1 on: a place that never changes is no position
    digits = size.bit_length()
    asked = torch.stack([(position >> digit & 1).to(torch.uint8) * (LEVELS - 1) for digit in range(digits)])
    seen = ask(torch.cat([torch.zeros(1, size, dtype=torch.uint8), asked]))
    spelt = ((seen[1:] != seen[:1]).long() << torch.arange(digits)[:, None]).sum(dim=0) - 1
    if not torch.equal(spelt.sort().values, torch.arange(size)):
        return None
    source = spelt.argsort()
    tables = torch.zeros(size, LEVELS, dtype=torch.uint8)
    rows = torch.arange(size)
    for value in range(LEVELS):
        tables[rows, ask(torch.full((1, size), value, dtype=torch.uint8))[0, source]] = value
    return Places(source, tables)


def places_from_pairs(plain: Tensor, codes: Tensor) -> Places | None:
    """Find a map of places from known pairs: a permutation under a keystream that is added (modulo 256) or XORed.

    What a keystream adds is the same in all pairs. So the differences from the first pair are those of the plain number itself:
    equal rows of differences belong together.

    Args:
        plain: uint8 numbers (N, D).
        codes: int64, shape (N, D).

    Returns:
        None where fewer than half of the numbers find a place.
    """
    values = torch.arange(LEVELS)
    for combine in (torch.bitwise_xor, lambda a, b: (a - b) % LEVELS):
        known, met = plain.long(), codes
        rows = {row: index for index, row in reversed(list(enumerate(_rows(combine(met, met[:1])))))}
        found = [rows.get(row) for row in _rows(combine(known, known[:1]))]
        if sum(place is not None for place in found) * 2 < len(found):
            continue
        source = torch.tensor([index if place is None else place for index, place in enumerate(found)])
        key = combine(met[0, source], known[0])
        tables = combine(values.expand(len(source), -1), key[:, None]).to(torch.uint8)
        return Places(source, tables)
    return None


def _rows(differences: Tensor) -> list[bytes]:
    """Return what each number did over all pairs."""
    return [bytes(row) for row in differences.T.contiguous().to(torch.uint8).numpy()]


@dataclass(frozen=True)
class Matrix:
    """An affine map: plain = matrix @ ciphertext + offset, of numbers in [0, 1]."""

    matrix: Tensor
    offset: Tensor

    def invert(self, numbers: Tensor) -> Tensor:
        """Return plain numbers (N, D) of ciphertext (N, E)."""
        return numbers.double() @ self.matrix.T + self.offset


def affords_matrix(size: int) -> bool:
    """Whether a matrix of so many rows is worth its memory and time."""
    return size <= _LONGEST_MATRIX


def matrix_from_oracle(ask: Callable[[Tensor], Tensor], size: int) -> Matrix:
    """Find an affine map by a basis of images of one's choice.

    Args:
        ask: Takes uint8 images (N, D), returns numbers (N, E).
        size: D.
    """
    black = ask(torch.zeros(1, size, dtype=torch.uint8)).double()
    answers = torch.cat([ask(torch.eye(size, dtype=torch.uint8)[start : start + 512] * 255) for start in range(0, size, 512)])
    inverse = torch.linalg.pinv((answers.double() - black).T)
    return Matrix(inverse, -(inverse @ black[0]))


def matrix_from_pairs(plain: Tensor, seen: Tensor) -> Matrix:
    """Find an affine map that fits known pairs best: least squares, of the smallest matrix where there are few pairs.

    Args:
        plain: Numbers in [0, 1], shape (N, D).
        seen: Numbers, shape (N, E).
    """
    means = plain.double().mean(dim=0), seen.double().mean(dim=0)
    fitted = torch.linalg.lstsq(seen.double() - means[1], plain.double() - means[0], driver="gelsd").solution.T
    return Matrix(fitted, means[0] - fitted @ means[1])
