"""A tensor in a file: its dtype and shape, where its numbers lie, and how to read some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from soupmerge.storage.reading import Steady

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes soupmerge mixes or copies, by their safetensors name."""

Reader: TypeAlias = Callable[[int, Tensor], Tensor]
"""``(start, out)``: fill *out*, flat, with a tensor's numbers from *start* on; return it."""


class TensorInfo(NamedTuple):
    """What is known of a tensor without reading it."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        count = 1
        for size in self.shape:  # in Python's integers, which do not overflow
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """Size of the data."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class View:
    """A tensor in *file*, its first number at byte *start*; *stride* if it is not contiguous."""

    info: TensorInfo
    file: Steady
    start: int
    stride: tuple[int, ...] | None = None

    def reader(self) -> Reader:
        """Return how to read the tensor a piece at a time; keep it no longer than needed.

        A contiguous tensor is read from the file piece by piece, any other at once.
        """
        if self.stride is None:
            return self._read
        whole = self._strided().reshape(-1)
        return lambda start, out: out.copy_(whole[start : start + len(out)])

    def tensor(self) -> Tensor:
        """Return the whole tensor, in memory of its own."""
        flat = torch.empty(self.info.numel, dtype=self.info.dtype)
        return self.reader()(0, flat).reshape(self.info.shape)

    def _read(self, start: int, out: Tensor) -> Tensor:
        raw = out.view(torch.uint8)
        if len(raw):
            where = self.start + start * self.info.dtype.itemsize
            self.file.read_into(where, raw.numpy().data)
        if out.dtype == torch.bool:  # bytes other than 0 and 1 mean anything to torch
            raw.ne_(0)
        return out

    def _strided(self) -> Tensor:
        stride = self.stride or ()
        last = sum((n - 1) * step for n, step in zip(self.info.shape, stride, strict=True))
        count = last + 1 if self.info.numel else 0
        flat = self._read(0, torch.empty(count, dtype=self.info.dtype))
        return flat.as_strided(self.info.shape, stride).contiguous()


def dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Return whether *stride* is that of a contiguous tensor of *shape*."""
    step = 1
    for size, found in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1 and found != step:
            return 0 in shape
        step *= size
    return True
