"""Augmentations: random changes to training images, drawn for each image, that keep its label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def none(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return *x* unchanged."""
    return x


def crop_flip(x: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Return *x* ``(B, C_in, H, W)`` shifted by up to *padding* pixels, and half of it mirrored.

    This is the usual augmentation for CIFAR: zero padding, a random crop of the original size, and
    a random horizontal flip.
    """
    batch, _, height, width = x.shape
    shift = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator)
    flip = torch.rand(batch, 1, generator=generator) < 0.5
    rows = shift[0] + torch.arange(height)
    columns = shift[1] + torch.where(flip, torch.arange(width).flip(0), torch.arange(width))
    padded = F.pad(x, [padding] * 4)
    images = torch.arange(batch)[:, None, None]
    crops = padded[images, :, rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2).contiguous()
