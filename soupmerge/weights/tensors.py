"""Tensors in files: dtype, shape, position of the numbers, and reading them in pieces.

This uses numpy, so that inspecting and mixing weights need not wait for torch to load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    """A dtype, by the *name* that torch and numpy give it."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype; bfloat16 comes from ml_dtypes."""
        return np.dtype(ml_dtypes.bfloat16 if self.name == "bfloat16" else self.name)

    @property
    def torch(self) -> torch.dtype:
        """The torch dtype."""
        import torch

        dtype: torch.dtype = getattr(torch, self.name)
        return dtype

    @property
    def itemsize(self) -> int:
        """Bytes per number."""
        return self.numpy.itemsize

    @property
    def is_floating_point(self) -> bool:
        """Whether its numbers are mixed rather than copied."""
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
"""The dtypes that soupmerge supports, by their safetensors names."""

MOST_DIMENSIONS = 64
"""The limit of numpy."""

PIECE = 1 << 16
"""Numbers of each tensor that `stacked_pieces` reads at a time."""

Reader: TypeAlias = Callable[[int, Array], Array]
"""``(start, out)``: fill the flat *out* with a tensor's numbers from *start* on, and return it."""


class TensorInfo(NamedTuple):
    """The dtype and shape of a tensor."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        count = 1
        for size in self.shape:  # Python's integers do not overflow
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """Size of the data in bytes."""
        return self.numel * self.dtype.itemsize

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorInfo:
        """Return the dtype and shape of *tensor*."""
        return cls(DType(str(tensor.dtype).removeprefix("torch.")), tuple(tensor.shape))

    def tensor(self, flat: Array) -> torch.Tensor:
        """Return the torch tensor with the numbers of *flat*, sharing their memory."""
        import torch

        if not flat.size:
            return torch.empty(self.shape, dtype=self.dtype.torch)
        return torch.from_numpy(flat.view(np.uint8)).view(self.dtype.torch).reshape(self.shape)


@dataclass(frozen=True)
class View:
    """A tensor in *file* from byte *start* on, with a *stride* in numbers if not contiguous."""

    info: TensorInfo
    file: StableFile
    start: int
    stride: tuple[int, ...] | None = None

    def reader(self) -> Reader:
        """Return a function that reads pieces of the tensor.

        A contiguous tensor is read from the file in pieces. Any other is read at once, and stays in
        memory as long as the function does.
        """
        if self.stride is None:
            return self._read
        whole = self._strided().reshape(-1)

        def read(start: int, out: Array) -> Array:
            out[:] = whole[start : start + len(out)]
            return out

        return read

    def stored(self) -> Reader:
        """Return a function that reads pieces in the order in which the numbers are stored."""
        return self._read

    def array(self) -> Array:
        """Return all numbers, as a new flat array."""
        return self.reader()(0, self._empty(self.info.numel))

    def _read(self, start: int, out: Array) -> Array:
        raw = out.view(np.uint8)
        if raw.size:
            where = self.start + start * self.info.dtype.itemsize
            self.file.read_into(where, raw.data)
        if out.dtype == np.bool_:  # a byte may be other than 0 and 1
            np.not_equal(raw, 0, out=out)
        return out

    def _empty(self, count: int) -> Array:
        try:
            return np.empty(count, self.info.dtype.numpy)
        except MemoryError as error:
            what = f"there is not enough memory for a tensor of {self.info.bytes:,} bytes"
            raise OutputError(what, where=self.file.path, fix="free some memory") from error

    def _strided(self) -> Array:
        stride = self.stride or ()
        last = sum((n - 1) * step for n, step in zip(self.info.shape, stride, strict=True))
        flat = self._read(0, self._empty(last + 1 if self.info.numel else 0))
        steps = [step * flat.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(flat, self.info.shape, steps)


@dataclass(frozen=True)
class ConstantView(View):
    """A tensor of given *numbers* that is not in *file*, such as a normaliser's constants."""

    numbers: tuple[float, ...] = ()

    def reader(self) -> Reader:
        """Return a function that copies a piece of the numbers."""

        def read(start: int, out: Array) -> Array:
            out[:] = self.numbers[start : start + len(out)]
            return out

        return read


def dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Return whether *stride* is that of a contiguous tensor of *shape*."""
    step = 1
    for size, actual in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1 and actual != step:
            return 0 in shape
        step *= size
    return True


def stacked_pieces(views: Sequence[View]) -> Iterator[Array]:
    """Yield the numbers of K tensors of one shape in float64 ``(K, n)``, n ≤ `PIECE` at a time."""
    readers = [view.reader() for view in views]
    buffers = [np.empty(PIECE, view.info.dtype.numpy) for view in views]
    numel = views[0].info.numel
    for start in range(0, numel, PIECE):
        rows = [r(start, b[: numel - start]) for r, b in zip(readers, buffers, strict=True)]
        yield np.stack([row.astype(np.float64) for row in rows])


def is_finite(numbers: Array) -> bool:
    """Return whether none of *numbers* is NaN or Inf."""
    if numbers.dtype.kind in "biu":
        return True
    with np.errstate(all="ignore"):
        # Usually a single pass; the sum may overflow although every number is finite.
        return bool(np.isfinite(numbers.sum(dtype=np.float64))) or bool(np.isfinite(numbers).all())
