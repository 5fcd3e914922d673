"""Which images a set holds, found out once and kept in the cache.

What is kept is found again by where the images are, their sizes and when they were last changed.
The fingerprint itself depends on their contents only, so that a copy of a set has the same one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from soupmerge.choices import FINGERPRINTS
from soupmerge.errors import OutputError
from soupmerge.sketch import mark
from soupmerge.sources import cache
from soupmerge.sources.images.contents import Source
from soupmerge.sources.images.decoding import decoded
from soupmerge.storage import commit

CONTENT, IDS = FINGERPRINTS

SAMPLE = 4096
"""Images of a set that are read for its digest, and decoded for its sketch."""

Indices = NDArray[np.int64]


def sampled(sizes: NDArray[np.int64]) -> Indices:
    """Return the positions of the images that stand for a set: all, or `SAMPLE` of them.

    The sample consists of the images whose *size* in bytes has the lowest hash. It needs no image
    to be read, and two sets that share images sample the same of them, whatever their names are.
    """
    if len(sizes) <= SAMPLE:
        return np.arange(len(sizes))
    unique, place = np.unique(sizes, return_inverse=True)
    keys = np.array([_hash(str(size).encode()) for size in unique.tolist()], np.uint64)
    order = np.lexsort((np.arange(len(sizes)), keys[place]))
    return np.sort(order[:SAMPLE])


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def digest(source: Source, indices: Indices, by: str) -> str:
    """Return a hash of the stored images at *indices* of *source*: of their sizes and contents.

    The contents are those of the `sampled` images; with *by* `IDS`, there are none.
    """
    sizes = source.stamps[indices, 0]
    if by == IDS:
        return hashlib.sha256(sizes.tobytes()).hexdigest()

    def make() -> str:
        found = hashlib.sha256(sizes.tobytes())
        for i in indices[sampled(sizes)].tolist():
            found.update(_content(source.read(i)))
        return found.hexdigest()

    return str(_cached("digest", source, indices, make))


def _content(stored: bytes | Image.Image) -> bytes:
    data = stored if isinstance(stored, bytes) else np.asarray(stored).tobytes()
    return hashlib.sha256(data).digest()


def marks(source: Source, indices: Indices, pool: ThreadPoolExecutor) -> tuple[list[str], bool]:
    """Return a `sketch.mark` of each `sampled` image, and whether these are all images."""
    chosen = indices[sampled(source.stamps[indices, 0])]
    found = _cached(
        "marks", source, indices, lambda: list(pool.map(partial(_mark, source), chosen.tolist()))
    )
    return list(found), len(chosen) == len(indices)


def _mark(source: Source, index: int) -> str:
    """Return the mark of the decoded image at *index*, before any preprocessing."""
    array = np.asarray(decoded(source.read(index), source.where(index)))
    channels_first = array.reshape(*array.shape[:2], -1).transpose(2, 0, 1)
    return mark(np.ascontiguousarray(channels_first))


def _cached(what: str, source: Source, indices: Indices, make: Callable[[], Any]) -> Any:
    """Return what *make* returns, from the cache if it has been made before.

    A cache that cannot be read or written is done without. Images whose times are unknown, because
    they are no files, are not looked up there.
    """
    if not source.stamps[indices, 1].all():
        return make()
    key = hashlib.sha256(f"{what} {SAMPLE}\n".encode())
    key.update(source.stamps[indices].tobytes())
    for i in indices.tolist():
        key.update(f"{source.where(i)}\n".encode(errors="surrogateescape"))
    file = cache.home() / "images" / f"{key.hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads(file.read_bytes())[what]
    made = make()
    with contextlib.suppress(OSError, OutputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        commit.write_json(file, {what: made}, force=True)
    return made
