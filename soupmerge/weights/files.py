"""Weights on disk → `Checkpoint`: one file or folder, read lazily, unwrapped, said so.

Reads safetensors and torch pickles, single or sharded. No code from a file ever runs:
``torch.load`` is always called with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from soupmerge.binding import WRAPPER_PREFIXES
from soupmerge.errors import InputError, NumericsError
from soupmerge.weights import pickles
from soupmerge.weights.formats import DTYPES, TensorInfo
from soupmerge.weights.kinds import SAFETENSORS, kind_of
from soupmerge.weights.places import announced, files_of


@dataclass(frozen=True)
class _Part:
    """One opened file: how to read each of its tensors."""

    infos: Mapping[str, TensorInfo]
    read: Any
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Checkpoint(Mapping[str, Tensor]):
    """Weights at *ref*, read lazily: tensor name → tensor, in order of names.

    Attributes:
        ref: the reference as it was given.
        files: the files that hold the tensors.
        infos: dtype and shape of each tensor.
        metadata: what the writer noted; soupmerge's own notes are in `notes_of_soupmerge`.
        notes: what was unwrapped or stripped to get at the tensors.
    """

    ref: str
    files: tuple[Path, ...]
    infos: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    notes: tuple[str, ...]
    _homes: Mapping[str, tuple[_Part, str]]

    def __getitem__(self, name: str) -> Tensor:
        part, original = self._homes[name]
        tensor: Tensor = part.read(original)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def __repr__(self) -> str:
        return f"Checkpoint({self.ref!r}, {len(self)} tensors, {self.numel} numbers)"

    @property
    def numel(self) -> int:
        """How many numbers all tensors hold."""
        return sum(torch.Size(info.shape).numel() for info in self.infos.values())

    @cached_property
    def sha256(self) -> str:
        """Hash of the file, or of the list of all files' hashes if there are several."""
        digests = [_sha256(file) for file in self.files]
        return (
            digests[0]
            if len(digests) == 1
            else hashlib.sha256(" ".join(digests).encode()).hexdigest()
        )

    def non_finite(self) -> list[str]:
        """Return the names of the tensors that hold NaN or Inf."""
        return [
            n
            for n, info in self.infos.items()
            if info.dtype.is_floating_point and not _finite(self[n])
        ]

    def require_finite(self) -> None:
        """Refuse weights that hold NaN or Inf.

        Raises:
            NumericsError: they do; all tensors that do are listed.
        """
        if bad := self.non_finite():
            raise NumericsError(
                "holds NaN or Inf", problems=bad, where=self.ref, fix="leave it out"
            )

    @property
    def notes_of_soupmerge(self) -> dict[str, Any]:
        """What soupmerge wrote about this file: the model's name, the recipe, the training."""
        try:
            notes = json.loads(self.metadata.get("soupmerge", "{}"))
        except (ValueError, RecursionError):
            return {}
        return notes if isinstance(notes, dict) else {}

    @property
    def model(self) -> str | None:
        """The network's written form, if the file names it."""
        model = self.notes_of_soupmerge.get("model")
        return model if isinstance(model, str) else None

    def rows(self) -> list[tuple[str, str]]:
        """Return what is in the checkpoint, as rows to draw."""
        kinds = sorted({str(info.dtype).removeprefix("torch.") for info in self.infos.values()})
        return [
            ("files", ", ".join(str(file) for file in self.files)),
            ("sha256", self.sha256),
            ("tensors", str(len(self))),
            ("numbers", f"{self.numel:,}"),
            ("dtypes", ", ".join(kinds)),
            ("NaN or Inf", ", ".join(self.non_finite()) or "none"),
            ("unwrapped", "; ".join(self.notes) or "nothing"),
            ("model", self.model or "not named in the file"),
        ]


