"""Make the known-answer vectors, independently of the package: from RFC 5869, RFC 8439 and docs/format.md alone.

    python tests/vectors/make_vectors.py > tests/vectors/format-1.json

Before it writes anything it checks itself against the RFCs' own test vectors.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import math
import struct
from collections.abc import Iterator


def hkdf(key: bytes, info: bytes, length: int, salt: bytes = b"") -> bytes:
    pseudo_random_key = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    output, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(pseudo_random_key, block + info + bytes([counter]), hashlib.sha256).digest()
        output += block
    return output[:length]


def quarter_round(s: list[int], a: int, b: int, c: int, d: int) -> None:
    for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & 0xFFFFFFFF
        s[z] ^= s[x]
        s[z] = ((s[z] << turn) | (s[z] >> (32 - turn))) & 0xFFFFFFFF


def chacha20(key: bytes, length: int, counter: int = 0, nonce: bytes = bytes(12)) -> bytes:
    stream = b""
    while len(stream) < length:
        state = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
        work = list(state)
        for _ in range(10):
            for column in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
                quarter_round(work, *column)
            for diagonal in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
                quarter_round(work, *diagonal)
        stream += struct.pack("<16I", *((x + y) & 0xFFFFFFFF for x, y in zip(work, state, strict=True)))
        counter += 1
    return stream[:length]


def words_of(seed: bytes, count: int) -> Iterator[int]:
    return iter(struct.unpack(f"<{count}I", chacha20(seed, 4 * count)))


def below(bound: int, words: Iterator[int]) -> int:
    word = next(words)
    while word >= 2**32 - 2**32 % bound:
        word = next(words)
    return word % bound


def permuted(size: int, words: Iterator[int]) -> list[int]:
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        chosen = below(last + 1, words)
        order[last], order[chosen] = order[chosen], order[last]
    return order


def permutation(seed: bytes, size: int) -> list[int]:
    return permuted(size, words_of(seed, 64 * size))


def etc(seed: bytes, channels: int, patch: int) -> list[list[int]]:
    """For each position of a block the one that it reads, and whether it is negated: [source, 0 or 1]."""
    words, side = words_of(seed, 4096), patch // 8
    result: dict[tuple[int, int, int], tuple[int, int, int, int]] = {}
    for target, origin in enumerate(permuted(side * side, words)):
        turn = below(8, words)
        sign = below(2, words)
        colour = permuted(3, words) if channels == 3 else list(range(channels))
        for channel in range(channels):
            for row in range(8):
                for column in range(8):
                    r, c = (7 - row if turn & 2 else row), (7 - column if turn & 1 else column)
                    if turn & 4:
                        r, c = c, r
                    here = (channel, target // side * 8 + row, target % side * 8 + column)
                    result[here] = (colour[channel], origin // side * 8 + r, origin % side * 8 + c, sign)
    found = [result[place] for place in itertools.product(range(channels), range(patch), range(patch))]
    return [[(channel * patch + row) * patch + column, sign] for channel, row, column, sign in found]


def planes(seed: bytes, channels: int, patch: int) -> list[int]:
    words, plane = words_of(seed, 64 * channels * patch**2), patch**2
    return [channel * plane + position for channel in range(channels) for position in permuted(plane, words)]


def negated(seed: bytes, size: int) -> list[int]:
    return sorted(permutation(seed, size)[: size // 2])


def haar(seed: bytes, size: int) -> list[list[float]]:
    """QR by modified Gram-Schmidt, twice for accuracy; a positive diagonal of R is Gram-Schmidt's own choice."""
    count = size * size + size * size % 2
    words = struct.unpack(f"<{count}Q", chacha20(seed, 8 * count))
    uniform = [((word & (2**53 - 1)) + 0.5) * 2.0**-53 for word in words]
    gaussian = []
    for first, second in zip(uniform[0::2], uniform[1::2], strict=True):
        radius = math.sqrt(-2 * math.log(first))
        gaussian += [radius * math.cos(2 * math.pi * second), radius * math.sin(2 * math.pi * second)]
    columns = [[gaussian[row * size + column] for row in range(size)] for column in range(size)]
    done: list[list[float]] = []
    for column in columns:
        for _ in range(2):
            for other in done:
                dot = math.fsum(x * y for x, y in zip(column, other, strict=True))
                column = [x - dot * y for x, y in zip(column, other, strict=True)]
        length = math.sqrt(math.fsum(x * x for x in column))
        done.append([x / length for x in column])
    return [[done[column][row] for column in range(size)] for row in range(size)]


