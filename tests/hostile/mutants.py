"""Good files, damaged by chance: bytes of any file, values of what is JSON."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 70,
    0.5,
    float("nan"),
    "",
    "model",
    "../x",
    "\ud800",
    [],
    [[]],
    {},
    {"a": {}},
    [0, 8],
    "F32",
    "HUGE",
)


def good_state(seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    table = torch.randn(5, 4, generator=draw)
    return {
        "bn.num_batches_tracked": torch.tensor(7),
        "bn.running_var": torch.rand(4, generator=draw),
        "conv.weight": table.t(),
        "embed.weight": table,
        "half": torch.ones(3).half(),
    }


def whole_state() -> dict[str, torch.Tensor]:
    """Return the same for safetensors, whose writer takes no views."""
    return {name: t.clone().contiguous() for name, t in good_state().items()}


GOOD = safetensors.torch.save(whole_state(), {"soupmerge": '{"model": "digits-cnn"}'})


def bytes_of(draw: random.Random, data: bytes) -> bytes:
    """Return *data* with some bytes flipped, cut off, put in, taken out or moved."""

    def place() -> int:
        """Return somewhere in *data*, and often near its ends, where most is said."""
        edge = draw.randrange(min(400, len(data)))
        return draw.choice((edge, len(data) - 1 - edge, draw.randrange(len(data))))

    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at, length = place(), draw.choice((1, 1, 2, 8, 60))
        kind = draw.choice(("flip", "flip", "set", "cut", "insert", "remove", "splice"))
        if kind == "flip":
            data = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
        elif kind == "set":
            data = data[:at] + draw.choice((b"\0", b"\xff", b"\x80")) * length + data[at + length :]
        elif kind == "cut":
            data = data[: max(at, 1)]
        elif kind == "insert":
            data = data[:at] + draw.randbytes(length) + data[at:]
        elif kind == "remove":
            data = data[:at] + data[at + length :] or b"\0"
        else:
            start = place()
            data = data[:at] + data[start : start + length] + data[at + length :] or b"\0"
    return data


def values_of(draw: random.Random, value: Any) -> Any:
    """Return the JSON *value* with one of its parts replaced, renamed or left out."""
    value = json.loads(json.dumps(value))
    holder: Any = [value]
    key: Any = 0
    while isinstance(holder[key], (dict, list)) and holder[key] and draw.random() < 0.8:
        holder = holder[key]
        key = draw.choice(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = draw.choice(("replace", "replace", "replace", "rename", "drop"))
    if kind == "rename" and isinstance(holder, dict):
        holder[draw.choice(("", "a\0b", key + "x", "__metadata__"))] = holder.pop(key)
    elif kind == "drop" and isinstance(holder, dict):
        del holder[key]
    elif holder == [value]:
        return draw.choice(VALUES)
    else:
        holder[key] = draw.choice(VALUES)
    return value


Maker = Callable[[Path, random.Random], Path]
KINDS: dict[str, Maker] = {}


def kind(make: Maker) -> Maker:
    KINDS[make.__name__] = make
    return make


def bytes_in(path: Path, draw: random.Random) -> Path:
    path.write_bytes(bytes_of(draw, path.read_bytes()))
    return path


@kind
def safetensors_bytes(home: Path, draw: random.Random) -> Path:
    (home / "x.safetensors").write_bytes(GOOD)
    return bytes_in(home / "x.safetensors", draw)


@kind
def safetensors_values(home: Path, draw: random.Random) -> Path:
    length = int.from_bytes(GOOD[:8], "little")
    text = _dump(values_of(draw, json.loads(GOOD[8 : 8 + length])))
    path = home / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + GOOD[8 + length :])
    return path


@kind
def zip_bytes(home: Path, draw: random.Random) -> Path:
    torch.save(good_state(), home / "x.pt")
    return bytes_in(home / "x.pt", draw)


@kind
def pickle_bytes(home: Path, draw: random.Random) -> Path:
    """Right checksums around a damaged pickle, so that somebody reads it."""
    torch.save(good_state(), home / "whole.pt")
    with zipfile.ZipFile(home / "whole.pt") as whole, zipfile.ZipFile(home / "x.pt", "w") as made:
        for record in whole.infolist():
            data = whole.read(record)
            named = record.filename.endswith("/data.pkl")
            made.writestr(record.filename, bytes_of(draw, data) if named else data)
    return home / "x.pt"


@kind
def legacy_bytes(home: Path, draw: random.Random) -> Path:
    torch.save(good_state(), home / "x.pt", _use_new_zipfile_serialization=False)
    return bytes_in(home / "x.pt", draw)


def sharded(home: Path) -> tuple[Path, dict[str, Any]]:
    tensors = whole_state()
    (home / "x").mkdir()
    names = {}
    for i, (name, tensor) in enumerate(tensors.items(), start=1):
        names[name] = f"model-0000{i}-of-00005.safetensors"
        safetensors.torch.save_file({name: tensor}, home / "x" / names[name])
    return home / "x" / "model.safetensors.index.json", {"metadata": {}, "weight_map": names}


@kind
def index_bytes(home: Path, draw: random.Random) -> Path:
    path, value = sharded(home)
    path.write_bytes(bytes_of(draw, json.dumps(value, indent=1).encode()))
    return path


@kind
def index_values(home: Path, draw: random.Random) -> Path:
    path, value = sharded(home)
    path.write_bytes(_dump(values_of(draw, value)))
    return path


RECIPE = {
    "format": "soupmerge-recipe/1",
    "ingredients": [{"ref": f"{name}.safetensors", "sha256": name * 64} for name in "ab"],
    "groups": "block",
    "weights": {"conv": [0.25, 0.75], "embed": [1.0, 0.0]},
    "buffers": {"policy": "average", "base": 0},
    "origin": "mix",
    "copied": {"half": 0},
    "skipped": ["head"],
}


@kind
def recipe_bytes(home: Path, draw: random.Random) -> Path:
    text = json.dumps(RECIPE, indent=1).encode()
    (home / "x.json").write_bytes(bytes_of(draw, text))
    return home / "x.json"


@kind
def recipe_values(home: Path, draw: random.Random) -> Path:
    (home / "x.json").write_bytes(_dump(values_of(draw, RECIPE)))
    return home / "x.json"


@kind
def note_values(home: Path, draw: random.Random) -> Path:
    """A soup whose notes say something else than soupmerge would write."""
    notes = {"model": "digits-cnn", "recipe": RECIPE, "training": {"objective": {"a": "b"}}}
    notes["family"] = [{"ref": "a", "sha256": "b", "parents": [{"ref": "c", "sha256": "d"}]}] * 2
    metadata = {"soupmerge": _dump(values_of(draw, notes)).decode()}
    safetensors.torch.save_file(whole_state(), home / "x.safetensors", metadata)
    return home / "x.safetensors"


def _dump(value: Any) -> bytes:
    """Return *value* as JSON, which may have larger numbers than Python likes to write."""
    text = json.dumps(value).replace(json.dumps("HUGE"), "9" * 5000)
    return text.encode()


def seeds(name: str, count: int) -> Iterator[tuple[int, random.Random]]:
    return ((seed, random.Random(f"{name} {seed}")) for seed in range(count))
