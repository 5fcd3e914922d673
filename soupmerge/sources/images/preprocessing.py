"""Preprocessing: images of any size → images of one size, as networks are evaluated.

It is written as a query after a reference: ``folder:PATH?resize=256&crop=224``, or by the name that
a library gives it: ``folder:PATH?preprocessing=Res256Crop224``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from soupmerge.errors import UsageError, near_miss
from soupmerge.sources.images.decoding import in_mode
from soupmerge.sources.robustbench import zoo

MOST = 4096
"""Of the length of a side, in pixels."""

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "box", "hamming", "lanczos")
"""Pillow's, by the names that torchvision and timm give them."""

MODES = ("center", "random-resized")
"""Which part of an image training sees."""
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Share of the area, and aspect ratio, of random parts."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image of any size becomes one of the size that a network takes.

    The steps and the 8-bit pixels are those of torchvision's transforms of Pillow images, which
    published evaluations use. Pillow does the work here, too; importing torchvision takes longer
    than decoding a thousand small images.

    Attributes:
        resize: length of the shorter side, or height and width; None keeps the size.
        crop: side of the square that is cut out of the centre, filled up with black where the image
            is smaller; None keeps everything.
        interpolation: one of `INTERPOLATIONS`.
        antialias: whether the interpolation averages over all pixels that it skips.
        channels: 3, or 1 for grey.
        mode: ``center``, or ``random-resized`` to cut out a part of random place, size and aspect
            ratio in training, which is resized to the crop (Szegedy et al. 2015, as torchvision
            draws it); everything else still sees the centre.

    Raises:
        UsageError: a value is out of range, or a random part has no size.

    Example:
        >>> str(Preprocessing(256, 224, "bicubic"))
        'resize=256&crop=224&interpolation=bicubic'
        >>> Preprocessing(4, 2)(Image.new("RGB", (8, 12))).shape
        torch.Size([3, 2, 2])
    """

    resize: int | tuple[int, int] | None = None
    crop: int | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    channels: int = 3
    mode: str = "center"

    def __post_init__(self) -> None:
        sides = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        for name, side in (*(("resize", s) for s in sides), ("crop", self.crop)):
            if side is not None and not (isinstance(side, int) and 1 <= side <= MOST):
                fix = "give pixels, such as 224"
                raise UsageError(f"{side} is not in 1…{MOST}", where=name, fix=fix)
        if self.interpolation not in INTERPOLATIONS:
            fix = near_miss(self.interpolation, INTERPOLATIONS)
            what = f"unknown interpolation {self.interpolation!r}"
            raise UsageError(what, where="interpolation", fix=fix)
        if not self.antialias and self.interpolation not in ("bilinear", "bicubic", "nearest"):
            what = f"{self.interpolation} is always antialiased"
            raise UsageError(what, where="antialias", fix="leave out antialias=0")
        if self.channels not in (1, 3):
            fix = "give 3, or 1 for grey"
            raise UsageError(f"{self.channels} channels", where="channels", fix=fix)

        if self.mode not in MODES:
            what, fix = f"unknown mode {self.mode!r}", near_miss(self.mode, MODES)
            raise UsageError(what, where="mode", fix=fix)
        if self.is_random and self.crop is None:
            fix = "give its size, such as crop=224"
            raise UsageError("needs a crop", where="mode=random-resized", fix=fix)

    @property
    def is_random(self) -> bool:
        """Whether training sees parts of images that are drawn at random."""
        return self.mode == "random-resized"

    def __str__(self) -> str:
        """Return the query that `parse` reads, without what is usual."""
        texts = {f.name: _text(getattr(self, f.name)) for f in fields(self)}
        usual = {f.name: _text(f.default) for f in fields(self)}
        return "&".join(f"{name}={text}" for name, text in texts.items() if text != usual[name])

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the pixels ``(C_in, H, W)``, uint8, of *image*, which is grey or RGB."""
        image = in_mode(image, "L" if self.channels == 1 else "RGB")
        if self.resize is not None:
            height, width = self._resized(image.height, image.width)
            if not self.antialias:
                return _cropped(
                    _interpolated(image, (height, width), self.interpolation), self.crop
                )
            if (width, height) != image.size:
                image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        return _cropped(_tensor(image), self.crop)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the size after resizing, which torchvision rounds down."""
        if isinstance(self.resize, tuple):
            return self.resize
        short, long = sorted((height, width))
        side = self.resize or short
        longer = int(side * long / short)
        return (side, longer) if height <= width else (longer, side)

    def drawn(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        """Return a random part of *image* ``(C_in, crop, crop)``, uint8, for training."""
        image = in_mode(image, "L" if self.channels == 1 else "RGB")
        side = self.crop or min(image.size)
        how = Image.Resampling[self.interpolation.upper()]
        part = image.crop(_random_box(*image.size, generator))
        return _tensor(part.resize((side, side), how))

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Preprocessing:
        """Return the preprocessing that *query* describes.

        Raises:
            UsageError: a key is unknown, or its value is not of the right kind.
        """
        name = query.get("preprocessing")
        start = cls() if name is None else named(name)
        rest = {key: text for key, text in query.items() if key != "preprocessing"}
        return replace(start, **{key: _value(key, text) for key, text in rest.items()})

    @classmethod
    def stated_by(cls, config: Mapping[str, Any]) -> Preprocessing | None:
        """Return what timm's configuration *config* of a network states, or None if it is silent.

        As timm evaluates: the shorter side is resized to the size of the input divided by
        ``crop_pct``, and the centre is cut out. With ``crop_mode`` ``squash``, both sides are
        resized; other modes, and inputs that are not square, are not supported.
        """
        size = config.get("test_input_size") or config.get("input_size")
        mode = config.get("crop_mode") or "center"
        if not size or size[1] != size[2] or mode not in ("center", "squash"):
            return None
        channels, side, _ = size
        share = config.get("test_crop_pct") or config.get("crop_pct") or 0.875
        how = config.get("interpolation") or "bicubic"
        scaled = math.floor(side / share)
        resize = (scaled, scaled) if mode == "squash" else scaled
        return cls(resize, side, how, channels=channels)


PREPROCESSINGS: dict[str, Preprocessing] = {
    "Res256Crop224": Preprocessing(256, 224),
    "BicubicRes256Crop224": Preprocessing(256, 224, "bicubic"),
    "Crop288": Preprocessing(None, 288),
    "Res224": Preprocessing((224, 224)),
}
"""RobustBench's names of its preprocessings, and what they mean."""


