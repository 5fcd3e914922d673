"""How the pixels of a set are held: in memory if it is small, or decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from soupmerge.errors import InputError
from soupmerge.sources.images.contents import Source
from soupmerge.sources.images.decoding import GREY, SIXTEEN_BITS
from soupmerge.sources.images.preprocessing import Preprocessing
from soupmerge.sources.images.stored import KEPT, RESIZE, Decoder, StoredPixels, spread


@dataclass(frozen=True)
class ImagesInMemory:
    """Images of a tensor, as a `contents.Source`, so that they can be preprocessed.

    Attributes:
        pixels: ``(N, C_in, H, W)``, uint8 or float32 in ``[0, 1]``.
        ref: the reference of the set.
    """

    pixels: Tensor
    ref: str

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def stamps(self) -> NDArray[np.int64]:
        """``(N, 2)``: all sizes are equal, and the times are unknown, which is written 0."""
        return np.tile(np.array([self.pixels[0].numel(), 0], np.int64), (len(self), 1))

    def read(self, index: int) -> Image.Image:
        """Return an image with 8 bits per channel."""
        pixels = self.pixels[index]
        if pixels.dtype != torch.uint8:
            pixels = (pixels * 255).round().to(torch.uint8)
        array = pixels.permute(1, 2, 0).numpy()
        return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)

    def where(self, index: int) -> str:
        """Return the number of an image."""
        return f"{self.ref}: image {index}"


def pixels_of(
    stored: Tensor | Source,
    chosen: Tensor,
    *,
    ref: str,
    ids: Sequence[str],
    preprocessing: Preprocessing | None,
    like: Any = None,
) -> Tensor | StoredPixels:
    """Return the pixels of the images *chosen* of those that are *stored*.

    Without *preprocessing*, images of one size that fit into `KEPT` bytes are decoded at once;
    their pixels have 3 channels, or 1 if all images of the set are grey. Images of several sizes
    are preprocessed as the network *like* states.

    Raises:
        InputError: images have several sizes and nothing says what to do; or some of a small set
            cannot be decoded, of which all are listed.
    """
    if isinstance(stored, Tensor):
        if preprocessing is None:
            return stored[chosen]
        stored = ImagesInMemory(stored, ref)
    if preprocessing is None:
        sizes, channels = _headers(Decoder(stored, Preprocessing()), ref)
        if len(sizes) == 1:
            height, width = min(sizes)
            if len(chosen) * 3 * height * width > KEPT:
                return StoredPixels(Decoder(stored, Preprocessing(channels=channels), ids), chosen)
            pixels = _decode_all(stored, chosen.tolist(), channels, ref)
            if len({image.shape for image in pixels}) == 1:
                return torch.stack(pixels)
            sizes = {(image.shape[1], image.shape[2]) for image in pixels}
        preprocessing = stated_by(like)
        if preprocessing is None:
            some = " and ".join(f"{width}×{height}" for height, width in sorted(sizes)[:2])
            raise InputError(f"images of several sizes, such as {some}", where=ref, fix=RESIZE)
    return StoredPixels(Decoder(stored, preprocessing, ids), chosen)


def stated_by(net: Any) -> Preprocessing | None:
    """Return the preprocessing that *net* states, as networks of timm do, or is; or None."""
    if isinstance(net, Preprocessing):
        return net
    config = getattr(net, "pretrained_cfg", None)
    return Preprocessing.stated_by(config) if config else None


def _headers(decoder: Decoder, ref: str) -> tuple[set[tuple[int, int]], int]:
    """Return the sizes (height, width) of some images, and the channels that the set has.

    It has 3 channels unless all images are grey.

    Raises:
        InputError: none of these images can be read.
    """
    some = decoder.headers(spread(len(decoder.source)))
    images = [image for image in some if isinstance(image, Image.Image)]
    if not images:
        refuse([error for error in some if isinstance(error, InputError)], len(some), ref)
    sizes = {(image.height, image.width) for image in images}
    if not all(map(_is_grey, images)):
        return sizes, 3
    return sizes, 1 if all(map(_is_grey, decoder.headers(range(len(decoder.source))))) else 3


def _is_grey(image: Image.Image | InputError) -> bool:
    return isinstance(image, InputError) or image.mode in (*GREY, *SIXTEEN_BITS)


def _decode_all(source: Source, indices: Sequence[int], channels: int, ref: str) -> list[Tensor]:
    """Return the pixels of the images at *indices*.

    Raises:
        InputError: some cannot be read; all of them are listed.
    """
    tried = Decoder(source, Preprocessing(channels=channels)).attempt(indices)
    problems = [error for error in tried if isinstance(error, InputError)]
    if problems:
        refuse(problems, len(indices), ref)
    return [image for image in tried if isinstance(image, Tensor)]


def refuse(problems: Sequence[InputError], n: int, ref: str) -> NoReturn:
    """Raise the *problems* with images of a set of *n*, in one error if there are several.

    Raises:
        InputError: always.
    """
    if len(problems) == 1:
        raise problems[0]
    what = f"{len(problems)} of {n} images cannot be read"
    raise InputError(what, problems=[str(problem) for problem in problems], where=ref)
