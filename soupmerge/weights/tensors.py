"""A tensor in a file: its dtype and shape, where its numbers lie, and how to read some of them.

In numpy, so that looking at weights and mixing them need not wait for torch to load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np

from soupmerge.errors import OutputError
from soupmerge.storage.reading import StableFile

if TYPE_CHECKING:
    import torch

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class DType:
    """A type of numbers, by the *name* that torch and numpy give it."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def numpy(self) -> np.dtype[Any]:
        """The same in numpy, where bfloat16 comes from ml_dtypes."""
        return np.dtype(ml_dtypes.bfloat16 if self.name == "bfloat16" else self.name)

    @property
    def torch(self) -> torch.dtype:
        """The same in torch."""
        import torch

        dtype: torch.dtype = getattr(torch, self.name)
        return dtype

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return self.numpy.itemsize

    @property
    def is_floating_point(self) -> bool:
        """Whether its numbers are mixed, and not copied."""
        return "float" in self.name


DTYPES = {
    "F64": DType("float64"),
    "F32": DType("float32"),
    "F16": DType("float16"),
    "BF16": DType("bfloat16"),
    "I64": DType("int64"),
    "I32": DType("int32"),
    "I16": DType("int16"),
    "I8": DType("int8"),
    "U8": DType("uint8"),
    "BOOL": DType("bool"),
}
"""The dtypes soupmerge mixes or copies, by their safetensors name."""

MOST_DIMENSIONS = 64
"""What numpy can hold."""

Reader: TypeAlias = Callable[[int, Array], Array]
"""``(start, out)``: fill *out*, flat, with a tensor's numbers from *start* on; return it."""


class TensorInfo(NamedTuple):
    """What is known of a tensor without reading it."""

    dtype: DType
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

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorInfo:
        """Return what is known of *tensor*."""
        return cls(DType(str(tensor.dtype).removeprefix("torch.")), tuple(tensor.shape))

    def tensor(self, flat: Array) -> torch.Tensor:
        """Return the torch tensor with the numbers of *flat*, sharing their memory."""
        import torch

        if not flat.size:
            return torch.empty(self.shape, dtype=self.dtype.torch)
        return torch.from_numpy(flat.view(np.uint8)).view(self.dtype.torch).reshape(self.shape)


@dataclass(frozen=True)
class View:
    """A tensor in *file*, its first number at byte *start*; *stride* if it is not contiguous."""

    info: TensorInfo
    file: StableFile
    start: int
    stride: tuple[int, ...] | None = None

    def reader(self) -> Reader:
        """Return how to read the tensor a piece at a time; keep it no longer than needed.

        A contiguous tensor is read from the file piece by piece, any other at once.
        """
        if self.stride is None:
            return self._read
        whole = self._strided().reshape(-1)

        def read(start: int, out: Array) -> Array:
            out[:] = whole[start : start + len(out)]
            return out

        return read

    def stored(self) -> Reader:
        """Return how to read numbers in the order in which they lie in the file, whatever it is."""
        return self._read

    def array(self) -> Array:
        """Return all numbers, flat, in memory of their own."""
        return self.reader()(0, self._room(self.info.numel))

    def _read(self, start: int, out: Array) -> Array:
        raw = out.view(np.uint8)
        if raw.size:
            where = self.start + start * self.info.dtype.itemsize
            self.file.read_into(where, raw.data)
        if out.dtype == np.bool_:  # bytes other than 0 and 1 mean anything to torch
            np.not_equal(raw, 0, out=out)
        return out

    def _room(self, count: int) -> Array:
        try:
            return np.empty(count, self.info.dtype.numpy)
        except MemoryError as error:
            what = f"holds a tensor of {self.info.bytes:,} bytes, there is not enough memory for it"
            raise OutputError(what, where=self.file.path, fix="free some memory") from error

    def _strided(self) -> Array:
        stride = self.stride or ()
        last = sum((n - 1) * step for n, step in zip(self.info.shape, stride, strict=True))
        flat = self._read(0, self._room(last + 1 if self.info.numel else 0))
        steps = [step * flat.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(flat, self.info.shape, steps)


@dataclass(frozen=True)
class ConstantView(View):
    """A tensor that *file* does not hold, of known *numbers*: a normaliser's constants."""

    numbers: tuple[float, ...] = ()

    def reader(self) -> Reader:
        """Return how to read the numbers."""

        def read(start: int, out: Array) -> Array:
            out[:] = self.numbers[start : start + len(out)]
            return out

        return read


def dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Return whether *stride* is that of a contiguous tensor of *shape*."""
    step = 1
    for size, found in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1 and found != step:
            return 0 in shape
        step *= size
    return True


def is_finite(numbers: Array) -> bool:
    """Return whether no number is NaN or Inf."""
    if numbers.dtype.kind in "biu":
        return True
    with np.errstate(all="ignore"):
        # One pass over the numbers; their sum may also overflow though each is finite.
        return bool(np.isfinite(numbers.sum(dtype=np.float64))) or bool(np.isfinite(numbers).all())
