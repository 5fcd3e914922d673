"""Images as a worse camera would have given them: blurred, noisy, of low contrast, compressed."""

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

STRENGTHS = {
    "blur": (0.015, 0.025, 0.035, 0.05, 0.07),
    "noise": (0.04, 0.08, 0.12, 0.18, 0.26),
    "contrast": (0.75, 0.5, 0.35, 0.2, 0.1),
    "jpeg": (60, 40, 25, 15, 8),
}
"""Of each corruption, what strengths 1 to 5 mean: the deviation of a Gaussian kernel as a part of
the shorter side; that of Gaussian noise; the factor of contrast; JPEG's quality."""

CHUNK = 256
"""Images that are corrupted at a time."""

Corruption: TypeAlias = Callable[[Tensor, Any, Sequence[str]], Tensor]


def parse(ref: str) -> tuple[str, int, str] | None:
    """Return corruption, strength and what is corrupted, if *ref* is written ``blur-3:DATA``.

    Raises:
        UsageError: it is, but there is no such corruption or strength, or DATA is corrupted itself.

    Example:
        >>> parse("blur-3:folder:photos"), parse("folder:photos")
        (('blur', 3, 'folder:photos'), None)
    """
    match = re.fullmatch(r"([a-z]+)-(\w+):(.+)", ref)
    if match is None:
        return None
    name, strength, rest = match.groups()
    if name not in STRENGTHS:
        fix = near_miss(name, STRENGTHS)
        raise UsageError(f"no corruption {name!r}", where=ref, fix=fix)
    known = [str(i) for i, _ in enumerate(STRENGTHS[name], start=1)]
    if strength not in known:
        what, fix = f"no strength {strength!r}", f"give {known[0]} to {known[-1]}"
        raise UsageError(what, where=ref, fix=fix)
    if parse(rest) is not None:
        what = "images are corrupted once, not twice"
        raise UsageError(what, where=ref, fix=f"leave out {name}-{strength}, or the other")
    return name, int(strength), rest


def corrupt(pixels: Tensor, ids: Sequence[str], name: str, strength: int) -> Tensor:
    """Return the images *pixels* with corruption *name* at *strength*, as bytes.

    What becomes of an image depends on itself, its id, *name* and *strength* alone; the noise of an
    image is the same at all strengths, but for its size.

    Args:
        pixels: ``(N, C_in, H, W)``, uint8 or float32 in ``[0, 1]``.
        ids: one name per image, for the noise.
        name: one of `STRENGTHS`.
        strength: from 1 on.

    Returns:
        ``(N, C_in, H, W)`` uint8, as a file would hold them.
    """
    amount, out = STRENGTHS[name][strength - 1], torch.empty_like(pixels, dtype=torch.uint8)
    for start in range(0, len(pixels), CHUNK):
        part = slice(start, start + CHUNK)
        x = pixels[part].float() / 255 if pixels.dtype == torch.uint8 else pixels[part]
        out[part] = _bytes(CORRUPTIONS[name](x, amount, ids[part]))
    return out


def _bytes(x: Tensor) -> Tensor:
    return x.mul(255).round().clamp(0, 255).byte()


def _blurred(x: Tensor, part: float, ids: Sequence[str]) -> Tensor:
    from torchvision.transforms.v2 import functional

    side = min(x.shape[-2:])
    sigma = part * side
    # Three deviations to each side, as far as the image can be reflected at its border.
    reach = min(math.ceil(3 * sigma), side - 1)
    return functional.gaussian_blur(x, [2 * reach + 1] * 2, [sigma] * 2)  # type: ignore[no-any-return]


def _noisy(x: Tensor, sigma: float, ids: Sequence[str]) -> Tensor:
    # Not torchvision's gaussian_noise: it draws from the global state, and for a batch as a whole.
    noise = [torch.randn(x.shape[1:], generator=stream("noise", id)) for id in ids]
    return x + sigma * torch.stack(noise)


def _of_low_contrast(x: Tensor, factor: float, ids: Sequence[str]) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.adjust_contrast(x, factor)  # type: ignore[no-any-return]


def _compressed(x: Tensor, quality: int, ids: Sequence[str]) -> Tensor:
    # Pillow's, as torchvision gives up its own from 0.29 on.
    return torch.stack([_jpeg(image, quality) for image in _bytes(x)]).float() / 255


def _jpeg(image: Tensor, quality: int) -> Tensor:
    """Return *image*, ``(C_in, H, W)`` uint8, as a JPEG file of *quality* gives it back."""
    file = io.BytesIO()
    grey = len(image) == 1
    array = image[0].numpy() if grey else image.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        back = torch.from_numpy(np.array(read))
    return back[None] if grey else back.permute(2, 0, 1)


CORRUPTIONS: dict[str, Corruption] = {
    "blur": _blurred,
    "noise": _noisy,
    "contrast": _of_low_contrast,
    "jpeg": _compressed,
}
"""The name of a corruption → (images, amount, ids) → images."""
