"""Torch files that are programs, bombs, damaged, or of strange tensors: rows A24 to A37."""

from __future__ import annotations

import argparse
import copy
import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile.archives import (
    DATA,
    Global,
    Persist,
    Reduce,
    code,
    laughs,
    legacy,
    pickled,
    storage,
    tensor,
    zipped,
)
from tests.hostile.headers import put
from tests.hostile.rows import READ, Row, Table

TABLE = Table()
SWITCH = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}


def saved(home: Path, value: Any, name: str = "x.pt", **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of what is written here is on its way out of torch
        torch.save(value, home / name, **options)
    return home / name


def of_value(id: str, status: int, value: Any, *words: str, **more: Any) -> None:
    """Add a row for an archive that says *value*."""
    row = {k: more.pop(k) for k in ("lines", "lean", "env") if k in more}
    TABLE.append(Row(id, lambda home: zipped(home / "x.pt", value, **more), status, words, **row))


def of_tensor(id: str, status: int, *words: str, **view: Any) -> None:
    """Add a row for an archive whose tensor ``conv.weight`` is *view*."""
    of_value(id, status, {"conv.weight": tensor(**view)}, "conv.weight", *words)


# ---- A24, A25: programs

GLOBALS = (
    "os.system",
    "posix.system",
    "nt.system",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "builtins.getattr",
    "builtins.open",
    "__builtin__.eval",
    "importlib.import_module",
    "runpy._run_code",
    "webbrowser.open",
    "socket.create_connection",
    "pickle.loads",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.serialization.load",
    "torch.utils.cpp_extension.load",
    "torch._utils.eval",
    "torch.FloatStorage.from_file",
    "collections.OrderedDict.fromkeys",
)


def program(name: str) -> dict[str, Any]:
    """Return a state dict with a call beside its tensor."""
    module, _, function = name.rpartition(".")
    return {"w": tensor(), "x": Reduce(Global(module, function), ("touch canary",))}


for name in GLOBALS:
    of_value(f"A24 {name}", 4, program(name), name)
    of_value(f"A25 {name}, the check switched off", 4, program(name), name, env=SWITCH)

CALL = Reduce(Global("os", "system"), ("touch canary",))
TABLE.append(
    Row("A24 in a file of old", lambda home: legacy(home / "x.pt", CALL, keys=()), 4, ("system",))
)
TABLE.append(
    Row("A24 in a bare pickle", lambda home: put(home, pickled(CALL), "x.pkl"), 4, ("os.system",))
)
NAMED_BY_STACK = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch canary\x85R."
of_value("A24 named by the stack", 4, NAMED_BY_STACK, "os.system")
of_value("A24 in attributes", 4, {"w": tensor(), "x": Reduce(Global("torch", "Size"), (), CALL)})
of_value("A24 in a storage's place", 4, {"w": tensor(view_of=CALL)}, "os.system")
of_value("A24 in a key", 4, {CALL: tensor()}, "os.system")
# torch writes neither protocol 0 nor 1, so these are no torch files.
of_value("A24 by an instruction of protocol 0", 3, b"\x80\x02(S'touch canary'\nios\nsystem\n.")
of_value("A24 by the registry of extensions", 3, b"\x80\x02\x82\x01.", "instruction")
TABLE.append(
    Row(
        "A24 in protocol 0", lambda home: put(home, b"cos\nsystem\n(S'x'\ntR.", "x.pt"), 3, ("cos",)
    )
)

# ---- A26, A28: more than tensors


class Stranger(torch.nn.Linear):
    """Of a class that no reader of the file has."""


for id, make, word in (
    ("argparse.Namespace", lambda: argparse.Namespace(lr=0.1), "argparse.Namespace"),
    ("a numpy array", lambda: np.ones(2), "numpy"),
    ("a numpy scalar", lambda: np.float64(0.5), "numpy"),
    ("a path", lambda: Path("runs") / "1", "pathlib"),
    ("an exception", lambda: ValueError("x"), "ValueError"),
):
    TABLE.append(
        Row(
            f"A26 {id} beside the weights",
            lambda home, make=make: saved(home, {"state_dict": {"w": torch.ones(2)}, "x": make()}),
            4,
            (word, "soupmerge convert"),
        )
    )


@TABLE.row("A26 a whole module", 4, "torch.nn.modules.linear.Linear", "soupmerge convert")
def whole_module(home: Path) -> Path:
    return saved(home, torch.nn.Sequential(torch.nn.Linear(2, 2)))


@TABLE.row("A26 a whole module of one's own", 4, "Stranger", "soupmerge convert")
def own_module(home: Path) -> Path:
    return saved(home, Stranger(2, 2))


@TABLE.row("A28 a TorchScript archive", 4, "TorchScript", "state_dict")
def script(home: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(home / "x.pt")
    return home / "x.pt"


@TABLE.row("A28 TorchScript by its code alone", 4, "TorchScript")
def script_code(home: Path) -> Path:
    return zipped(home / "x.pt", {"w": tensor()}, **{"code/__torch__.py": b"def f(): ..."})


# ---- A29, A30: damage


def big(home: Path) -> Path:
    return saved(home, {"conv.weight": torch.arange(4096.0), "conv.bias": torch.ones(2)})


def edited(make: Callable[[Path], Path], edit: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def changed(home: Path) -> Path:
        path = make(home)
        path.write_bytes(edit(path.read_bytes()))
        return path

    return changed


def flipped(name: bytes, shift: int) -> Callable[[bytes], bytes]:
    """Return how to flip a bit *shift* bytes behind the first record whose name ends so."""

    def flip(data: bytes) -> bytes:
        at = data.index(name) + len(name) + shift
        return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]

    return flip


for id, keep in (("half", 0.5), ("its last bytes", 0.995)):
    TABLE.append(Row(f"A29 cut: {id}", edited(big, lambda d, k=keep: d[: int(len(d) * k)]), 3))
TABLE.append(Row("A29 no central directory", edited(big, lambda d: d[: d.rindex(b"PK\1\2")]), 3))
TABLE.append(
    Row(
        "A29 an old file cut short",
        edited(
            lambda home: saved(home, {"w": torch.ones(99)}, _use_new_zipfile_serialization=False),
            lambda d: d[:-100],
        ),
        3,
        ("damaged",),
    )
)
of_value("A29 a missing storage", 3, {"conv.weight": tensor()}, "'0'", "conv.weight", stores={})
of_value("A29 a short storage", 3, {"conv.weight": tensor()}, "data/0", stores={"0": DATA[:20]})
of_value("A29 an empty pickle", 3, b"", "pickle")
of_value("A29 a pickle without an end", 3, pickled({"w": 1})[:-1], "pickle")
of_value("A29 a pickle that takes from nothing", 3, b"\x80\x02R.", "pickle")
of_value("A29 a mark that nobody set", 3, b"\x80\x02t.", "pickle")
of_value("A29 text that is not UTF-8", 3, b"\x80\x02X\x02\0\0\0\xff\xfe.", "pickle")
of_value("A29 a number for a mapping", 3, b"\x80\x02K\x01K\x02K\x03s.", "pickle")
of_value("A29 big-endian", 3, {"w": tensor()}, "big-endian", byteorder=b"big")
TABLE.append(Row("A30 a bit of the weights", edited(big, flipped(b"data/0", 900)), 3, ("data/0",)))
TABLE.append(
    Row("A30 a bit of the pickle", edited(big, flipped(b"data.pkl", 200)), 3, ("data.pkl",))
)


@TABLE.row("A29 two pickles", 3, "torch")
def two_pickles(home: Path) -> Path:
    path = zipped(home / "x.pt", {"w": tensor()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y/data.pkl", pickled({}))
    return path


def with_records(*names: str) -> Callable[[Path], Path]:
    def make(home: Path) -> Path:
        path = zipped(home / "x.pt", {"w": tensor()})
        with zipfile.ZipFile(path, "a") as archive:
            for name in names:
                archive.writestr(name, b"#")
        return path

    return make


for name in ("../../evil", "x/../../evil", "/evil", "\\evil", "C:\\evil", "x\\..\\evil"):
    words = ("outside their folder", "evil")
    TABLE.append(Row(f"A28 a record called {name}", with_records(name), 4, words))
for name in ("x/..evil", "x/a..b/evil.", "y..z/evil"):
    TABLE.append(Row(f"A28 a record called {name} is harmless", with_records(name), 0, lines=READ))
MANY = [f"../{i}" for i in range(124)]
TABLE.append(
    Row(
        "A28 more records than are listed", with_records(*MANY), 4, ("124 problems", "and 114 more")
    )
)


def overlapping(home: Path, count: int = 400) -> Path:
    """Write an archive of 1.1 MB whose list of contents names the same 1 MB *count* times."""
    size = 1 << 18
    views = {str(i): tensor((size,), (1,), key=str(i), numel=size) for i in range(count)}
    with zipfile.ZipFile(home / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickled(views))
        archive.writestr("x/data/0", bytes(4 * size))
        for i in range(1, count):
            again = copy.copy(archive.getinfo("x/data/0"))
            again.filename = again.orig_filename = f"x/data/{i}"
            archive.filelist.append(again)
    return home / "x.pt"


SHARED = ("share bytes", "x/data/1", "399 problems", "and 389 more")
TABLE.append(Row("A32 records that share their bytes", overlapping, 4, SHARED, READ, lean=True))


@TABLE.row("A32 a record within another", 4, "share bytes", "x/data/1", "x/data/0")
def nested(home: Path) -> Path:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x/data/1", DATA)
    whole = {"a": tensor(key="0"), "b": tensor(key="1")}
    path = zipped(home / "x.pt", whole, stores={"0": inner.getvalue()})
    with zipfile.ZipFile(path, "a") as archive:
        hidden = zipfile.ZipFile(inner).getinfo("x/data/1")
        outer = archive.getinfo("x/data/0")
        hidden.header_offset += outer.header_offset + 30 + len("x/data/0")
        archive.filelist.append(hidden)
        archive.writestr("x/more", b"")
    return path


@TABLE.row("A29 a record twice", 3, "x/data/0")
def doubled(home: Path) -> Path:
    path = zipped(home / "x.pt", {"w": tensor()})
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("x/data/0", bytes(8))
    return path


@TABLE.row("A29 a record twice among 40,000", 3, "x/39999", lines=READ)
def doubled_late(home: Path) -> Path:
    more = {f"{n}": b"" for n in range(40_000)}
    path = zipped(home / "x.pt", {"w": tensor()}, stores={"0": DATA}, **more)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("x/39999", b"")
    return path


def ordered(*pairs: Any, items: bytes = b"") -> bytes:
    """Return an OrderedDict of lists of a name and a tensor, as Python 2 wrote it, and of more."""
    made = Reduce(Global("collections", "OrderedDict"), ([list(pair) for pair in pairs],))
    return code(made) + (b"(" + items + b"u" if items else b"")


NAMED = code("w") + code(tensor())
for id, value in (
    ("a mapping", b"}(" + NAMED + NAMED + b"u"),
    ("a mapping set twice", b"}(" + NAMED + b"u(" + NAMED + b"u"),
    ("an inner mapping", {"net": b"}(" + NAMED + NAMED + b"u"}),
    ("an ordered mapping", ordered(("w", tensor()), ("w", tensor()))),
    ("an ordered mapping, and set", ordered(("w", tensor()), items=NAMED)),
):
    of_value(f"A9 a key twice in {id}", 3, pickled(value), "'w' twice", lines=READ)

# ---- A32: bombs

BOMB = Reduce(Global("builtins", "bytearray"), (3 << 30,))
of_value("A32 bytearray(3<<30)", 4, {"w": tensor(), "x": BOMB}, "bytearray", lines=READ, lean=True)
of_value("A32 repeated lists", 0, {"w": tensor(), "x": laughs(30)}, lines=READ, lean=True)
for place, value in (
    ("a shape", {"w": tensor(shape=laughs(30))}),
    ("a stride", {"w": tensor(stride=laughs(30))}),
    ("an offset", {"w": tensor(offset=laughs(30))}),
    ("a storage's key", {"w": tensor(key=laughs(30))}),
    ("a storage's id", {"w": tensor(view_of=Persist(laughs(30)))}),
    ("the whole", laughs(30)),
):
    of_value(f"A32 repeated lists as {place}", 3, value, lines=READ, lean=True)
TABLE.append(
    Row(
        "A32 repeated lists as an old file's keys",
        lambda home: legacy(home / "x.pt", {"w": tensor()}, keys=[laughs(30)]),
        3,
        (),
        READ,
        lean=True,
    )
)


def nested_modules(depth: int) -> bytes:
    """Return a module of two modules that are the same module of two …, all of it plain names."""
    made = code_of_module({})
    for level in range(depth):
        here = struct.pack("<I", level)
        made += b"r" + here + b"0" + code_of_module({"a": b"j" + here, "b": b"j" + here})
    return made


def code_of_module(inner: dict[str, bytes]) -> bytes:
    from tests.hostile.archives import code

    plain = Global("collections", "OrderedDict")
    return code(Reduce(plain, (), {"_modules": inner, "_parameters": {"w": tensor()}}))


of_value("A32 a module of modules of modules", 3, nested_modules(40), lines=READ, lean=True)
of_value("A32 a million sets", 3, b"\x80\x02" + b"\x8f" * 999_990, lines=READ, lean=True)
of_value("A32 a million mappings", 3, b"\x80\x02" + b"}" * 999_990, lines=READ, lean=True)
of_value("A32 a million marks", 3, b"\x80\x02" + b"(" * 999_990, lines=READ, lean=True)
of_value("A32 two million instructions", 3, b"\x80\x02" + b"N0" * 1_000_000, "longer", lines=READ)
of_value("A32 a pickle of 70 MB", 4, b"\x80\x02" + bytes(70_000_000), lines=READ, lean=True)
of_value(
    "A32 packed to a thousandth",
    4,
    {"w": tensor()},
    "compressed",
    stores={"0": bytes(100_000_000)},
    method=zipfile.ZIP_DEFLATED,
    lines=READ,
    lean=True,
)


def over(field: int, size: int, value: int) -> Callable[[bytes], bytes]:
    """Return how to set *size* bytes at *field* of the end of the list of contents."""

    def edit(data: bytes) -> bytes:
        at = data.rindex(b"PK\5\6") + field
        return data[:at] + value.to_bytes(size, "little") + data[at + size :]

    return edit


for id, field, status in (
    ("claims 4 GB of contents", 12, 4),
    ("has its contents elsewhere", 16, 3),
):
    make = edited(lambda home: zipped(home / "x.pt", {"w": tensor()}), over(field, 4, 0xFFFFFFFE))
    TABLE.append(Row(f"A32 an archive that {id}", make, status))


@TABLE.row("A32 a million records, of which the old fields say nothing", 4, lines=READ, lean=True)
def million_records(home: Path) -> Path:
    """Zip's 64-bit end tells the size of the list of contents again, and readers believe it."""
    data = zipped(home / "x.pt", {"w": tensor()}).read_bytes()
    start, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    one = data[start : data.index(b"PK\1\2", start + 1)]
    contents = one * 1_000_000
    far = struct.pack(
        "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, len(contents), start
    )
    near = struct.pack("<4sIQI", b"PK\6\7", 0, start + len(contents), 1)
    return put(home, data[:start] + contents + far + near + data[end:], "x.pt")


@TABLE.row("A32 ten thousand names for four megabytes", 4, lines=READ)
def shared(home: Path) -> Path:
    """Each tensor fits its storage, but all together are 40 GB to read and to write."""
    names = {f"w{n}": tensor((1 << 20,), (1,), numel=1 << 20) for n in range(10_000)}
    return zipped(home / "x.pt", names, stores={"0": bytes(4 << 20)})


@TABLE.row("A32 an old file that names one storage 900,000 times", 3, lines=READ)
def many_storages(home: Path) -> Path:
    keys = b"](" + b"X\1\0\0\x000r\0\0\0\0" + b"h\0" * 900_000 + b"e"
    value = {"w": tensor((0,), (1,))}
    return legacy(home / "x.pt", value, keys=keys, tail=bytes(8 * 900_001))


# ---- A33, A34: views beyond what is stored

of_tensor("A33 stride 0", 4, shape=(1 << 20, 1 << 20), stride=(0, 0))
of_tensor("A33 one stride 0", 4, shape=(4, 2), stride=(0, 1))
of_tensor("A33 overlapping strides", 4, shape=(7, 2), stride=(1, 1))
of_tensor("A33 more numbers than are stored", 4, shape=(9,), stride=(1,))
of_tensor("A33 a shape that overflows", 4, shape=(1 << 62, 1 << 62), stride=(1 << 62, 1))
of_tensor("A34 a shape of 400 dimensions", 3, "400", shape=(1 << 62,) * 400, stride=(1,) * 400)
of_tensor("A34 beyond the storage", 3, "data/0", shape=(4,), stride=(1,), offset=6)
of_tensor("A34 a stride beyond the storage", 3, "data/0", shape=(2, 2), stride=(9, 1))
of_tensor("A34 a negative offset", 3, "-1", offset=-1)
of_tensor("A34 a negative stride", 3, "-1", shape=(2,), stride=(-1,))
of_tensor("A34 a negative size", 3, "-2", shape=(-2,), stride=(1,))
of_tensor("A34 a fractional offset", 3, offset=0.0)
of_tensor("A34 an offset beyond 64 bits", 3, shape=(1,), stride=(1,), offset=1 << 70)
of_tensor("A34 an offset of 5,000 digits", 3, offset=1 << 20_000)
of_tensor("A34 an offset that is text", 3, offset="0")
of_tensor("A34 more strides than sizes", 3, shape=(2,), stride=(1, 1))
of_tensor("A34 a shape that is a number", 3, shape=2, stride=2)
of_tensor("A34 a shape that is text", 3, shape="23", stride="31")
of_value("A34 a storage of no kind", 4, {"w": tensor(kind="StrangeStorage")}, "StrangeStorage")
of_tensor("A34 a storage that is none", 3, view_of=Persist(None))
of_tensor("A34 a storage with nothing said", 3, view_of=Persist(("storage",)))
of_tensor("A34 a storage's key that is a path", 3, key="../../../secret")
of_tensor("A34 80 dimensions, not in order", 3, shape=(1,) * 78 + (2, 3), stride=(1,) * 78 + (1, 2))
of_value(
    "A34 no arguments",
    3,
    {"conv.weight": Reduce(Global("torch._utils", "_rebuild_tensor_v2"))},
    "conv.weight",
)
TABLE.append(
    Row(
        "A34 an old file's key of 5,000 digits",
        lambda home: legacy(home / "x.pt", {"w": tensor()}, keys=[1 << 20_000]),
        3,
    )
)
TABLE.append(
    Row(
        "A34 an old file's storage of 2**62 numbers",
        lambda home: legacy(home / "x.pt", {"w": tensor()}, tail=struct.pack("<q", 1 << 62)),
        3,
        ("'0'",),
    )
)

# ---- A36, A37: dtypes and devices


def odd(make: Callable[[], torch.Tensor], home: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(home, {"conv.weight": make()})


def dtype(name: str) -> Callable[[], torch.Tensor]:
    return lambda: torch.ones(4).to(getattr(torch, name))


for id, make, words in (
    (
        "A36 qint8",
        lambda: torch.quantize_per_tensor(torch.ones(4), 1, 0, torch.qint8),
        ("dequant",),
    ),
    ("A36 a meta tensor", lambda: torch.ones(4, device="meta"), ("meta",)),
    ("A36 sparse", lambda: torch.eye(3).to_sparse(), ("sparse", "dense")),
    ("A36 sparse rows", lambda: torch.eye(3).to_sparse_csr(), ("sparse", "dense")),
    ("A36 a conjugated view", lambda: torch.ones(4, dtype=torch.complex64).conj(), ("complex64",)),
    ("A37 float8", dtype("float8_e4m3fn"), ("float8_e4m3fn", "float32")),
    ("A37 complex", dtype("complex64"), ("complex64", "float32")),
    ("A37 uint16", dtype("uint16"), ("uint16", "float32")),
):
    TABLE.append(Row(id, partial(odd, make), 3, ("conv.weight", *words)))

FLOAT4 = Global("torch", "float4_e2m1fn_x2")
BYTES = storage(kind="UntypedStorage")
V3 = Reduce(
    Global("torch._utils", "_rebuild_tensor_v3"),
    (BYTES, 0, (8,), (1,), False, Reduce(Global("collections", "OrderedDict")), FLOAT4, {}),
)
of_value("A36 float4", 3, {"conv.weight": V3}, "conv.weight", "float4_e2m1fn_x2")
for name in ("int8", "bool", "int64", "uint8"):
    TABLE.append(
        Row(f"A37 {name} works", partial(odd, dtype(name)), 0, (name,), lines=READ),
    )
