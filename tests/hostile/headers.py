"""Safetensors files with a wrong header: rows A1 to A13."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hostile.rows import READ, Row, Table, save

TABLE = Table()
DATA = bytes(32)
KEYS = ("conv.bias", "conv.weight")


def entry(dtype: Any = "F32", shape: Any = (2,), at: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": at}


def packed(header: Any, data: bytes = DATA) -> bytes:
    """Return a file of *header*, bytes or what becomes JSON, and *data*."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def put(home: Path, content: bytes, name: str = "x.safetensors") -> Path:
    (home / name).write_bytes(content)
    return home / name


def pair(home: Path, *, data: bytes = DATA, **bias: Any) -> Path:
    """Write a file that is good but for its tensor ``conv.bias``."""
    weight = entry(shape=(2, 3), at=(8, 32))
    return put(home, packed({"conv.bias": entry(**bias), "conv.weight": weight}, data))


def of_bias(id: str, *words: str, **bias: Any) -> None:
    """Add a row for a file whose ``conv.bias`` is *bias*."""
    TABLE.append(Row(id, lambda home: pair(home, **bias), 3, ("conv.bias", *words)))


def of_header(id: str, header: Any, *words: str, status: int = 3, **more: Any) -> None:
    """Add a row for a file with *header*."""
    TABLE.append(Row(id, lambda home: put(home, packed(header)), status, words, **more))


# ---- A1, A2, A4: a header that cannot be read


@TABLE.row("A1 cut within the data", 3, "conv.weight", "27", "32", "download")
def cut(home: Path) -> Path:
    return pair(home, data=DATA[:-5])


@TABLE.row("A2 header longer than the file", 3, "1000", "42")
def long_header(home: Path) -> Path:
    return put(home, (1000).to_bytes(8, "little") + b'{"conv.bias":' + bytes(21))


@TABLE.row("A2 header of 2**64-1 bytes", 3, "18446744073709551615", "42")
def longest_header(home: Path) -> Path:
    return put(home, b"\xff" * 8 + b'{"conv.bias":' + bytes(21))


@TABLE.row("A2 header longer than any, in a file of holes", 3, "header", lines=READ, lean=True)
def sparse_file(home: Path) -> Path:
    """A file of 5 GB that takes no room on disk: its header is to be refused by its length."""
    path = put(home, (5_000_000_000 - 8).to_bytes(8, "little") + b"{")
    with open(path, "r+b") as file:
        file.truncate(5_000_000_000)
    return path


@TABLE.row("A2 header longer than the text", 3, "header")
def short_text(home: Path) -> Path:
    return put(home, packed(json.dumps({"conv.bias": entry()}).encode() + b"\x00\x01\x02"))


TABLE.append(Row("A2 seven bytes", lambda home: put(home, b"\x02\0\0\0\0\0\0"), 3, ()))
TABLE.append(Row("A2 header of no bytes", lambda home: put(home, bytes(40)), 3, ()))

of_header("A4 not UTF-8", b'{"conv\xff.bias": 1}', "UTF-8", "14")
of_header("A4 not JSON", b'{"conv.bias": {', "JSON", "15")
of_header("A4 JSON and then more", b"{} {}", "JSON", "3")
of_header("A4 two objects deep in a list", b'{"conv.bias": [[]]}', "conv.bias")
of_header("A4 a constant that is not JSON", b'{"__metadata__": NaN}', "metadata")
of_header("A4 an integer of 5,000 digits", b'{"a": %s}' % (b"9" * 5000))
of_header("A4 JSON 200,000 deep", b'{"a":' * 200_000, "deep", lines=READ, lean=True)
of_header("A4 lists 200,000 deep", b'{"a":' + b"[" * 200_000, "deep", lines=READ, lean=True)

# ---- A5, A6, A8: data that are not where they should be

of_bias("A5 identical offsets", "conv.weight", shape=(2, 3), at=(8, 32))
of_bias("A5 overlapping offsets", "conv.weight", shape=(3,), at=(0, 12))


@TABLE.row("A6 a hole at the front", 3, "byte 0")
def hole_in_front(home: Path) -> Path:
    return pair(home, shape=(1,), at=(4, 8))


@TABLE.row("A6 a hole in the middle", 3, "byte 4")
def hole_between(home: Path) -> Path:
    return pair(home, shape=(1,), at=(0, 4))


@TABLE.row("A6 trailing bytes", 3, "32", "21")
def trailing(home: Path) -> Path:
    return pair(home, data=DATA + b"PK\x05\x06polyglot with a zip"[:21])


