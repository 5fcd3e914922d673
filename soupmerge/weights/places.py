"""From a reference to the files behind it: a file, a folder, an index of shards."""

from __future__ import annotations

from pathlib import Path

from soupmerge.errors import InputError, UnsafeError
from soupmerge.storage.reading import read_json

SUFFIXES = (".safetensors", ".pt", ".pth", ".tar", ".th", ".ckpt", ".bin")
PREFERRED = (
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "soup.safetensors",
    "model.safetensors",
    "pytorch_model.bin",
)
"""What stands for a folder, best first."""


def files_of(path: Path) -> list[Path]:
    """Return the files that hold the weights at *path*.

    Raises:
        InputError: nothing is there, or not one set of weights.
        UnsafeError: an index points out of its folder.
    """
    try:
        if path.is_dir():
            return _files_in(path)
        if path.name.endswith(".index.json"):
            return _shards(path)
        if not path.exists():
            raise InputError("there is no such file or folder", where=path, fix=_neighbour(path))
        if not path.is_file():
            raise InputError("is not a regular file", where=path, fix="name a file of weights")
    except OSError as error:
        raise InputError(f"cannot be reached: {error.strerror}", where=path) from error
    return [path]


def announced(path: Path) -> set[str]:
    """Return the tensors that the index at *path* names, if there is one."""
    indexes = (
        [path] if path.name.endswith(".index.json") else [path / name for name in PREFERRED[:2]]
    )
    index = next((i for i in indexes if i.is_file()), None)
    return set(read_json(index)["weight_map"]) if index else set()


def _neighbour(path: Path) -> str:
    found = (
        [f for f in path.parent.glob("*") if f.stem == path.stem] if path.parent.is_dir() else []
    )
    return f"did you mean {found[0]}?" if found else "check the path"


def _files_in(folder: Path) -> list[Path]:
    for name in PREFERRED:
        if (folder / name).is_file():
            return _shards(folder / name) if name.endswith(".json") else [folder / name]
    found = sorted(f for f in folder.iterdir() if f.suffix in SUFFIXES and f.is_file())
    if len(found) != 1:
        listed = ", ".join(f.name for f in found) or "none"
        raise InputError(
            f"this folder should hold one file of weights, found {listed}", where=folder
        )
    return found


def _shards(index: Path) -> list[Path]:
    value = read_json(index)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise InputError("is not an index of shards: it has no weight_map", where=index)
    shards = sorted(set(names.values()))
    outside = [name for name in shards if Path(name).name != name or name in ("", "..")]
    if outside:
        raise UnsafeError(f"points out of its folder: {outside[0]!r}", where=index)
    missing = [
        f"shard {name!r} is missing" for name in shards if not (index.parent / name).is_file()
    ]
    if missing:
        raise InputError("is incomplete", problems=missing, where=index, fix="download it again")
    return [index.parent / name for name in shards]