def open_checkpoint(ref: str | Path, *, weights_key: str | None = None) -> Checkpoint:
    """Open the file or folder *ref*; tensors are read when asked for.

    Args:
        ref: a file of weights, or a folder that holds one (or shards and their index).
        weights_key: which state dict to take from a file that wraps several, as ``a.b``.

    Raises:
        InputError: missing, truncated, foreign, or with several candidates and no *weights_key*.
        UnsafeError: reading it would run code, or its index points out of its folder.
    """
    files = files_of(Path(ref))
    parts = [(file, _open_part(file, weights_key)) for file in files]
    homes: dict[str, tuple[_Part, str]] = {}
    for file, part in parts:
        twice = sorted(set(homes) & set(part.infos))
        if twice:
            raise InputError(f"{twice[0]!r} is also in another shard", where=file)
        homes.update({name: (part, name) for name in part.infos})
    lacking = sorted(announced(Path(ref)) - set(homes))
    if lacking:
        raise InputError(f"no shard holds {lacking[0]!r}, which its index names", where=ref)
    if not homes:
        raise InputError("holds no tensors", where=ref)
    notes = [note for _, part in parts for note in part.notes]
    prefix = _shared_prefix(homes)
    if prefix:
        notes.append(f"stripped the prefix {prefix!r} that every name shares")
    named = {name.removeprefix(prefix): homes[name] for name in sorted(homes)}
    infos = {name: part.infos[original] for name, (part, original) in named.items()}
    metadata = {key: value for _, part in parts for key, value in part.metadata.items()}
    return Checkpoint(str(ref), tuple(files), infos, metadata, tuple(dict.fromkeys(notes)), named)


def _open_part(file: Path, weights_key: str | None) -> _Part:
    if kind_of(file) == SAFETENSORS:
        if weights_key is not None:
            raise InputError(f"has no weights {weights_key!r}: it wraps nothing", where=file)
        return _open_safetensors(file)
    loaded = pickles.load(file, weights_key)
    return _Part(_infos_of(file, loaded.tensors), loaded.tensors.__getitem__, {}, loaded.notes)


def _open_safetensors(file: Path) -> _Part:
    try:
        handle = safetensors.safe_open(file, framework="pt")
        names = list(handle.keys())
        slices = {name: handle.get_slice(name) for name in names}
        dtypes = {name: piece.get_dtype() for name, piece in slices.items()}
        shapes = {name: tuple(piece.get_shape()) for name, piece in slices.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"is a damaged safetensors file ({error})", where=file, fix="download or save it again"
        ) from error
    _require_known_dtypes(file, dtypes)
    infos = {name: TensorInfo(DTYPES[dtypes[name]], shapes[name]) for name in names}
    return _Part(infos, handle.get_tensor, handle.metadata() or {})


def _infos_of(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    known = {dtype: name for name, dtype in DTYPES.items()}
    _require_known_dtypes(file, {n: known.get(t.dtype, str(t.dtype)) for n, t in tensors.items()})
    odd = [n for n, t in tensors.items() if t.layout != torch.strided or t.device.type == "meta"]
    if odd:
        raise InputError(f"{odd[0]!r} is sparse or holds no data", where=file, fix="make it dense")
    return {name: TensorInfo(t.dtype, tuple(t.shape)) for name, t in tensors.items()}


def _require_known_dtypes(file: Path, dtypes: Mapping[str, str]) -> None:
    odd = [
        f"{name}: dtype {d} is not one of {', '.join(DTYPES)}"
        for name, d in dtypes.items()
        if d not in DTYPES
    ]
    if odd:
        raise InputError(
            "cannot be mixed", problems=sorted(odd), where=file, fix="convert it first"
        )


def _shared_prefix(names: Iterable[str]) -> str:
    """Return the run of wrappers' prefixes that all *names* begin with."""
    names, stripped = list(names), ""
    while True:
        for prefix in WRAPPER_PREFIXES:
            if all(len(n) > len(prefix) and n.startswith(prefix) for n in names):
                stripped += prefix
                names = [n.removeprefix(prefix) for n in names]
                break
        else:
            return stripped


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