def named(name: str) -> Preprocessing:
    """Return the preprocessing called *name*.

    Args:
        name: one of `PREPROCESSINGS`; ``timm:NAME`` for what timm states of that network; or
            ``rb:imagenet/Linf/NAME`` for what RobustBench does for that entry.

    Raises:
        UsageError: there is none.

    Example:
        >>> str(named("BicubicRes256Crop224"))
        'resize=256&crop=224&interpolation=bicubic'
    """
    if name in PREPROCESSINGS:
        return PREPROCESSINGS[name]
    if name.startswith(zoo.PREFIX):
        entry = zoo.entry(name)
        if entry.preprocessing:
            return PREPROCESSINGS[entry.preprocessing]
    if name.startswith("timm:"):
        import timm

        config = timm.get_pretrained_cfg(name.removeprefix("timm:"), allow_unregistered=False)
        found = None if config is None else Preprocessing.stated_by(config.to_dict())
        if found is not None:
            return found
    fix = near_miss(name, [*PREPROCESSINGS, "timm:NAME", "rb:imagenet/Linf/NAME"])
    raise UsageError(f"unknown preprocessing {name!r}", where="preprocessing", fix=fix)


KEYS = ("preprocessing", *(f.name for f in fields(Preprocessing)))


def split_query(ref: str) -> tuple[str, Preprocessing | None]:
    """Return *ref* without its preprocessing, and the preprocessing, if there is any.

    Keys that are not of the preprocessing stay in the reference, for its reader.

    Raises:
        UsageError: the preprocessing is malformed.

    Example:
        >>> split_query("folder:photos?list=val.txt&resize=256&crop=224")
        ('folder:photos?list=val.txt', Preprocessing(resize=256, crop=224, ...))
    """
    place, mark, text = ref.rpartition("?")
    pairs = [pair.partition("=") for pair in text.split("&")]
    ours = {key: value for key, _, value in pairs if key in KEYS}
    if not mark or not ours:
        return ref, None
    others = "&".join("".join(pair) for pair in pairs if pair[0] not in KEYS)
    twice = [key for key in ours if [pair[0] for pair in pairs].count(key) > 1]
    if twice:
        raise UsageError(f"gives {twice[0]} twice", where=ref, fix="give it once")
    return f"{place}?{others}" if others else place, Preprocessing.parse(ours)


def _value(key: str, text: str) -> Any:
    """Return the value of *key* that is written *text*."""
    if key in ("interpolation", "mode"):
        return text
    if key == "antialias" and text in ("0", "1"):
        return text == "1"
    if key == "resize" and (sides := re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)):
        return int(sides[1]), int(sides[2])
    if key != "antialias" and re.fullmatch(r"\d{1,5}", text):
        return int(text)
    kinds = {"antialias": "0 or 1", "resize": "a number of pixels, or HEIGHTxWIDTH"}
    what = f"{key}={text} is not {kinds.get(key, 'a number')}"
    raise UsageError(what, where="preprocessing", fix="such as ?resize=256&crop=224")


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _random_box(width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a random part, as torchvision draws it.

    It covers 8% to 100% of the area, at an aspect ratio of 3/4 to 4/3. If ten draws do not fit into
    the image, it is the largest part in the centre with an allowed ratio.
    """
    for _ in range(10):
        share, ratio, across, down = torch.rand(4, generator=generator).tolist()
        area = width * height * (AREA[0] + share * (1 - AREA[0]))
        aspect = RATIO[0] * (RATIO[1] / RATIO[0]) ** ratio
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _cropped(pixels: Tensor, side: int | None) -> Tensor:
    """Return the centre of *pixels* as a square, where torchvision has it; black lies outside."""
    if side is None:
        return pixels
    margins = [side - length for length in (pixels.shape[2], pixels.shape[1])]
    padding = [m for margin in margins for m in (max(margin, 0) // 2, (max(margin, 0) + 1) // 2)]
    pixels = F.pad(pixels, padding)
    top, left = (round((length - side) / 2) for length in pixels.shape[1:])
    return pixels[:, top : top + side, left : left + side].contiguous()


def _interpolated(image: Image.Image, size: tuple[int, int], how: str) -> Tensor:
    """Return *image* resized without antialiasing, as torchvision resizes tensors."""
    pixels = _tensor(image)[None].float()
    made = F.interpolate(pixels, size, mode=how, align_corners=None if how == "nearest" else False)
    return made[0].round().clamp(0, 255).to(torch.uint8)


def _tensor(image: Image.Image) -> Tensor:
    """Return the pixels ``(C_in, H, W)`` of an image with 8 bits per channel."""
    array = np.array(image)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()
