"""What a set of images holds, before anything is done with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.asking import probe
from soupmerge.binding import bind, ref_of
from soupmerge.errors import InputError, enumerated
from soupmerge.sources.images.image_set import Images

SIZED = 1000
"""Images whose headers are read for their sizes, spread evenly over the set."""
LISTED = 3
"""Sizes that are listed; of more, the smallest and the largest are."""


@dataclass(frozen=True, eq=False)
class Summary:
    """What a set of images holds: classes, images per class, sizes, and its fingerprint.

    Attributes:
        images: the set.
        sizes: (height, width) → number of images, of those that were looked at, as they are
            stored.
        unreadable: number of images whose headers could not be read, of those that were looked at.
        network: the reference of the network that was asked about the first image, if one was.
        misfit: why it cannot judge the images, or None if it can.

    Example:
        >>> import soupmerge as sm
        >>> summary = sm.summarise(sm.data("digits", limit=50))
        >>> summary.per_class["0"], summary.sizes
        (7, {(8, 8): 50})
    """

    images: Images
    sizes: Mapping[tuple[int, int], int]
    unreadable: int = 0
    network: str | None = None
    misfit: str | None = None

    @cached_property
    def per_class(self) -> dict[str, int]:
        """Name of each class, or its number, → number of images."""
        names = self.images.class_names or [str(i) for i in range(self.images.classes)]
        counts = torch.bincount(self.images.labels, minlength=len(names)).tolist()
        return dict(zip(names, counts, strict=True))

    @property
    def empty(self) -> list[str]:
        """The classes without images."""
        return [name for name, n in self.per_class.items() if not n]

    def rows(self) -> list[tuple[str, str]]:
        """Return the summary as names and texts."""
        images, counts = self.images, list(self.per_class.values())
        rows = [
            ("split", images.split),
            ("images", f"{len(images):,}"),
            ("classes", self._classes()),
            ("images per class", f"{min(counts)} to {max(counts)}, median {median(counts):g}"),
            ("width × height", self._sizes()),
        ]
        if self.unreadable:
            rows.append(("unreadable", f"{self.unreadable:,}; --scan lists all that are broken"))
        known = images.fingerprint()
        shown = ("outputs", "labels", "preprocessing", "corrupted by", "fingerprint")
        rows += [(key, str(known[key])) for key in shown if key in known]
        rows += [(self.network, self.misfit or "fits")] if self.network else []
        return [*rows, ("sha256", images.sha256)]

    def _classes(self) -> str:
        names = f": {enumerated(self.images.class_names)}" if self.images.class_names else ""
        missing = (
            f"; no images of {len(self.empty)}: {enumerated(self.empty)}" if self.empty else ""
        )
        return f"{self.images.classes:,}{names}{missing}"

    def _sizes(self) -> str:
        looked_at = sum(self.sizes.values()) + self.unreadable
        by_area = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        if len(by_area) == 1:
            text = _size(by_area[0])
        elif len(by_area) <= LISTED:
            text = ", ".join(f"{self.sizes[size]:,} of {_size(size)}" for size in by_area)
        else:
            ends = f"{_size(by_area[0])} to {_size(by_area[-1])}"
            text = f"{ends}, {len(by_area)} sizes"
        some = f"; {looked_at:,} of {len(self.images):,} images were looked at"
        return text + (some if looked_at < len(self.images) else "")

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        counts = list(self.per_class.values())
        return {
            **self.images.fingerprint(),
            "n_classes": self.images.classes,
            "per_class": self.per_class,
            "images_per_class": {
                "min": min(counts),
                "median": median(counts),
                "max": max(counts),
                "empty": self.empty,
            },
            **({"network": self.network, "misfit": self.misfit} if self.network else {}),
            "unreadable": self.unreadable,
            "sizes": [{"width": w, "height": h, "n": n} for (h, w), n in self.sizes.items()],
        }


def summarise(images: Images, net: nn.Module | None = None) -> Summary:
    """Return what *images* hold; of stored images, no pixel is decoded for it.

    Args:
        images: the set.
        net: a network, which is asked whether it takes such images and has their classes.

    Example:
        >>> summarise(val.data).empty
        []
    """
    network, misfit = (None, None) if net is None else _asked(net, images)
    if isinstance(images.pixels, Tensor):
        height, width = images.pixels.shape[2:]
        return Summary(images, {(height, width): len(images)}, 0, network, misfit)
    some = torch.linspace(0, len(images) - 1, min(len(images), SIZED)).round().long().unique()
    sizes = Counter(images.pixels.sizes(some))
    return Summary(images, dict(sizes), len(some) - sizes.total(), network, misfit)


def _asked(net: nn.Module, images: Images) -> tuple[str, str | None]:
    """Return the reference of *net*, and why it cannot judge *images*, if it cannot."""
    ref = ref_of(net) or type(net).__name__
    try:
        probe(bind(net, net.state_dict()), images, torch.device("cpu"), where=ref)
    except InputError as error:
        return ref, error.what
    return ref, None


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"
