"""Make the table of records and of the answers that all readers give, without any of the package's code.

    python tests/vectors/make_records.py > tests/vectors/records.json

A record is of a `kind`: `model` (docs/format.md, "Record"), or of a ciphertext in a `PNG` or a `JPEG` file ("Ciphertext
images").
tests/test_record_table.py and the JavaScript client's tests read the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

FINGERPRINT = "89e2c27a7d8f4efa"
DIGEST = "baf465ae"  # CRC-32 of 96 zero bytes: of a black image of 4 x 8 px
PNG = f'{{"version":1,"cipher":"shuffle+negpos","patch_size":4,"size":[4,8],"fingerprint":"{FINGERPRINT}","digest":"{DIGEST}"}}'
JPEG = f'{{"version":2,"cipher":"etc","patch_size":8,"size":[8,8],"fingerprint":"{FINGERPRINT}"}}'
PLAIN = '{"input_size":[3,4,8],"mean":[0.5,0.5,0.5],"std":[1,1.0,1e0],"crop_pct":1}'
MODEL = f'{{"version":1,"cipher":"shuffle+negpos","patch_size":4,"in_chans":3,"fingerprint":"{FINGERPRINT}","plain":{PLAIN}}}'
GRID = f'{{"version":3,"cipher":"scramble","patch_size":4,"fingerprint":"{FINGERPRINT}","grid":[1,2]}}'
READ, REFUSED = "read", "refused"
NO_INTEGERS = (
    "4.0",
    "4e0",
    "4E0",
    "40e-1",
    "true",
    "null",
    '"4"',
    "[4]",
    "{}",
    "-4",
    "0",
    "4.5",
    "1e400",
    "99999999999999999999",
)


def changed(text: str, before: str, after: str) -> str:
    assert text.count(before) == 1, (text, before)
    return text.replace(before, after)


def of_ciphertexts() -> Iterator[tuple[str, str, str, str]]:
    """Yield name, kind, text and answer."""
    yield "as written", "PNG", PNG, READ
    yield "as written", "JPEG", JPEG, READ
    yield "with white space", "PNG", f"\n {PNG} \t", READ
    yield "in another order", "PNG", json.dumps(dict(reversed(json.loads(PNG).items()))), READ
    yield "with an escape", "PNG", changed(PNG, "shuffle", "\\u0073huffle"), READ
    yield "without its version", "PNG", changed(PNG, '"version":1,', ""), READ
    yield "a field twice, the last one right", "PNG", changed(PNG, '"patch_size":4', '"patch_size":8,"patch_size":4'), READ
    for value in ("2", "3", "0", "1.0", "1e0", "true", "null", '"1"', "[1]", "-1"):
        yield f"version {value}", "PNG", changed(PNG, '"version":1', f'"version":{value}'), REFUSED
    yield "without its version", "JPEG", changed(JPEG, '"version":2,', ""), REFUSED
    for value in NO_INTEGERS:
        yield f"patch_size {value}", "PNG", changed(PNG, '"patch_size":4', f'"patch_size":{value}'), REFUSED
    for value in (
        "[4.0,8]",
        "[4,8e0]",
        "[true,8]",
        "[4]",
        "[4,8,3]",
        '"48"',
        "null",
        "[0,8]",
        "[4,null]",
        "{}",
        '{"0":4,"1":8}',
    ):
        yield f"size {value}", "PNG", changed(PNG, "[4,8]", value), REFUSED
    for value in (
        f'["{FINGERPRINT}"]',
        '{"toString":"x"}',
        '{"toString":null}',
        "null",
        "123",
        f'"{FINGERPRINT}0"',
        f'"{FINGERPRINT}\\n"',
        f'"{FINGERPRINT.upper()}"',
        '""',
    ):
        yield f"fingerprint {value}", "PNG", changed(PNG, f'"{FINGERPRINT}"', value), REFUSED
    for value in (f'["{DIGEST}"]', "null", "12345678", f'"{DIGEST}0"', f'"{DIGEST.upper()}"', f'"{DIGEST}\\n"'):
        yield f"digest {value}", "PNG", changed(PNG, f'"{DIGEST}"', value), REFUSED
    for value in ("null", f'"{DIGEST}"'):
        yield f"a digest of {value}", "JPEG", changed(JPEG, "}", f',"digest":{value}}}'), REFUSED
    yield "without a digest", "PNG", changed(PNG, f',"digest":"{DIGEST}"', ""), REFUSED
    for value in ("null", "3", '["shuffle+negpos"]', '{"toString":"x"}', f'"{"x" * 65}"'):
        yield f"cipher {value[:20]}", "PNG", changed(PNG, '"shuffle+negpos"', value), REFUSED
    for field in ("cipher", "patch_size", "size", "fingerprint"):
        fields = {name: value for name, value in json.loads(PNG).items() if name != field}
        yield f"without {field}", "PNG", json.dumps(fields), REFUSED
    for extra in ('"other":1', '"__proto__":{"version":1}', '"constructor":1', '"":0'):
        yield f"one field more: {extra}", "PNG", changed(PNG, '"version":1', f'"version":1,{extra}'), REFUSED
    others = {
        "nothing": "",
        "null": "null",
        "a list": f"[{PNG}]",
        "a number": "1",
        "a text": json.dumps(PNG),
        "two": PNG + PNG,
        "cut": PNG[:-1],
        "with a comma more": PNG[:-1] + ",}",
        "in Python's words": PNG.replace('"', "'"),
        "not a number": changed(PNG, ":4,", ":NaN,"),
        "a leading zero": changed(PNG, ":4,", ":04,"),
        "a plus": changed(PNG, ":4,", ":+4,"),
        "a point alone": changed(PNG, ":4,", ":4.,"),
        "hexadecimal": changed(PNG, ":4,", ":0x4,"),
    }
    for name, text in others.items():
        yield f"no record: {name}", "PNG", text, REFUSED


def of_models() -> Iterator[tuple[str, str, str, str]]:
    yield "as written", "model", MODEL, READ
    yield "with a grid", "model", GRID, READ
    yield (
        "null where a field has no value",
        "model",
        changed(MODEL, '"in_chans":3', '"in_chans":3,"stem":null,"grid":null'),
        READ,
    )
    yield "a cipher's name left out", "model", changed(MODEL, '"cipher":"shuffle+negpos",', ""), READ
    yield "fractions as such", "model", changed(MODEL, "[0.5,0.5,0.5]", "[5e-1,0.50,1]"), READ
    for value in ("1.0", "1e0", "true", "null", '"1"', "0", "6", "2"):
        yield f"version {value}", "model", changed(MODEL, '"version":1', f'"version":{value}'), REFUSED
    for value in NO_INTEGERS:
        yield f"patch_size {value}", "model", changed(MODEL, '"patch_size":4', f'"patch_size":{value}'), REFUSED
    for value in ("3.0", "3e0", "true", "null", '"3"'):
        yield f"in_chans {value}", "model", changed(MODEL, '"in_chans":3', f'"in_chans":{value}'), REFUSED
        yield f"input_size of {value}", "model", changed(MODEL, "[3,4,8]", f"[{value},4,8]"), REFUSED
    for value in ("[1.0,2]", "[1,true]", "[1]", "null", '"12"', "{}"):
        yield f"grid {value}", "model", changed(GRID, "[1,2]", value), REFUSED
    for value in ("true", "null", '"1"', "[1]", "0", "1e400", "{}"):
        yield f"crop_pct {value}", "model", changed(MODEL, '"crop_pct":1', f'"crop_pct":{value}'), REFUSED
        yield (
            f"mean of {value}",
            "model",
            changed(MODEL, "[0.5,0.5,0.5]", f"[0.5,{value},0.5]"),
            READ if value == "0" else REFUSED,
        )
    for value in ("null", f'["{FINGERPRINT}"]', '{"toString":"x"}', f'"{FINGERPRINT.upper()}"', '""', "1"):
        yield f"fingerprint {value}", "model", changed(MODEL, f'"{FINGERPRINT}"', value), REFUSED
    for extra in ('"other":1', '"__proto__":{}', '"toString":1', '"not written as a whole number":"4"'):
        yield f"one field more: {extra}", "model", changed(MODEL, '"version":1', f'"version":1,{extra}'), REFUSED
    for name, text in {
        "nothing": "",
        "null": "null",
        "a list": f"[{MODEL}]",
        "cut": MODEL[:-1],
        "not a number": changed(MODEL, ":4,", ":NaN,"),
    }.items():
        yield f"no record: {name}", "model", text, REFUSED


def main() -> None:
    rows: list[dict[str, Any]] = [
        {"name": f"{kind}: {name}", "kind": kind, "text": text, "answer": answer}
        for name, kind, text, answer in (*of_ciphertexts(), *of_models())
    ]
    assert len({row["name"] for row in rows}) == len(rows)
    print('{"records":[\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}")


if __name__ == "__main__":
    main()
