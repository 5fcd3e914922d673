"""Pixels of stored images, decoded when they are asked for, and ahead of that."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from soupmerge.errors import InputError
from soupmerge.schedule import stream
from soupmerge.sources.images import fingerprints
from soupmerge.sources.images.contents import Source
from soupmerge.sources.images.decoding import decoded, opened
from soupmerge.sources.images.pixels import Pixels
from soupmerge.sources.images.preprocessing import Preprocessing

T = TypeVar("T")

KEPT = 384 << 20
"""Bytes of decoded images that a set keeps, so that small sets are decoded only once."""
AHEAD = 2
"""Batches that are decoded before they are asked for."""
SAMPLED = 64
"""Images whose headers tell whether all images have one size."""


@dataclass
class Decoder:
    """Decodes the images of *source*, several at a time, and keeps what fits into memory.

    Decoding takes threads, because Pillow lets other threads run meanwhile.

    Attributes:
        source: where the images are stored.
        preprocessing: what is done to them.
        ids: one name per image, which seeds its random parts.
        kept: index → pixels of images that are kept, up to `KEPT` bytes in all.
        ahead: index → pixels that are being decoded before they are asked for.
        coming: indices that will be asked for, in this order.
        free: bytes that may still be kept.
        draw: key of the random parts of images that training sees, or None for their centres.
    """

    source: Source
    preprocessing: Preprocessing
    ids: Sequence[str] = ()
    kept: dict[int, Tensor] = field(default_factory=dict)
    ahead: dict[int, Future[Tensor]] = field(default_factory=dict)
    coming: deque[int] = field(default_factory=deque)
    free: int = field(default_factory=lambda: KEPT)
    draw: object = None

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads that decode."""
        return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")

    def expect(self, indices: Sequence[int], draw: object) -> None:
        """Decode *indices*, which will be asked for in this order, `AHEAD` batches ahead."""
        self.draw = draw if self.preprocessing.is_random else None
        for future in self.ahead.values():
            future.cancel()
        self.ahead.clear()
        self.coming = deque(indices)

    def decode(self, indices: Sequence[int]) -> list[Tensor]:
        """Return the pixels ``(C_in, H, W)``, uint8, of the images at *indices*.

        Raises:
            InputError: an image cannot be read or decoded.
        """
        kept = self.kept if self.draw is None else {}
        asked = {
            i: self.ahead.pop(i) if i in self.ahead else self._submit(i)
            for i in indices
            if i not in kept
        }
        while self.coming and len(self.ahead) < AHEAD * len(indices):
            i = self.coming.popleft()
            if i not in asked and i not in kept:
                self.ahead[i] = self._submit(i)
        found = {i: future.result() for i, future in asked.items()}
        images = [found[i] if i in found else kept[i] for i in indices]
        if self.draw is None:
            self._keep(found)
        return images

    def _keep(self, found: Mapping[int, Tensor]) -> None:
        for i, pixels in found.items():
            if pixels.nbytes <= self.free:
                self.kept[i] = pixels
                self.free -= pixels.nbytes

    def attempt(self, indices: Sequence[int]) -> list[Tensor | InputError]:
        """Return the pixels of each image, or why it cannot be read; nothing is kept."""
        return list(self.pool.map(_caught(self._decode), indices))

    def headers(self, indices: Sequence[int]) -> list[Image.Image | InputError]:
        """Return each image with its header only, or why it cannot be read."""
        source = self.source
        header = _caught(lambda i: opened(source.read(i), source.where(i)))
        return list(self.pool.map(header, indices))

    def _submit(self, index: int) -> Future[Tensor]:
        return self.pool.submit(self._decode, index)

    def _decode(self, index: int) -> Tensor:
        image = decoded(self.source.read(index), self.source.where(index))
        if self.draw is None:
            return self.preprocessing(image)
        return self.preprocessing.drawn(image, stream("crop", self.draw, self.ids[index]))


@dataclass(frozen=True, eq=False)
class StoredPixels(Pixels):
    """Pixels of the images at *indices* of a source: indexing them gives a tensor.

    Attributes:
        decoder: decodes the images; parts of one set share it.
        indices: ``(N,)``: which images of the source these are.
        by: what their digest is made of, `fingerprints.CONTENT` or `fingerprints.IDS`.
    """

    decoder: Decoder
    indices: Tensor
    by: str = fingerprints.CONTENT

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """``(C_in, H, W)``, from the first image."""
        channels, height, width = self.decoder.decode([int(self.indices[0])])[0].shape
        return channels, height, width

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Return the pixels ``(B, C_in, H, W)``, uint8, at *indices*."""
        places = self.indices[indices].tolist()
        images = self.decoder.decode(places)
        for place, image in zip(places, images, strict=True):
            if image.shape != self.shape:
                where = self.decoder.source.where(place)
                sizes = f"{_size(image.shape)} pixels, and others {_size(self.shape)}"
                raise InputError(f"has {sizes}", where=where, fix=RESIZE)
        return torch.stack(images) if images else torch.empty(0, *self.shape, dtype=torch.uint8)

    def image(self, index: int) -> Tensor:
        """Return one image, ``(C_in, H, W)`` uint8, whatever the sizes of the others."""
        return self.decoder.decode([int(self.indices[index])])[0]

    def sizes(self, indices: Tensor) -> list[tuple[int, int]]:
        """Return height and width of the images at *indices* as they are stored."""
        headers = self.decoder.headers(self.indices[indices].tolist())
        return [(h.height, h.width) for h in headers if isinstance(h, Image.Image)]

    def expect(self, indices: Tensor, draw: object = None) -> None:
        """Prepare for being asked for *indices*, in this order."""
        self.decoder.expect(self.indices[indices].tolist(), draw)

    def take(self, indices: Tensor) -> StoredPixels:
        """Return the pixels at *indices* as a set of their own."""
        return StoredPixels(self.decoder, self.indices[indices], self.by)

    def describe(self) -> dict[str, Any]:
        """Return what a fingerprint says of the pixels besides their digest."""
        by = {} if self.by == fingerprints.CONTENT else {"fingerprint": f"of {self.by} only"}
        return {"preprocessing": str(self.decoder.preprocessing) or "none", **by}

    @cached_property
    def digest(self) -> str:
        """Hash of what is stored, without the preprocessing; no image is decoded for it."""
        return fingerprints.digest(self.decoder.source, self.indices.numpy(), self.by)

    def marks(self) -> tuple[list[str], bool]:
        """Return a hash of each decoded image, and whether these are all images.

        Of large sets, a sample of images is decoded; see `fingerprints.sampled`.
        """
        return fingerprints.marks(self.decoder.source, self.indices.numpy(), self.decoder.pool)

    def broken(self) -> dict[int, InputError]:
        """Return index → why this image cannot be decoded, after trying all of them."""
        tried = self.decoder.attempt(self.indices.tolist())
        return {i: error for i, error in enumerate(tried) if isinstance(error, InputError)}


RESIZE = "bring all images to one size, such as with ?resize=256&crop=224 after the reference"


def spread(n: int) -> list[int]:
    """Return up to `SAMPLED` of *n* indices, evenly spread, with the first and the last."""
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(n, SAMPLED)).round())]


def _caught(call: Callable[[int], T]) -> Callable[[int], T | InputError]:
    """Return *call*, returning errors instead of raising them."""

    def caught(index: int) -> T | InputError:
        try:
            return call(index)
        except InputError as error:
            return error

    return caught


def _size(shape: Sequence[int]) -> str:
    return f"{shape[2]}×{shape[1]}"
