"""Good files to begin with, made on the spot; with torch beside, what torch itself writes.

``python -m fuzz.seeds FOLDER`` writes them, for an interpreter that has torch but no atheris.
"""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.assembling import (
    PROTO,
    STOP,
    archive,
    call,
    keep,
    legacy_around,
    mapping,
    named,
    safetensors,
    several,
    storage,
    tensor,
    text,
    whole,
    zip_around,
)

WORDS = {
    "headers": (
        *('"dtype":', '"shape":', '"data_offsets":', '"__metadata__":', '"F32"', '"BF16"', '"U8"'),
        *('"I64"', '"BOOL"', "[0,4]", "[]", "[2,3]", "{}", "null", "NaN", "1e999", "-0"),
        *("9223372036854775807", "18446744073709551616", '"\\ud800"', '"format":"pt"'),
    ),
    "indexes": (
        *('"weight_map":', '"metadata":', '"total_size":', "{}", "[]", "null", "../", "..", "\\\\"),
        *('"model-00001-of-00002.safetensors"', '"model-00002-of-00002.safetensors"'),
        *('"pytorch_model-00001-of-00001.bin"', '"\\ud800"', "\\u0000", "C:", "/"),
    ),
    "archives": (
        *("PK\1\2", "PK\3\4", "PK\5\6", "PK\6\6", "PK\6\7", "data.pkl", "/data/0", "byteorder"),
        *("constants.pkl", "/code/", "little", "\xff\xff\xff\xff", "\1\0\x10\0", "\0\0\0\0"),
    ),
    "journals": ("1\n", "0\n", '"crc": ', '"metrics":', "{}", "NaN", "[[", "\r\n", "\xe2\x80\xa8"),
    "recipes": (
        *('"format":', "soupmerge-recipe/1", '"ingredients":', '"groups":', '"weights":'),
        *('"model"', '"buffers":', '"policy"', '"average"', '"base":', '"affine":', '"copied":'),
        *('"skipped":', '"calibration":', '"dtype":', '"seen":', '"origin":', '"sha256":'),
        *("NaN", "1e999", "null", "true", "0.5", "-0.5", "[]", "{}"),
    ),
    "words": (
        *("8/255", "e-99", "GiB", "clean", "union", "linf:", ">=", "*", "+", "hf-hub:", "@", ".."),
    ),
    "pickles": (
        *("\x80\2", "}", ")", "]", "(", "t", "\x85", "\x86", "\x87", "R", "Q", "u.", "s", "b", "."),
        *("h\0", "q\0", "\x94", "\x93", "\x81", "\x92", "\x8f", "\x90", "\x91", "2", "0", "1"),
        *("\x8a\x08\0\0\0\0\0\0\0\x40", "\x8b\1\0\0\0\0", "G\x7f\xf8\0\0\0\0\0\0", "K\0", "\x88"),
        *("X\1\0\0\x000", "X\7\0\0\0storage", "X\3\0\0\0cpu", "X\1\0\0\0w", "_modules"),
        *("_parameters", "_buffers", "state_dict", "optimizer", "ctorch\nFloatStorage\n"),
        *("ctorch\nSize\n", "ccollections\nOrderedDict\n", "ctorch\nfloat16\n"),
        *("ctorch._utils\n_rebuild_tensor_v2\n", "ctorch._utils\n_rebuild_tensor_v3\n"),
        *("ctorch._utils\n_rebuild_parameter\n", "ctorch.storage\nUntypedStorage\n"),
        *("ctorch._tensor\n_rebuild_from_type_v2\n", "ctorch._utils\n_rebuild_qtensor\n"),
    ),
}
"""What the files are made of, for the fuzzer to put in."""


def seeds(name: str) -> Iterator[bytes]:
    """Yield files for the target *name*."""
    makers = (headers, indexes, archives, pickles, journals, recipes, words)
    yield from {maker.__name__: maker for maker in makers}[name]()


def headers() -> Iterator[bytes]:
    """Yield safetensors files."""
    names = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I8": 1, "U8": 1, "BOOL": 1}
    for dtype, size in names.items():
        entry = {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, 6 * size]}
        header = {"w": entry, "__metadata__": {"format": "pt"}}
        yield safetensors(header, bytes(6 * size))
        yield json.dumps(header).encode() + bytes(6 * size)  # the target puts the length before it
    empty: dict[str, Any] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    scalar = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    yield safetensors({"a": empty, "b": scalar, "c": {**scalar, "data_offsets": [4, 8]}}, bytes(8))
    yield safetensors({})


def indexes() -> Iterator[bytes]:
    """Yield indexes of shards; the first byte says which file is the index."""
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    whole_map = {"weight_map": {"a": shards[0], "b": shards[1]}, "metadata": {"total_size": 8}}
    yield b"\0" + json.dumps(whole_map).encode()
    yield b"\1" + json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}).encode()
    yield b"\2" + json.dumps({"weight_map": {}}).encode()
    yield b"\3" + json.dumps({"weight_map": {"a": "../a.safetensors"}}).encode()


def journals() -> Iterator[bytes]:
    """Yield the lines of journals, to which the target gives their checksums or not."""
    lines = [json.dumps({"soup": n, "metrics": {"clean": {"correct": n}}}) for n in (0, 1)]
    yield "\n".join(["1", *lines, ""]).encode()
    yield "\n".join(["1", *lines]).encode()
    yield b"0\n" + b'{"crc": "00000000"}\n'


