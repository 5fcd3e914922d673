"""`Checkpoint`: the weights in a file or folder, read lazily, with wrappers removed.

Safetensors and torch files are read, single or sharded. Code in a file is never run: pickles are
read as data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soupmerge.errors import InputError, NumericsError, enumerated
from soupmerge.storage.reading import DuplicateKeyError, StableFile, parse_json
from soupmerge.weights import buffers, headers, torchfiles
from soupmerge.weights.kinds import SAFETENSORS, kind_of
from soupmerge.weights.places import place_of
from soupmerge.weights.tensors import Array, TensorInfo, View, is_finite
from soupmerge.wrappers import PREFIXES

if TYPE_CHECKING:
    from torch import Tensor

NOTES = "soupmerge"
"""Key of soupmerge's notes in a file's metadata."""

UNSOUND = "holds NaN, Inf or variances below 0"
"""Message about weights that no network can have."""

LONGEST_NAME = 1000
CHUNK = 1 << 20
"""Numbers that are checked at a time."""


@dataclass(frozen=True)
class _Part:
    """The tensors of one file."""

    views: Mapping[str, View]
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Checkpoint(Mapping[str, "Tensor"]):
    """The weights at *ref*: tensor name → tensor, read on access, sorted by name.

    Attributes:
        ref: the reference as given.
        sources: the files of the tensors, which must not change.
        views: tensor name → its dtype, shape and position in a file.
        metadata: the metadata in the files; `notes_of_soupmerge` parses soupmerge's own.
        notes: what was unwrapped, ignored or stripped to get to the tensors.
        ties: names that share their numbers, where the file records it.
        links: a message for each file that is a link out of its folder; also in *notes*.
        digest: the hash of weights that were mixed from *sources* and are not in them.
    """

    ref: str
    sources: tuple[StableFile, ...]
    views: Mapping[str, View]
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    links: tuple[str, ...] = ()
    digest: str | None = None

    def __getitem__(self, name: str) -> Tensor:
        view = self.views[name]
        return view.info.tensor(view.array())

    def __iter__(self) -> Iterator[str]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)

    def __contains__(self, name: object) -> bool:
        return name in self.views

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the tensors."""
        return tuple(source.path for source in self.sources)

    @cached_property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Name → dtype and shape."""
        return {name: view.info for name, view in self.views.items()}

    def __repr__(self) -> str:
        return f"Checkpoint({self.ref!r}, {len(self)} tensors, {self.numel} numbers)"

    @property
    def numel(self) -> int:
        """How many numbers there are in all tensors."""
        return sum(info.numel for info in self.infos.values())

    @property
    def sha256(self) -> str:
        """Hash of the file, or of the list of all files' hashes if there are several."""
        if self.digest is not None:
            return self.digest
        if "_digest" not in self.__dict__:  # before Python 3.12, cached_property has a lock
            digests = [source.sha256() for source in self.sources]
            self.__dict__["_digest"] = sha256_of(digests)
        digest: str = self.__dict__["_digest"]
        return digest

    def non_finite(self) -> dict[str, int]:
        """Return tensor name → how many of its numbers are NaN or Inf, where any are."""
        return self._counted(
            lambda piece: 0 if is_finite(piece) else int((~np.isfinite(piece)).sum())
        )

    def negative_variances(self) -> dict[str, int]:
        """Return name of a batch-norm variance → how many of its numbers are below 0, if any."""
        return self._counted(lambda piece: int((piece < 0).sum()), buffers.is_variance)

    def _counted(
        self, count: Callable[[Array], int], wanted: Callable[[str], bool] = bool
    ) -> dict[str, int]:
        floats = (n for n, info in self.infos.items() if info.dtype.is_floating_point)
        with np.errstate(all="ignore"):
            counts = {n: sum(map(count, _pieces(self.views[n]))) for n in floats if wanted(n)}
        return {name: number for name, number in counts.items() if number}

    def faults(self, names: Collection[str] | None = None) -> list[str]:
        """Return a message for each tensor with NaN, Inf or variances below 0.

        Args:
            names: the tensors to check; default all.
        """
        kinds = (self.non_finite(), "NaN or Inf"), (self.negative_variances(), "variances below 0")
        return [
            f"{name}: {number:,} of {self.infos[name].numel:,} numbers are {kind}"
            for counts, kind in kinds
            for name, number in counts.items()
            if names is None or name in names
        ]

    def require_sound(self) -> None:
        """Reject weights that hold NaN, Inf or variances below 0.

        Raises:
            NumericsError: they do; all such tensors are listed.
        """
        if faults := self.faults():
            raise NumericsError(UNSOUND, problems=faults, where=self.ref, fix="leave it out")

    @property
    def notes_of_soupmerge(self) -> dict[str, Any]:
        """What soupmerge recorded in the file: the network, the recipe, the training.

        Empty if the notes are malformed, as the file may come from anyone.

        Raises:
            InputError: a key appears twice, so that readers may disagree on its value.
        """
        try:
            notes = parse_json(self.metadata.get(NOTES, "{}"))
        except DuplicateKeyError as error:
            fix = "use the file as soupmerge wrote it"
            raise InputError(f"in its notes, {error}", where=self.ref, fix=fix) from error
        except (ValueError, RecursionError):
            return {}
        return notes if isinstance(notes, dict) else {}

    @property
    def model(self) -> str | None:
        """The reference of the network, if the file names it."""
        model = self.notes_of_soupmerge.get("model")
        return model if isinstance(model, str) else None

    def rows(self) -> list[tuple[str, str]]:
        """Return the contents of the checkpoint as table rows: label and text."""
        kinds = sorted({str(info.dtype) for info in self.infos.values()})
        return [
            ("files", ", ".join(str(file) for file in self.files)),
            ("sha256", self.sha256),
            ("tensors", str(len(self))),
            ("numbers", f"{self.numel:,}"),
            ("dtypes", ", ".join(kinds)),
            ("NaN or Inf", enumerated(_listed(self.non_finite())) or "none"),
            ("variances below 0", enumerated(_listed(self.negative_variances())) or "none"),
            ("unwrapped", "; ".join(n for n in self.notes if n not in self.links) or "nothing"),
            ("links", enumerated(self.links) or "none out of their folder"),
            ("tied", enumerated([" = ".join(tie) for tie in self.ties]) or "none known"),
            ("model", self.model or "not named in the file"),
        ]


