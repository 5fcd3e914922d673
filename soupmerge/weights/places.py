"""The files behind a path: a single file, a folder, or the shards of an index."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soupmerge.errors import InputError, UnsafeError, enumerated
from soupmerge.storage.reading import read_json
from soupmerge.weights.kinds import TORCH_NAMES

SUFFIXES = (".safetensors", *TORCH_NAMES)
INDEX = ".index.json"
PREFERRED = (
    ("model.safetensors", "model.safetensors" + INDEX),
    ("soup.safetensors",),
    ("pytorch_model.bin", "pytorch_model.bin" + INDEX),
)
"""The files that represent a folder, best first; a folder may hold only one of each row."""


@dataclass(frozen=True)
class Place:
    """The files of one checkpoint; if they are shards, their index and its weight map."""

    files: tuple[Path, ...]
    index: Path | None = None
    weight_map: Mapping[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    """A message for each file that is a link out of its folder."""

    def misplaced(self, contents: Mapping[Path, set[str]]) -> Iterator[str]:
        """Yield a message for each difference between the *contents* of the files and the index."""
        homes: dict[str, Path] = {}
        for file, names in contents.items():
            for name in sorted(names & set(homes)):
                yield f"{name!r} is in {homes[name].name} and in {file.name}"
            homes.update(dict.fromkeys(names, file))
        if self.index is None:
            return
        for name in sorted(set(self.weight_map) - set(homes)):
            yield f"{name!r} should be in {self.weight_map[name]}, but no shard holds it"
        for name in sorted(set(homes) - set(self.weight_map)):
            yield f"{name!r} is in {homes[name].name}, but not in the index"


def place_of(path: Path) -> Place:
    """Return the files that hold the weights at *path*.

    Raises:
        InputError: there are none, or more than one set of weights.
        UnsafeError: an index refers to files outside its folder.
    """
    try:
        if path.is_dir():
            return _in_folder(path)
        if path.name.endswith(INDEX):
            return _shards(path)
        if not path.exists():
            raise InputError("there is no such file or folder", where=path, fix=_neighbour(path))
        if not path.is_file():
            raise InputError("is not a regular file", where=path, fix="give a file of weights")
    except OSError as error:
        fix = "check its path and permissions"
        raise InputError(f"cannot be read: {error.strerror}", where=path, fix=fix) from error
    return Place((path,))


def _neighbour(path: Path) -> str:
    siblings = path.parent.glob("*") if path.parent.is_dir() else ()
    near = next((file for file in siblings if file.stem == path.stem), None)
    return f"did you mean {near}?" if near else "check the path"


def _in_folder(folder: Path) -> Place:
    deeper = sorted(f for f in folder.glob("*/*") if f.suffix in SUFFIXES)
    names = [f.name for f in folder.iterdir() if f.is_file()]
    name = preferred(names, folder, near=[str(f) for f in deeper], written=f"{folder}/")
    if name.endswith(INDEX):
        return _shards(folder / name)
    return Place((folder / name,), links=_links([folder / name]))


def preferred(
    names: Sequence[str], where: object, *, near: Sequence[str] = (), written: str = ""
) -> str:
    """Return which of the files *names* represents the folder *where*: weights, or an index.

    Args:
        near: other references to suggest if there are no weights.
        written: prefix that makes a name a reference to suggest.

    Raises:
        InputError: none does, or several could.
    """
    for row in PREFERRED:
        present = [name for name in row if name in names]
        if len(present) > 1:
            what = f"holds both {' and '.join(present)}, which may be two models"
            raise InputError(what, where=where, fix="give the path of one of them")
        if present:
            return present[0]
    files = sorted(name for name in names if Path(name).suffix in SUFFIXES)
    if len(files) == 1:
        return files[0]
    what = f"should hold one file of weights, found {enumerated(files) or 'none'}"
    close = [written + name for name in files] or near
    fix = f"did you mean {close[0]}?" if close else "give a file of weights"
    raise InputError(what, where=where, fix=fix)


def _shards(index: Path) -> Place:
    names = shards_of(index)
    shards = sorted(set(names.values()))
    problems = [
        f"shard {name!r} is missing" for name in shards if not (index.parent / name).is_file()
    ]
    problems += [f"{name} is not in the index" for name in _strays(index, shards)]
    if problems:
        raise InputError("is incomplete", problems=problems, where=index, fix="download it again")
    files = tuple(index.parent / name for name in shards)
    return Place(files, index, names, _links([index, *files]))


def shards_of(index: Path) -> Mapping[str, str]:
    """Return tensor name → the shard that holds it, a file beside *index*.

    Raises:
        InputError: *index* is not an index of shards.
        UnsafeError: it refers to files outside its folder.
    """
    value = read_json(index)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        fix = "download it again"
        raise InputError("is not an index of shards: it has no weight_map", where=index, fix=fix)
    shards = sorted(set(names.values()))
    suffix = Path(index.name.removesuffix(INDEX)).suffix
    first = {shard: key for key, shard in reversed(names.items())}
    harmful = [f"{first[s]!r} is in {fault}" for s in shards for fault in _harm(s, suffix)]
    if harmful:
        fix = "get it from a trusted source"
        raise UnsafeError(
            "names files that cannot be shards", problems=harmful, where=index, fix=fix
        )
    return names


def _links(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(
        f"{file.name} is a link out of its folder, to {os.path.realpath(file)}"
        for file in files
        if file.is_symlink() and _leads_out(file)
    )


def _leads_out(link: Path) -> bool:
    """Return whether *link* leads out of its folder; the blobs of the Hub's cache do not count."""
    folder, target = Path(os.path.realpath(link.parent)), Path(os.path.realpath(link))
    snapshots = [parent for parent in (folder, *folder.parents) if parent.name == "snapshots"]
    homes = [folder, *(parent.with_name("blobs") for parent in snapshots)]
    return not any(target.is_relative_to(home) for home in homes)


def _harm(name: str, suffix: str) -> Iterator[str]:
    # An allow-list: these characters cannot name a folder, drive, share, device or stream.
    if not re.fullmatch(r"\w[\w. =+-]*", name) or ".." in name:
        yield f"{name!r}, which may be outside its folder"
    elif not name.endswith(suffix):
        yield f"{name!r}, which is not a {suffix} file"


def _strays(index: Path, shards: list[str]) -> list[str]:
    """Return files that look like shards of *index* but are not in it."""

    def pattern(name: str) -> str:
        return re.sub(r"\d+", "#", name)

    patterns = {pattern(name) for name in shards if re.search(r"-of-\d+", name)}
    files = sorted(f.name for f in index.parent.iterdir())
    return [name for name in files if pattern(name) in patterns and name not in shards]
