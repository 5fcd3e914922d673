"""Changes to training images that keep their labels; each is drawn for every image anew."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from soupmerge.types import Augment


def none(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return *x* as it is."""
    return x


def crop_flip(x: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Return *x* ``(B, C_in, H, W)`` shifted by up to *padding* pixels, and mirrored half the time.

    The usual augmentation for CIFAR: zero padding, a random crop of the old size, a random flip.
    """
    batch, _, height, width = x.shape
    shift = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator)
    flip = torch.rand(batch, 1, generator=generator) < 0.5
    rows = shift[0] + torch.arange(height)
    columns = shift[1] + torch.where(flip, torch.arange(width).flip(0), torch.arange(width))
    padded = F.pad(x, [padding] * 4)
    picked = padded[torch.arange(batch)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()


AUGMENTS: dict[str, Augment] = {"crop-flip": crop_flip, "none": none}
"""The name of an augmentation → the augmentation."""