def recipes() -> Iterator[bytes]:
    """Yield recipes."""
    told: dict[str, Any] = {
        "format": "soupmerge-recipe/1",
        "ingredients": [{"ref": name, "sha256": name * 32} for name in ("aa", "bb")],
        "groups": "model",
        "weights": {"model": [0.25, 0.75]},
        "buffers": {"policy": "average", "base": 0},
    }
    learned = {"groups": "tensor", "weights": {"a": [0.5, 0.5], "b": [1.5, -0.5]}}
    beyond = {"origin": "learn", "affine": True, "dtype": "float16"}
    chosen = {"copied": {"a": 1}, "skipped": ["b"], "seen": [{"images": {"n": 3}}]}
    for more in ({}, learned | beyond, chosen, {"calibration": {"data": {"ref": "digits"}}}):
        yield json.dumps(told | more).encode()


def words() -> Iterator[bytes]:
    """Yield what people type."""
    typed = ("8/255", "1e-3", "1.5GiB", "0.5*clean+0.5*union", "linf:8/255>=0.4")
    yield from (text.encode() for text in (*typed, "hf-hub:owner/name@main:a/b.safetensors"))


def archives() -> Iterator[bytes]:
    """Yield zip archives."""
    plain = PROTO + mapping({"w": tensor()}) + STOP
    yield zip_around(plain)
    yield archive({"a/data.pkl": plain, "a/version": b"3\n", "a/data/0": bytes(64)})
    yield archive({"a/data.pkl": plain, "a/code/x.py": b"", "a/constants.pkl": b"."})
    yield from written(zipped=True)


def pickles() -> Iterator[bytes]:
    """Yield pickles, alone and as legacy files begin with them."""
    weights = {"w": tensor(), "b": tensor(storage(text("1")), whole(0), several(whole(6)))}
    yield PROTO + mapping(weights) + STOP
    yield PROTO + mapping({"state_dict": mapping(weights), "epoch": whole(3)}) + STOP
    ordered = named("collections.OrderedDict") + b")R(" + text("w") + tensor() + b"u"
    yield PROTO + ordered + STOP
    parameter = call("torch._utils._rebuild_parameter", tensor(), b"\x88", b"}")
    yield PROTO + mapping({"w": parameter}) + STOP
    typed = several(storage(), whole(0), call("torch.Size", several(whole(4))), several(whole(1)))
    names = (named("torch._utils._rebuild_tensor_v2"), named("torch.Tensor"))
    wrapped = call("torch._tensor._rebuild_from_type_v2", *names, typed, b"N")
    yield PROTO + mapping({"w": wrapped}) + STOP
    third = (storage(), whole(0), several(whole(4)), several(whole(1)), b"\x89", b"}")
    yield PROTO + mapping(
        {"w": call("torch._utils._rebuild_tensor_v3", *third, named("torch.int8"))}
    )
    module = mapping({"_modules": b"}", "_parameters": mapping({"w": tensor()}), "_buffers": b"}"})
    yield PROTO + named("torch.nn.Linear") + b")\x81" + module + b"b" + STOP
    shared = tensor() + keep(0)
    yield PROTO + shared + mapping({"a": b"h\0", "b": b"h\0"}) + STOP
    yield legacy_around(
        PROTO + mapping({"w": tensor(storage(None, "torch.FloatStorage", b"N"))}) + STOP
    )
    for protocol in (2, 3, 4, 5):
        values = [1, -(2**70), 1.5, "é", b"raw", None, True, (1, 2, 3, 4), {1}, frozenset((2,)), 3j]
        yield pickle.dumps(OrderedDict(a=values, b=bytearray(b"x")), protocol)
    yield from written(zipped=False)


def written(*, zipped: bool) -> Iterator[bytes]:
    """Yield what torch writes, if it is there: zip archives whole, or their pickles and legacy."""
    if importlib.util.find_spec("torch") is None:
        return
    import zipfile

    import torch

    full = torch.arange(12.0).view(3, 4)
    states = [
        {"w": full, "b": full[0], "t": full.t(), "n": torch.tensor(3), "h": full.bfloat16()},
        {"state_dict": OrderedDict(w=full), "optimizer": {"state": {0: {"m": full}}}, "epoch": 1},
        {"w": torch.nn.Parameter(full), "u": torch.zeros(2, dtype=torch.uint16), "e": full[:0]},
        {
            "w": full.to_sparse(),
            "c": torch.complex(full, full),
            "j": torch.complex(full, full).conj(),
        },
        torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)),
    ]
    for state in states:
        new, old = io.BytesIO(), io.BytesIO()
        torch.save(state, new)
        torch.save(state, old, _use_new_zipfile_serialization=False)
        if zipped:
            yield new.getvalue()
            continue
        with zipfile.ZipFile(new) as opened:
            yield opened.read(next(n for n in opened.namelist() if n.endswith("data.pkl")))
        yield old.getvalue()


def write(folder: Path) -> None:
    """Write all seeds under *folder*, one folder for each target."""
    for name in WORDS:
        home = folder / name
        home.mkdir(parents=True, exist_ok=True)
        maker = "torch" if importlib.util.find_spec("torch") else "plain"
        for number, seed in enumerate(seeds(name)):
            (home / f"seed-{maker}-{number}").write_bytes(seed)


def dictionary(name: str) -> str:
    """Return the words of the target *name* as libFuzzer takes them."""
    escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode("latin-1")) for word in WORDS[name])
    return "".join(f'"{word}"\n' for word in escaped)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
