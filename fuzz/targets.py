"""What is fuzzed, and the law of it: a reader returns, or raises an error of ours.

Besides, what it returns lies within the file, and reading opens nothing else, imports nothing and
starts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fuzz.assembling import LEGACY, legacy_around, safetensors, zip_around
from soupmerge import numbers
from soupmerge.errors import SoupmergeError
from soupmerge.soups.judge.metrics import Condition, Metric
from soupmerge.sources.hub.refs import HubRef
from soupmerge.storage import journal
from soupmerge.storage.reading import StableFile
from soupmerge.weights import archives, headers, pickles, places, recipe, recipe_files, torchfiles
from soupmerge.weights.tensors import View

T = TypeVar("T")

FORBIDDEN = ("import", "exec", "os.", "pickle.", "socket.", "subprocess.", "ctypes.", "shutil.")
HARMLESS = ("os.listdir", "os.scandir", "os.stat")

INDEXES = (
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "other.safetensors.index.json",
    ".index.json",
)
SHARDS = (
    *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
    *("pytorch_model-00001-of-00001.bin", "other.safetensors", "b.bin"),
)


def _with_checksum(line: bytes) -> bytes:
    """Return *line* with its checksum if it may be an object of JSON."""
    try:
        return journal._with_checksum(line.decode()).encode() if line[-1:] == b"}" else line
    except UnicodeDecodeError:
        return line


class LawError(Exception):
    """The law was broken."""


def require(holds: bool, what: str) -> None:
    """Break off unless the law *holds*."""
    if not holds:
        raise LawError(what)


class Watch:
    """Sees what Python does while a reader is at work, by its audit events."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.armed, self.on = str(folder), False, False
        self.seen: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Note *event* if no reader should cause it."""
        if not self.on:
            return
        strange = event.startswith(FORBIDDEN) and event not in HARMLESS
        elsewhere = event == "open" and not str(args[0]).startswith(self.folder)
        if strange or (elsewhere and not isinstance(args[0], int)):
            self.seen.append(f"{event} {args[:1]!r}")


class Workplace:
    """A folder for the files, and the targets that put them there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watch = Watch(folder)
        self.targets: dict[str, Callable[[bytes], None]] = {
            "headers": self.headers,
            "pickles": self.pickles,
            "indexes": self.indexes,
            "archives": self.archives,
            "journals": self.journals,
            "recipes": self.recipes,
            "words": self.words,
        }
        self.shards = folder / "shards"
        self.shards.mkdir()
        for shard in SHARDS:
            (self.shards / shard).touch()
        (self.shards / "other-1-of-1").mkdir()

    def lawful(self, read: Callable[[], T], size: int, ours: type[Exception]) -> T | None:
        """Return what *read* returns, or nothing if it raises *ours*."""
        self.watch.on = self.watch.armed
        try:
            return read()
        except ours as error:
            require(len(str(error)) < 2 * size + (1 << 20), "the error is far too long")
            return None
        finally:
            self.watch.on = False
            require(not self.watch.seen, f"reading did {self.watch.seen[:3]}")

    def written(self, name: str, data: bytes) -> StableFile:
        """Return the file *name* that holds *data*."""
        path = self.folder / name
        path.write_bytes(data)
        return StableFile.seen(path)

    def headers(self, data: bytes) -> None:
        """Read a safetensors header, given with its length or without."""
        end = data.rfind(b"}") + 1
        whole = safetensors(data[:end], data[end:]) if data.startswith(b"{") else data
        file = self.written("a.safetensors", whole)
        found = self.lawful(lambda: headers.read(file), len(data), SoupmergeError)
        if found is not None:
            views, metadata = found
            self.inside(views, file)
            texts = all(isinstance(word, str) for item in metadata.items() for word in item)
            require(texts, "metadata are no texts")

    def pickles(self, data: bytes) -> None:
        """Read a pickle, and the torch files that hold it."""
        self.lawful(lambda: pickles.read(data), len(data), pickles.PickleError)
        legacy = data if data.startswith(LEGACY[:10]) else legacy_around(data)
        for whole, foreign in ((zip_around(data), True), (legacy, False)):
            file = self.written("a.pt", whole)
            self.load(file, foreign)

    def archives(self, data: bytes) -> None:
        """Open a zip archive, compare its checksums, and load what is in it."""
        file = self.written("a.pt", data)
        found = self.lawful(lambda: archives.open_zip(file), len(data), SoupmergeError)
        if found is not None:
            for key, storage in found.storages.items():
                require(isinstance(key, str), "a key is no text")
                inside = 0 <= storage.start <= storage.start + storage.size <= file.size
                require(inside, f"storage {key!r} lies outside of the file")
            self.lawful(lambda: found.verify(found.storages), len(data), SoupmergeError)
            self.load(file, True)

    def indexes(self, data: bytes) -> None:
        """Find the files behind an index; the first byte says which file is the index."""
        index = self.shards / INDEXES[data[0] % len(INDEXES) if data else 0]
        index.write_bytes(data[1:])
        try:
            for path in (index, self.shards):
                found = self.lawful(lambda: places.place_of(path), len(data), SoupmergeError)  # noqa: B023
                for file in found.files if found else ():
                    require(file.parent == self.shards and file.is_file(), f"{file} is no shard")
        finally:
            index.unlink()

    def journals(self, data: bytes) -> None:
        """Read a journal, and what a kill would have left of it: the same records, but fewer.

        Its first line says whether the others get their checksums, which nobody guesses.
        """
        first, _, data = data.partition(b"\n")
        if first == b"1":
            data = b"\n".join(map(_with_checksum, data.split(b"\n")))
        file = self.written("trials.jsonl", data)
        found = self.lawful(lambda: journal.read(file.path), len(data), SoupmergeError)
        if found is not None:
            require(all(isinstance(record, dict) for record in found), "a record is no object")
            self.written("trials.jsonl", data[: len(data) // 2])
            half = journal.read(file.path)
            require(half == found[: len(half)], "a torn journal has other records")

    def recipes(self, data: bytes) -> None:
        """Read a recipe; what it says is read back from what it writes."""
        file = self.written("recipe.json", data)
        found = self.lawful(lambda: recipe_files.read_recipe(file.path), len(data), SoupmergeError)
        if found is not None:
            again = recipe.Recipe.from_json(found.to_json(), where="itself")
            require(again == found, "a recipe is not what it says")

    def words(self, data: bytes) -> None:
        """Read what people type: numbers, sizes, metrics, conditions, references."""
        text = data.decode("utf-8", "surrogateescape")
        readers: tuple[Callable[[str], object], ...] = (
            lambda text: numbers.exact(text, "x"),
            lambda text: numbers.size(text, "x"),
            Metric.parse,
            Condition.parse,
            HubRef.parse,
        )
        for read in readers:
            self.lawful(lambda: read(text), len(data), SoupmergeError)  # noqa: B023

    def load(self, file: StableFile, foreign: bool) -> None:
        """Load a torch file."""
        found = self.lawful(
            lambda: torchfiles.load(file, foreign=foreign), file.size, SoupmergeError
        )
        if found is not None:
            self.inside(found.views, file)
            require(all(name in found.views for tie in found.ties for name in tie), "odd ties")

    def inside(self, views: Mapping[str, View], file: StableFile) -> None:
        """Require that *views* lie within *file*, and read a few of them."""
        for number, (name, view) in enumerate(views.items()):
            require(isinstance(name, str), "a name is no text")
            stride, shape = view.stride, view.info.shape
            last = view.info.numel - 1
            if stride is not None and view.info.numel:
                last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
            start, size = view.start, (last + 1) * view.info.dtype.itemsize
            require(type(start) is int, f"starts at {start!r}")
            require(0 <= start <= start + size <= file.size, f"{name!r} lies outside of the file")
            require(view.info.bytes <= file.size, f"{name!r} is larger than the file")
            if number < 4:
                read = self.lawful(view.array, file.size, SoupmergeError)
                require(read is None or read.size == view.info.numel, f"{name!r} is not read whole")
