"""Images at another resolution, since networks are often evaluated at other sizes than trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from soupmerge.errors import UsageError
from soupmerge.label_spaces.outputs import Outputs, also_right, outputs_of
from soupmerge.sketch import Sketch
from soupmerge.types import Examples, expect

METHOD = "bicubic, antialiased"
"""As robust ImageNet networks are evaluated (Singh et al. 2023; timm's default)."""
LARGEST = 4096


@dataclass(frozen=True)
class Resized:
    """The images of *data*, resized when they are asked for; attacks work at the new resolution.

    The interpolation is Pillow's bicubic one (torch's ``antialias=True``) without rounding to
    bytes; overshoots are clipped to ``[0, 1]``. Images that already have the size are unchanged.

    Attributes:
        data: the examples.
        resolution: length of the shorter side, in pixels, 1 to 4096; the aspect ratio is kept.

    Raises:
        UsageError: the resolution is out of range.

    Example:
        >>> import soupmerge as sm, torch
        >>> large = Resized(sm.data("digits"), 16)
        >>> large.batch(torch.arange(2))[0].shape
        torch.Size([2, 1, 16, 16])
    """

    data: Examples
    resolution: int

    def __post_init__(self) -> None:
        if not isinstance(self.resolution, int) or not 1 <= self.resolution <= LARGEST:
            what = f"{self.resolution} is not in 1…{LARGEST}"
            raise UsageError(what, where="resolution", fix="give pixels, such as 224 or 256")

    @property
    def ref(self) -> str:
        """The reference of *data*, without the resolution."""
        return self.data.ref

    @property
    def ids(self) -> Sequence[str]:
        """One name per example."""
        return self.data.ids

    @property
    def labels(self) -> Tensor:
        """``(N,)`` int64."""
        return self.data.labels

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.data.classes

    @property
    def outputs(self) -> Outputs | None:
        """How the logits of a network become those of the classes; see `Images`."""
        return outputs_of(self.data)

    @property
    def also_right(self) -> Tensor | None:
        """``(N, C)`` bool: classes that are right as well, if there are such; see `Images`."""
        return also_right(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images ``(B, C_in, H, W)``, float32 in ``[0, 1]``, and labels at *indices*."""
        x, y = self.data.batch(indices)
        return resize(x, self.resolution), y

    def expect(self, indices: Tensor, draw: object = None) -> None:
        """Prepare for `batch` being asked for *indices*, in this order."""
        expect(self.data, indices, draw)

    def marks(self) -> tuple[Sequence[str], bool]:
        """Return the marks of *data*: its images are the same at any resolution."""
        sketch = Sketch.of(self.data)
        return sketch.marks, sketch.whole

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the set and its resolution."""
        return {**self.data.fingerprint(), "resolution": self.resolution, "resize": METHOD}


def resize(x: Tensor, resolution: int) -> Tensor:
    """Return images *x*, ``(B, C_in, H, W)``, resized to a shorter side of *resolution* pixels."""
    short = min(x.shape[-2:])
    size = [resolution * side // short for side in x.shape[-2:]]
    if list(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