of_bias("A8 fewer bytes than its shape", "8", "12", shape=(3,))
of_bias("A8 more bytes than its shape", "8", "4", shape=(1,))
of_bias("A8 a shape that overflows 64 bits", "8", shape=(1 << 62, 4), at=(0, 8))
of_bias("A8 a shape that wraps around to its size", "8", shape=(1 << 62, 1 << 62, 4, 2))
of_bias("A8 a shape of 400 dimensions", shape=(1 << 62,) * 400)
of_bias("A8 a shape of 100,000 dimensions", shape=(1 << 62,) * 100_000)
of_bias("A8 a negative size", "-2", shape=(-2,))
of_bias("A8 a fractional size", "2.0", shape=(2.0,))
of_bias("A8 a size that is true", "True", shape=(2, True))
of_bias("A8 a size that is text", shape=("2",))
of_bias("A8 a shape that is none", shape=None)
of_bias("A8 offsets that go back", "8", "0", shape=(2,), at=(8, 0))
of_bias("A8 offsets below zero", "-8", at=(-8, 0))
of_bias("A8 three offsets", at=(0, 4, 8))
of_bias("A8 offsets beyond 64 bits", at=(1 << 70, (1 << 70) + 8))
of_header("A8 a tensor without a dtype", {"conv.bias": {"shape": [2], "data_offsets": [0, 8]}})
of_header("A8 a tensor that is a number", {"conv.bias": 3}, "conv.bias")
of_header("A8 metadata that are no texts", {"__metadata__": {"a": 1}}, "metadata")
of_header("A8 an unknown field", {"conv.bias": entry() | {"stride": [1]}}, "conv.bias")

# ---- A9, A10, A12: names and dtypes


def twice(first: Any, second: Any) -> bytes:
    text = [f'"conv.bias": {json.dumps(e)}' for e in (first, second)]
    return ("{" + ", ".join(text) + "}").encode()


of_header("A9 a key twice, other offsets", twice(entry(), entry(at=(8, 16))), "conv.bias")
of_header("A9 a key twice, same offsets", twice(entry(), entry()), "conv.bias")
of_header("A9 a field twice", b'{"conv.bias": {"dtype": "F32", "dtype": "F64"}}', "dtype")
of_header(
    "A9 a key twice behind 60,000 others",
    b"{%s}" % b",".join(b'"%06d":0' % n for n in [*range(60_000), 59_999]),
    "59999",
    lines=READ,
)

of_bias("A10 dtype F33", "F33", "F32, F16", dtype="F33")
of_bias("A10 dtype F6_E2M3", "F6_E2M3", "F32, F16", dtype="F6_E2M3", shape=(4,), at=(0, 3))
of_bias("A10 dtype F4", "F4", "F32, F16", dtype="F4", shape=(16,))
of_bias("A10 dtype in small letters", "f32", "F32, F16", dtype="f32")
for odd in ([], {}, None, 3, True, ["F32"]):
    of_bias(f"A10 dtype {odd!r}", dtype=odd)
of_bias("A37 dtype F8_E4M3", "F8_E4M3", "F32, F16", dtype="F8_E4M3", shape=(8,))
of_bias("A37 dtype C64", "C64", "F32, F16", dtype="C64", shape=(1,))


def of_name(id: str, name: str, *words: str) -> None:
    TABLE.append(Row(id, lambda home: save(home / "x.safetensors", **{name: [1.0]}), 3, words))


of_name("A12 a key that is empty", "", "''")
of_name("A12 a key with NUL", "a\0b", r"a\x00b")
of_name("A12 a key that is a path", "../../etc/x", "../../etc/x")
of_name("A12 a key of 10,000 characters", "k" * 10_000, "kkkkkkkkkk…")
of_name("A12 a key that moves the cursor", "a\x1b[2J\r", r"\x1b")
of_name("A12 a key that turns the line around", "a\u202eb", "202e")
of_header(
    "A12 a key that is no text", b'{"\\ud800": {"dtype":"F32","shape":[8],"data_offsets":[0,32]}}'
)

# ---- A13: too many


def many(home: Path, count: int) -> Path:
    tensor = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return put(
        home, packed(b"{%s}" % b",".join(b'"%d":%s' % (n, tensor) for n in range(count)), b"")
    )


LIMIT = "SOUPMERGE_MAX_TENSORS"


@TABLE.row("A13 a million tensors", 3, "100000", LIMIT, lines=READ, lean=True)
def million(home: Path) -> Path:
    return many(home, 1_000_000)


@TABLE.row("A13 just above the limit", 3, "100000", LIMIT, lines=READ, lean=True)
def above(home: Path) -> Path:
    return many(home, 100_001)


@TABLE.row("A13 above a lower limit", 3, "50", LIMIT, lines=READ, lean=True, env={LIMIT: "50"})
def above_fifty(home: Path) -> Path:
    return many(home, 200)


@TABLE.row("A13 a limit in other digits", 2, LIMIT, lines=READ, env={LIMIT: "١٠"})
@TABLE.row("A13 a limit that is no number", 2, LIMIT, lines=READ, lean=True, env={LIMIT: "many"})
def no_number(home: Path) -> Path:
    return many(home, 2)


@TABLE.row("A13 the limit raised", 0, "100001", lines=READ, lean=True, env={LIMIT: "200000"})
def raised(home: Path) -> Path:
    """Long to print, but for the row that counts the tensors."""
    return many(home, 100_001)


@TABLE.row("A13 a header of 60 MB of commas", 3, LIMIT, lines=READ, lean=True)
def commas(home: Path) -> Path:
    return put(home, packed(b"{" + b"," * 60_000_000))


@TABLE.row("A13 a header of 60 MB of numbers", 3, lines=READ, lean=True)
def colons(home: Path) -> Path:
    """No comma, no bracket: what is counted before it is parsed is not there."""
    return put(home, packed(b'{"a":' + b"1" * 60_000_000))


@TABLE.row("A13 metadata of 60 MB of short texts", 3, lines=READ, lean=True)
def texts(home: Path) -> Path:
    return put(home, packed(b'{"__metadata__":{%s}}' % (b'"":"",' * 8_000_000)))
