"""Writing safetensors files with canonical bytes, piece by piece, in one file or in shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from soupmerge.errors import UsageError
from soupmerge.storage import commit
from soupmerge.weights import headers
from soupmerge.weights.files import NOTES, sha256_of
from soupmerge.weights.tensors import Array, TensorInfo

if TYPE_CHECKING:
    from soupmerge.types import State

Pieces: TypeAlias = Iterable[tuple[str, Iterable[Array]]]
"""Pairs of a tensor name and its numbers, as flat pieces."""


def save(
    path: Path | str,
    infos: Mapping[str, TensorInfo],
    tensors: Pieces,
    *,
    notes: Mapping[str, Any],
    shard_bytes: int | None = None,
    force: bool = False,
) -> str:
    """Write *tensors* to *path* as they are produced; return their sha256.

    The file or folder appears whole or not at all. Equal arguments give equal bytes.

    Args:
        path: a ``.safetensors`` file; or, with *shard_bytes*, a folder that must not exist.
        infos: dtype and shape of every tensor, in the order of *tensors*.
        notes: information about the weights, stored as JSON under the metadata key ``soupmerge``.
        shard_bytes: most bytes of tensors in one shard; a larger tensor has a shard of its own.
    """
    # The safetensors library needs everything in memory, and its order of metadata varies.
    metadata = metadata_of(notes)
    room = sum(info.bytes for info in infos.values())
    if shard_bytes is None:
        with commit.committed(path, force=force, room=room) as file:
            return _write(file, infos, tensors, metadata)
    shards = shards_of(infos, shard_bytes)
    stream, digests = iter(tensors), []
    with commit.committed_folder(path, room=room) as folder:
        for name, shard in shards.items():
            with commit.committed(folder / name) as file:
                digests.append(_write(file, shard, islice(stream, len(shard)), metadata))
            metadata = {"format": "pt"}  # notes are in the first shard
        commit.write_json(folder / "model.safetensors.index.json", _index(shards))
    return sha256_of(digests)


def metadata_of(notes: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file with *notes*."""
    return {"format": "pt", NOTES: json.dumps(notes)}


def digest_of(infos: Mapping[str, TensorInfo], tensors: Pieces, notes: Mapping[str, Any]) -> str:
    """Return the sha256 of the single file that `save` would write."""
    return _write(_Nowhere(), infos, tensors, metadata_of(notes))


def shards_of(
    infos: Mapping[str, TensorInfo], shard_bytes: int
) -> dict[str, dict[str, TensorInfo]]:
    """Return shard name → the tensors it holds, in order.

    Raises:
        UsageError: *shard_bytes* is not positive.
    """
    if shard_bytes < 1:
        fix = "give a size such as 500MB"
        what = f"{shard_bytes} bytes are too few for a shard"
        raise UsageError(what, where="--max-shard-size", fix=fix)
    shards: list[dict[str, TensorInfo]] = [{}]
    room = shard_bytes
    for name, info in infos.items():
        if info.bytes > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = info
        room -= info.bytes
    n = len(shards)
    return {f"model-{i:05d}-of-{n:05d}.safetensors": shard for i, shard in enumerate(shards, 1)}


def layout(infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Return *infos* in file order: widest dtype first, so that all data are aligned."""
    return dict(sorted(infos.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))


def whole(state: State, names: Iterable[str]) -> Iterator[tuple[str, list[Array]]]:
    """Yield the tensors of *state* in the order of *names*, each in one piece."""
    import torch

    for name in names:
        flat = state[name].detach().cpu().reshape(-1)
        if flat.stride() != (1,):  # torch calls up to one number contiguous
            flat = flat.clone(memory_format=torch.contiguous_format)
        yield name, [flat.view(torch.uint8).numpy()]


def _write(
    file: BinaryIO,
    infos: Mapping[str, TensorInfo],
    tensors: Pieces,
    metadata: Mapping[str, str],
) -> str:
    with _Hashing(file) as out:
        out.write(headers.encode(infos, metadata))
        for name, pieces in tensors:
            written = 0
            for piece in pieces:
                out.write(piece.view(np.uint8).data)
                written += piece.nbytes
            if written != infos[name].bytes:
                raise AssertionError(f"{name}: wrote {written} bytes, expected {infos[name].bytes}")
    return out.digest.hexdigest()


class _Nowhere(BytesIO):
    """A file that keeps nothing, for hashing alone."""

    def write(self, data: Any, /) -> int:
        return len(data)


class _Hashing:
    """A file that is hashed in a thread while the next piece is mixed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.pool = file, hashlib.sha256(), ThreadPoolExecutor(1)
        self.last: Future[None] | None = None

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown()

    def write(self, data: bytes | memoryview) -> None:
        if self.last:
            self.last.result()  # at most one piece waits
        self.last = self.pool.submit(self.digest.update, data)
        self.file.write(data)


def _index(shards: Mapping[str, Mapping[str, TensorInfo]]) -> dict[str, Any]:
    total = sum(info.bytes for infos in shards.values() for info in infos.values())
    weight_map = {name: shard for shard, infos in shards.items() for name in infos}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
