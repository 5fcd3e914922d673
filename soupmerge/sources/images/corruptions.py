"""Corruptions of images as a worse camera causes them: blur, noise, low contrast, compression."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from soupmerge.errors import UsageError, near_miss
from soupmerge.schedule import stream

CHUNK = 256
"""Images that are corrupted at a time."""

Corruption: TypeAlias = Callable[[Tensor, Any, Sequence[str]], Tensor]
"""(Images in ``[0, 1]``, amount, ids) → images."""


def parse(ref: str) -> tuple[str, int, str] | None:
    """Return corruption, strength and DATA if *ref* is written ``blur-3:DATA``, else None.

    Raises:
        UsageError: there is no such corruption or strength, or DATA is corrupted itself.

    Example:
        >>> parse("blur-3:folder:photos"), parse("folder:photos")
        (('blur', 3, 'folder:photos'), None)
    """
    match = re.fullmatch(r"([a-z]+)-(\w+):(.+)", ref)
    if match is None:
        return None
    name, strength, rest = match.groups()
    if name not in CORRUPTIONS:
        fix = near_miss(name, CORRUPTIONS)
        raise UsageError(f"unknown corruption {name!r}", where=ref, fix=fix)
    known = [str(i + 1) for i in range(len(CORRUPTIONS[name][1]))]
    if strength not in known:
        what, fix = f"no strength {strength!r}", f"give {known[0]} to {known[-1]}"
        raise UsageError(what, where=ref, fix=fix)
    if parse(rest) is not None:
        what = "images can be corrupted only once"
        raise UsageError(what, where=ref, fix=f"leave out {name}-{strength}, or the other")
    return name, int(strength), rest


def corrupt(pixels: Tensor, ids: Sequence[str], name: str, strength: int) -> Tensor:
    """Return the images *pixels* with corruption *name* at *strength*.

    The result for an image depends only on its pixels, its id, *name* and *strength*. The noise
    of an image is the same at all strengths, up to its scale.

    Args:
        pixels: ``(N, C_in, H, W)``, uint8 or float32 in ``[0, 1]``.
        ids: one name per image, which seeds its noise.
        name: one of `CORRUPTIONS`.
        strength: 1 to 5.

    Returns:
        ``(N, C_in, H, W)`` uint8, as an image file would hold them.
    """
    corruption, amounts = CORRUPTIONS[name]
    out = torch.empty_like(pixels, dtype=torch.uint8)
    for start in range(0, len(pixels), CHUNK):
        part = slice(start, start + CHUNK)
        x = pixels[part].float() / 255 if pixels.dtype == torch.uint8 else pixels[part]
        out[part] = _to_bytes(corruption(x, amounts[strength - 1], ids[part]))
    return out


def _to_bytes(x: Tensor) -> Tensor:
    return x.mul(255).round().clamp(0, 255).byte()


def _blur(x: Tensor, part: float, ids: Sequence[str]) -> Tensor:
    from torchvision.transforms.v2 import functional

    side = min(x.shape[-2:])
    sigma = part * side
    # Three deviations to each side, but no more than an image can be reflected at its border.
    radius = min(math.ceil(3 * sigma), side - 1)
    return functional.gaussian_blur(x, [2 * radius + 1] * 2, [sigma] * 2)  # type: ignore[no-any-return]


def _add_noise(x: Tensor, sigma: float, ids: Sequence[str]) -> Tensor:
    # torchvision's gaussian_noise draws from the global random state, for a batch as a whole.
    noise = [torch.randn(x.shape[1:], generator=stream("noise", id)) for id in ids]
    return x + sigma * torch.stack(noise)


def _lower_contrast(x: Tensor, factor: float, ids: Sequence[str]) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.adjust_contrast(x, factor)  # type: ignore[no-any-return]


def _compress(x: Tensor, quality: int, ids: Sequence[str]) -> Tensor:
    # By Pillow, as torchvision removes its own JPEG encoder from version 0.29 on.
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


CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "blur": (_blur, (0.015, 0.025, 0.035, 0.05, 0.07)),
    "noise": (_add_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "contrast": (_lower_contrast, (0.75, 0.5, 0.35, 0.2, 0.1)),
    "jpeg": (_compress, (60, 40, 25, 15, 8)),
}
"""Name → corruption, and its amounts at strengths 1 to 5: the standard deviation of the Gaussian
kernel as a fraction of the shorter side; that of Gaussian noise; the factor of contrast; JPEG's
quality."""
