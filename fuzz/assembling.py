"""Checkpoint files put together by hand: headers, pickles one instruction at a time, archives."""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from collections.abc import Mapping

PROTO, NONE, NEWFALSE, EMPTY_DICT, STOP = b"\x80\x02", b"N", b"\x89", b"}", b"."
REBUILD = "torch._utils._rebuild_tensor_v2"
LEGACY = b"".join(
    pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)
"""The three pickles that a legacy torch file begins with."""


def safetensors(header: object, data: bytes = b"") -> bytes:
    """Return a safetensors file; *header* may be text already."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def text(value: str) -> bytes:
    """Push a text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def whole(value: int) -> bytes:
    """Push an integer."""
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    long = len(raw) > 255
    return (b"\x8b" + struct.pack("<i", len(raw)) if long else b"\x8a" + bytes([len(raw)])) + raw


def real(value: float) -> bytes:
    """Push a float."""
    return b"G" + struct.pack(">d", value)


def named(name: str) -> bytes:
    """Push a global."""
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def several(*values: bytes) -> bytes:
    """Push a tuple."""
    return b"(" + b"".join(values) + b"t"


def call(name: str, *args: bytes) -> bytes:
    """Push what *name* would return."""
    return named(name) + several(*args) + b"R"


def mapping(values: Mapping[str, bytes]) -> bytes:
    """Push a dict."""
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def keep(index: int) -> bytes:
    """Remember the top of the stack, and take it away."""
    return b"r" + struct.pack("<I", index) + b"0"


def again(index: int) -> bytes:
    """Push what was remembered."""
    return b"j" + struct.pack("<I", index)


def storage(key: bytes | None = None, kind: str = "torch.FloatStorage", *view: bytes) -> bytes:
    """Push a storage of 16 numbers."""
    known = text("0") if key is None else key
    return several(text("storage"), named(kind), known, text("cpu"), whole(16), *view) + b"Q"


def tensor(
    home: bytes | None = None,
    offset: bytes | None = None,
    shape: bytes | None = None,
    stride: bytes | None = None,
) -> bytes:
    """Push a tensor, which has 4 × 4 numbers where nothing else is said."""
    square, steps = several(whole(4), whole(4)), several(whole(4), whole(1))
    parts = (home or storage(), offset or whole(0), shape or square, stride or steps)
    return call(REBUILD, *parts, NEWFALSE, EMPTY_DICT)


def record(name: bytes, data: bytes, at: int) -> tuple[bytes, bytes]:
    """Return a stored record for byte *at* of a zip archive, and its entry in the directory."""
    facts = struct.pack("<3L", zlib.crc32(data), len(data), len(data))
    local = struct.pack("<4s5H", b"PK\3\4", 10, 0, 0, 0, 0) + facts
    local += struct.pack("<2H", len(name), 0) + name + data
    entry = struct.pack("<4s6H", b"PK\1\2", 10, 10, 0, 0, 0, 0) + facts
    return local, entry + struct.pack("<5H2L", len(name), 0, 0, 0, 0, 0, at) + name


def closed(body: bytes, directory: bytes, count: int) -> bytes:
    """Return a zip archive of records and their *directory*."""
    sizes = (count & 0xFFFF, count & 0xFFFF, len(directory), len(body), 0)
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *sizes)


def archive(records: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of stored *records*, whose checksums are right."""
    body, directory = b"", b""
    for name, data in records.items():
        local, entry = record(name.encode(), data, len(body))
        body, directory = body + local, directory + entry
    return closed(body, directory, len(records))


def zip_around(pickled: bytes) -> bytes:
    """Return a torch file with the *pickled* bytes and two storages."""
    records = {"a/data.pkl": pickled, "a/byteorder": b"little"}
    return archive({**records, "a/data/0": bytes(range(64)), "a/data/1": bytes(24)})


def legacy_around(pickled: bytes) -> bytes:
    """Return a legacy torch file with the *pickled* bytes, the storage "0" and its numbers."""
    keys = pickle.dumps(["0"], 2)
    return LEGACY + pickled + keys + (16).to_bytes(8, "little") + bytes(range(64))