def parts(key: bytes, cipher: str, channels: int, patch: int, grid: tuple[int, int] | None = None) -> dict[str, object]:
    made: dict[str, object] = {}
    for part in cipher.split("+"):
        info, size = f"timm-encmixer/v1/cipher={cipher}/part={part}/C={channels}/P={patch}", channels * patch**2
        if part == "scramble":
            assert grid is not None
            info, size = f"{info}/grid={grid[0]}x{grid[1]}", grid[0] * grid[1]
        seed = hkdf(key, info.encode(), 32)
        made[part] = BLOCK_MAKERS[part](seed, channels, patch) if part in BLOCK_MAKERS else MAKERS[part](seed, size)
    return made


BLOCK_MAKERS = {"etc": etc, "shuffle-planes": planes}
MAKERS = {"shuffle": permutation, "scramble": permutation, "negpos": negated, "orthogonal": haar}
SCRAMBLING = [
    ("scramble", 3, 4, (2, 3)),
    ("shuffle+scramble", 1, 2, (14, 14)),
    ("negpos+scramble", 3, 2, (7, 1)),
    ("shuffle+negpos+scramble", 3, 4, (8, 8)),
    ("orthogonal+scramble", 1, 2, (3, 5)),
]


def check() -> None:
    okm = hkdf(bytes([0x0B] * 22), bytes(range(0xF0, 0xFA)), 42, bytes(range(13)))  # RFC 5869, A.1
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    stream = chacha20(bytes(range(32)), 64, 1, bytes.fromhex("000000090000004a00000000"))  # RFC 8439, 2.3.2
    assert stream.hex().startswith("10f1e7e4d13b5915500fdd1fa32071c4")


def main() -> None:
    check()
    cases = []
    keys = [bytes(range(32)), hashlib.sha256(b"timm-encmixer vectors").digest()]
    for key in keys:
        ciphers = []
        for cipher in ("shuffle", "negpos", "shuffle+negpos", "orthogonal"):
            for channels, patch in ((1, 2), (3, 2), (3, 4), (3, 7), (1, 32)):
                size = channels * patch**2
                if cipher == "orthogonal" and size > 48:
                    continue
                ciphers.append({"cipher": cipher, "C": channels, "P": patch, **parts(key, cipher, channels, patch)})
        for cipher, channels, patch, grid in SCRAMBLING:
            ciphers.append(
                {"cipher": cipher, "C": channels, "P": patch, "grid": grid, **parts(key, cipher, channels, patch, grid)}
            )
        for channels, patch in ((3, 8), (1, 16), (3, 16)):
            ciphers.append({"cipher": "etc", "C": channels, "P": patch, **parts(key, "etc", channels, patch)})
        grid = (2, 3)
        scrambled = parts(key, "etc+scramble", 3, 8, grid)
        ciphers.append({"cipher": "etc+scramble", "C": 3, "P": 8, "grid": grid, **scrambled})
        for channels, patch in ((1, 2), (3, 2), (3, 7), (4, 16)):
            case = {"cipher": "shuffle-planes", "C": channels, "P": patch, **parts(key, "shuffle-planes", channels, patch)}
            ciphers.append(case)
        scrambled = parts(key, "shuffle-planes+scramble", 3, 4, grid)
        ciphers.append({"cipher": "shuffle-planes+scramble", "C": 3, "P": 4, "grid": grid, **scrambled})
        checksum = hashlib.sha256(b"timm-encmixer/key-file/v1/" + key).digest()[:4]
        cases.append(
            {
                "key": key.hex(),
                "fingerprint": hkdf(key, b"timm-encmixer/v1/fingerprint", 8).hex(),
                "key_file_hex": (key + checksum).hex(),
                "ciphers": ciphers,
            }
        )
    print(json.dumps({"provenance": "tests/vectors/make_vectors.py", "format": 1, "cases": cases}, indent=None))


if __name__ == "__main__":
    main()
