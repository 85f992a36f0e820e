from __future__ import annotations

import msgspec
import pytest

from timm_encmixer.errors import SourceError
from timm_encmixer.schema import Count, Sha256, read_as


class Book(msgspec.Struct, forbid_unknown_fields=True):
    pages: Count
    digest: Sha256 = "0" * 64


def read(value: object) -> Book:
    return read_as(Book, value, where="book", error=SourceError, remedy="write another")


@pytest.mark.parametrize("value", ['{"pages": 3}', b'{"pages": 3}', {"pages": 3}])
def test_text_bytes_and_objects_are_read(value):
    assert read(value) == Book(3)


@pytest.mark.parametrize(
    "value",
    [
        *(
            '{"pages": -1}',
            '{"pages": 9007199254740993}',
            '{"pages": 1e400}',
            '{"pages": true}',
            '{"pages": "3"}',
            "{}",
            "[",
            "",
        ),
        *('{"pages": 3, "more": 1}', f'{{"pages": 3, "digest": "{"0" * 64}\\n"}}', b'{"pages": "\xff"}', "[" * 100_000),
        *(None, 5, [], {"pages": None}, {"pages": 3, 4: 5}, '{"pages": "\ud800"}', {"pages": 10**400}),
    ],
)
def test_all_else_is_one_error_in_one_line(value):
    with pytest.raises(SourceError, match=r"^book: expected what docs/format\.md describes, got .*; write another$"):
        read(value)
