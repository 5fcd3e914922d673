"""Torch files, written by hand: an assembler of pickles, and zip archives that hold them."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = bytes(32)
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
NEEDED = {"little_endian": True, "protocol_version": 1001, "type_sizes": {"int": 4}}


@dataclass(frozen=True)
class Global:
    """``module.name``, which need not be there."""

    module: str
    name: str


@dataclass(frozen=True)
class Reduce:
    """What a reader would call, with what, and what it would set then."""

    of: Any
    args: Any = ()
    state: Any = None


@dataclass(frozen=True)
class Persist:
    """What lies outside of the pickle."""

    id: Any


def code(value: Any) -> bytes:
    """Return the instructions that push *value*; bytes are taken for instructions."""
    if isinstance(value, bytes):
        return value
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        size = value.bit_length() // 8 + 1
        return b"\x8b" + struct.pack("<i", size) + value.to_bytes(size, "little", signed=True)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(raw)) + raw
    if isinstance(value, list):
        return b"](" + b"".join(map(code, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(code, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(code(k) + code(v) for k, v in value.items()) + b"u"
    if isinstance(value, Global):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Persist):
        return code(value.id) + b"Q"
    assert isinstance(value, Reduce)
    made = code(value.of) + code(value.args) + b"R"
    return made if value.state is None else made + code(value.state) + b"b"


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + code(value) + b"."


def laughs(depth: int, width: int = 10) -> bytes:
    """Return instructions for a list of ten lists of ten lists …: *depth* short lines."""
    lines = [b"]r\0\1\0\0"]
    for level in range(depth):
        here, below = (struct.pack("<I", 256 + n) for n in (level + 1, level))
        lines.append(b"0](" + (b"j" + below) * width + b"er" + here)
    return b"".join(lines)


def storage(key: Any = "0", kind: str = "FloatStorage", numel: Any = 8) -> Persist:
    return Persist(("storage", Global("torch", kind), key, "cpu", numel))


def tensor(
    shape: Any = (2, 3), stride: Any = (3, 1), offset: Any = 0, view_of: Any = None, **more: Any
) -> Reduce:
    """Return what torch writes for a tensor: a view of a storage."""
    view = (view_of or storage(**more), offset, shape, stride, False)
    hooks = Reduce(Global("collections", "OrderedDict"))
    return Reduce(Global("torch._utils", "_rebuild_tensor_v2"), (*view, hooks))


def zipped(path: Path, value: Any, *, stores: dict[str, bytes] | None = None, **more: Any) -> Path:
    """Write a torch archive; *value* is its pickle if it is bytes, or else what that says.

    Args:
        stores: record under ``data/`` → its bytes.
        more: other records, as name → bytes.
    """
    pickle = value if isinstance(value, bytes) else pickled(value)
    with zipfile.ZipFile(path, "w", more.pop("method", zipfile.ZIP_STORED)) as archive:
        archive.writestr("x/data.pkl", pickle)
        archive.writestr("x/byteorder", more.pop("byteorder", b"little"))
        for key, data in ({"0": DATA} if stores is None else stores).items():
            archive.writestr(f"x/data/{key}", data)
        for name, data in {"version": b"3\n", **more}.items():
            archive.writestr(f"x/{name}", data)
    return path


def legacy(path: Path, value: Any, *, keys: Any = ("0",), tail: bytes | None = None) -> Path:
    """Write what torch wrote before 1.6: five pickles, and a storage's numbers behind them."""
    if tail is None:
        tail = struct.pack("<q", 8) + DATA
    names = keys if isinstance(keys, bytes) else list(keys)
    path.write_bytes(b"".join(map(pickled, (MAGIC, PROTOCOL, NEEDED, value, names))) + tail)
    return path
