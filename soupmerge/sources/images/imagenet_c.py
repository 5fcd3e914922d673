"""ImageNet-C's corruptions (Hendrycks & Dietterich 2019, arXiv:1903.12261), for any colour images.

They are those of the package imagecorruptions-imaug, except for two. Its elastic_transform is
another one than ImageNet-C's, which is here. Its spatter divides 0 by 0 where no drop falls on a
small image; such an image stays as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soupmerge.errors import InputError, OutputError
from soupmerge.schedule import stream

PACKAGE = "imagecorruptions-imaug"
SMALLEST = 32
"""Side of the smallest images, in pixels."""

TAKES_SEED = ("impulse_noise", "glass_blur")
"""Corruptions that draw from their own generator, and not from numpy's global one."""

Bytes = NDArray[np.uint8]

_drawing = Lock()
"""Held while numpy's global random state is replaced."""


def package_for(kind: str) -> str:
    """Return the name and version of the package that computes the corruption *kind*.

    Raises:
        OutputError: the package is not installed.
    """
    try:
        return f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        what, fix = f"needs the package {PACKAGE}", "pip install 'soupmerge[corruptions]'"
        raise OutputError(what, where=kind, fix=fix) from None


def corrupted(kind: str, x: Tensor, strength: int, ids: Sequence[str]) -> Tensor:
    """Return images with ImageNet-C's corruption *kind*, on 8-bit pixels as there.

    Grey images are corrupted as colour images, and made grey again.

    Args:
        kind: one of `choices.IMAGENET_C` and `choices.IMAGENET_C_EXTRA`.
        x: ``(B, C_in, H, W)`` in ``[0, 1]``.
        strength: 1 to 5.
        ids: one name per image. With *kind* and *strength*, it seeds everything that is random.

    Raises:
        InputError: the images have fewer than `SMALLEST` pixels to a side.

    Example:
        >>> x = torch.full((1, 3, 32, 48), 0.5)
        >>> corrupted("brightness", x, 3, ["a.jpg"]).mul(255).unique()
        tensor([204.])
    """
    from PIL import Image

    height, width = x.shape[-2:]
    if min(height, width) < SMALLEST:
        what = f"images have {width}×{height} pixels, and it needs {SMALLEST}×{SMALLEST} or more"
        fix = "enlarge them, or take blur, noise, low_contrast or jpeg"
        raise InputError(what, where=kind, fix=fix)
    images = []
    for pixels, id in zip(x.mul(255).round().byte(), ids, strict=True):
        grey = len(pixels) == 1
        array = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        seed = stream(kind, strength, id).initial_seed() % 2**32
        array = _corrupted(kind, array, strength, seed)
        if grey:
            array = np.asarray(Image.fromarray(array).convert("L"))[..., None]
        images.append(torch.tensor(array).permute(2, 0, 1))
    return torch.stack(images).float() / 255


def _corrupted(kind: str, image: Bytes, strength: int, seed: int) -> Bytes:
    """Return *image*, ``(H, W, 3)``, with the corruption *kind*; *seed* decides what is random."""
    from imagecorruptions import corrupt

    if kind == "elastic_transform":
        return elastic_transform(image, strength, np.random.RandomState(seed))
    options: dict[str, Any] = {"seed": seed} if kind in TAKES_SEED else {}
    with _seeded(seed), np.errstate(invalid="raise" if kind == "spatter" else None):
        try:
            found: Bytes = corrupt(image, strength, kind, **options)
        except FloatingPointError:  # 0 / 0, without any drop
            return image
    return found


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global random state, from which the package draws, and restore it afterwards."""
    with _drawing:
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


ELASTIC = (
    (2, 0.7, 0.1),
    (2, 0.08, 0.2),
    (0.05, 0.01, 0.02),
    (0.07, 0.01, 0.02),
    (0.12, 0.01, 0.02),
)
"""At strengths 1 to 5: scale of the displacements, width of the Gaussian that smooths them, and
greatest shift of the corners, as fractions of the side."""


def elastic_transform(image: Bytes, strength: int, random: np.random.RandomState) -> Bytes:
    """Return *image* as if it were printed on rubber: corners are shifted, and then each pixel.

    A published image of 224 pixels was made with fractions of 244, and other sizes follow it.

    Args:
        image: ``(H, W, 3)``.
        strength: 1 to 5.
        random: where shifts are drawn from.
    """
    import cv2
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width = size = image.shape[:2]
    scale, sigma, shift = (part * min(size) * 244 / 224 for part in ELASTIC[strength - 1])
    centre, reach = np.array(size, np.float32) // 2, min(size) // 3
    corners = np.array([centre + reach, [centre[0] + reach, centre[1] - reach], centre - reach])
    moved = corners + random.uniform(-shift, shift, size=(3, 2)).astype(np.float32)
    affine = cv2.getAffineTransform(corners.astype(np.float32), moved.astype(np.float32))
    x = cv2.warpAffine(
        (image / np.float32(255)), affine, (width, height), borderMode=cv2.BORDER_REFLECT_101
    )
    dx, dy = (
        scale * gaussian_filter(random.uniform(-1, 1, size), sigma, mode="reflect", truncate=3)
        for _ in range(2)
    )
    rows, columns = np.indices(size)
    places = rows + dy, columns + dx
    channels = [map_coordinates(x[..., c], places, order=1, mode="reflect") for c in range(3)]
    return (np.stack(channels, -1).clip(0, 1) * 255).astype(np.uint8)