def sha256_of(digests: Sequence[str]) -> str:
    """Return the one hash in *digests*, or the hash of their list if there are several."""
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()
    )


def open_checkpoint(
    ref: str | Path, *, weights_key: str | None = None, foreign: bool = False
) -> Checkpoint:
    """Open the file or folder *ref*; tensors are read on access.

    Args:
        ref: a file of weights, or a folder that holds one (or shards and their index).
        weights_key: which state dict to take from a file that wraps several, as ``a.b``.
        foreign: read a torch file even if it names code, none of which is run.

    Raises:
        InputError: missing, truncated, not a checkpoint, or with several state dicts and no
            *weights_key*; all problems are listed.
        UnsafeError: it names code, would take more memory than its size, or its index refers to
            files outside its folder.
    """
    place = place_of(Path(ref))
    files = tuple(StableFile.seen(path) for path in place.files)
    parts = {file.path: _open_part(file, weights_key, foreign) for file in files}
    where = place.index or ref
    if problems := list(place.misplaced({path: set(part.views) for path, part in parts.items()})):
        fix = "download it again"
        raise InputError("does not match its index", problems=problems, where=where, fix=fix)
    views = {name: view for part in parts.values() for name, view in part.views.items()}
    _require_names(where, views)
    notes = [*place.links, *(note for part in parts.values() for note in part.notes)]
    prefix = _shared_prefix(views)
    if prefix:
        notes.append(f"stripped the prefix {prefix!r} that all names share")
    stripped = {name.removeprefix(prefix): views[name] for name in sorted(views)}
    ties = tuple(
        tuple(sorted(name.removeprefix(prefix) for name in tie))
        for part in parts.values()
        for tie in part.ties
    )
    if len({part.metadata[NOTES] for part in parts.values() if NOTES in part.metadata}) > 1:
        what = "consists of shards whose notes differ"
        raise InputError(what, where=where, fix="use the shards of a single soup")
    metadata = {key: text for part in parts.values() for key, text in part.metadata.items()}
    notes = [*dict.fromkeys(notes)]
    return Checkpoint(_legible(ref), files, stripped, metadata, tuple(notes), ties, place.links)


def _open_part(file: StableFile, weights_key: str | None, foreign: bool) -> _Part:
    if kind_of(file) == SAFETENSORS:
        if weights_key is not None:
            what = f"has no weights {weights_key!r}: safetensors files are not nested"
            raise InputError(what, where=file.path, fix="omit --weights-key")
        views, metadata = headers.read(file)
        return _Part(views, metadata)
    loaded = torchfiles.load(file, weights_key, foreign=foreign)
    return _Part(loaded.views, {}, loaded.notes, loaded.ties)


def _require_names(where: object, names: Iterable[str]) -> None:
    names = list(names)
    if not names:
        raise InputError("holds no tensors", where=where, fix="give a file of weights")
    odd = [
        repr(name if len(name) <= LONGEST_NAME else f"{name[:60]}…")
        for name in names
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or ".." in name
    ]
    if odd:
        what = "has tensors whose names are empty, too long or misleading"
        raise InputError(what, problems=sorted(odd), where=where, fix="rename them")


def _legible(ref: str | Path) -> str:
    """Return *ref* as text, with bytes of a path that are not UTF-8 escaped."""
    return str(ref).encode("utf-8", "backslashreplace").decode("utf-8")


def _shared_prefix(names: Iterable[str]) -> str:
    """Return the sequence of wrappers' prefixes that all *names* begin with."""
    names, stripped = list(names), ""
    while True:
        for prefix in PREFIXES:
            if all(len(n) > len(prefix) and n.startswith(prefix) for n in names):
                stripped += prefix
                names = [n.removeprefix(prefix) for n in names]
                break
        else:
            return stripped


def _pieces(view: View) -> Iterator[Array]:
    """Yield the numbers of a tensor in pieces, all in one buffer that is reused."""
    read, numel = view.reader(), view.info.numel
    buffer = np.empty(min(CHUNK, numel), view.info.dtype.numpy)
    for start in range(0, numel, CHUNK):
        yield read(start, buffer[: numel - start])


def _listed(counts: Mapping[str, int]) -> list[str]:
    return [f"{name} ({number:,})" for name, number in counts.items()]
