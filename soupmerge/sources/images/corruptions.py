"""Corrupted images: blur, noise, low contrast and compression here, ImageNet-C's in `imagenet_c`.

A corruption is a function of images ``(B, C_in, H, W)`` in ``[0, 1]``, a strength from 1 to 5, and
the ids of the images, which seed its noise; it returns images of the same shape.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from soupmerge import choices
from soupmerge.schedule import stream
from soupmerge.sources.images import imagenet_c

CHUNK = 256
"""Images that are corrupted at a time."""

Corruption: TypeAlias = Callable[[Tensor, int, Sequence[str]], Tensor]
"""(Images in ``[0, 1]``, strength, ids) → images."""


def maker(kind: str) -> str | None:
    """Return the package that makes corruption *kind*, with its version, or None without one.

    Raises:
        OutputError: the package is not installed.

    Example:
        >>> maker("blur")
        >>> maker("fog").partition(" ")[0]
        'imagecorruptions-imaug'
    """
    return None if kind in choices.CORRUPTIONS else imagenet_c.package_for(kind)


def _corruption(kind: str) -> Corruption:
    if kind in (*choices.IMAGENET_C, *choices.IMAGENET_C_EXTRA):
        imagenet_c.package_for(kind)
        return partial(imagenet_c.corrupted, kind)
    found: Corruption = choices.implementation(choices.CORRUPTIONS, kind, "corruption")
    return found


def corrupt(pixels: Tensor, ids: Sequence[str], kind: str, strength: int) -> Tensor:
    """Return the images *pixels* with the corruption *kind* at *strength*.

    The result for an image depends only on its pixels, its id, *kind* and *strength*.

    Args:
        pixels: ``(N, C_in, H, W)``, uint8 or float32 in ``[0, 1]``.
        ids: one name per image, which seeds its noise.
        kind: one of `choices.corruption_names`.
        strength: 1 to 5.

    Returns:
        ``(N, C_in, H, W)`` uint8, as an image file would hold them.

    Raises:
        UsageError: there is no such corruption.
        InputError: the images are too small for it.
        OutputError: it needs a package that is not installed.
    """
    function = _corruption(kind)
    out = torch.empty_like(pixels, dtype=torch.uint8)
    for start in range(0, len(pixels), CHUNK):
        part = slice(start, start + CHUNK)
        x = pixels[part].float() / 255 if pixels.dtype == torch.uint8 else pixels[part]
        out[part] = _to_bytes(function(x, strength, ids[part]))
    return out


def _to_bytes(x: Tensor) -> Tensor:
    return x.mul(255).round().clamp(0, 255).byte()


PART = (0.015, 0.025, 0.035, 0.05, 0.07)
"""Standard deviation of the blur, as a fraction of the shorter side."""
SIGMA = (0.04, 0.08, 0.12, 0.18, 0.26)
"""Standard deviation of the noise."""
FACTOR = (0.75, 0.5, 0.35, 0.2, 0.1)
"""Factor of the contrast."""
QUALITY = (60, 40, 25, 15, 8)
"""Quality of the JPEG compression."""


def blur(x: Tensor, strength: int, ids: Sequence[str]) -> Tensor:
    """Return *x* blurred by a Gaussian whose width grows with the images."""
    from torchvision.transforms.v2 import functional

    side = min(x.shape[-2:])
    sigma = PART[strength - 1] * side
    # Three deviations to each side, but no more than an image can be reflected at its border.
    radius = min(math.ceil(3 * sigma), side - 1)
    return functional.gaussian_blur(x, [2 * radius + 1] * 2, [sigma] * 2)  # type: ignore[no-any-return]


def add_noise(x: Tensor, strength: int, ids: Sequence[str]) -> Tensor:
    """Return *x* with Gaussian noise, which is the same at all strengths but for its scale."""
    # torchvision's gaussian_noise draws from the global random state, for a batch as a whole.
    noise = [torch.randn(x.shape[1:], generator=stream("noise", id)) for id in ids]
    return x + SIGMA[strength - 1] * torch.stack(noise)


def lower_contrast(x: Tensor, strength: int, ids: Sequence[str]) -> Tensor:
    """Return *x* drawn towards the mean of each image in grey."""
    from torchvision.transforms.v2 import functional

    return functional.adjust_contrast(x, FACTOR[strength - 1])  # type: ignore[no-any-return]


def compress(x: Tensor, strength: int, ids: Sequence[str]) -> Tensor:
    """Return *x* after JPEG compression."""
    # By Pillow, as torchvision removes its own JPEG encoder from version 0.29 on.
    quality = QUALITY[strength - 1]
    return torch.stack([_jpeg(image, quality) for image in _to_bytes(x)]).float() / 255


def _jpeg(image: Tensor, quality: int) -> Tensor:
    """Return *image*, ``(C_in, H, W)`` uint8, as decoded from a JPEG file of *quality*."""
    file = io.BytesIO()
    grey = len(image) == 1
    array = image[0].numpy() if grey else image.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(file, "JPEG", quality=quality)
    with Image.open(file) as compressed:
        decoded = torch.from_numpy(np.array(compressed))
    return decoded[None] if grey else decoded.permute(2, 0, 1)
