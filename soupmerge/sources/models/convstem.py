"""ConvNeXt and ViT with a convolutional stem (Singh, Croce & Hein 2023, arXiv 2303.01870).

The bodies are timm's, with its tensor names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


class ConvStem(nn.Module):
    """3×3 convolutions, each followed by layer norm and GELU, and optionally a 1×1 convolution.

    Args:
        widths: output channels of the 3×3 convolutions.
        strides: their strides.
        out: output channels of the 1×1 convolution; None for no such convolution.
    """

    def __init__(
        self, widths: tuple[int, ...], strides: tuple[int, ...], out: int | None = None
    ) -> None:
        super().__init__()
        last = [] if out is None else [nn.Conv2d(widths[-1], out, 1)]
        self.stem = nn.Sequential(*_layers(widths, strides), *last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input of the body."""
        out: Tensor = self.stem(x)
        return out


def _layers(widths: tuple[int, ...], strides: tuple[int, ...]) -> Iterator[nn.Module]:
    from timm.layers.norm import LayerNorm2d

    before = 3
    for width, stride in zip(widths, strides, strict=True):
        yield nn.Conv2d(before, width, 3, stride, padding=1)
        yield LayerNorm2d(width, eps=1e-6)
        yield nn.GELU()
        before = width


def convnext_convstem(num_classes: int = 1000, size: str = "tiny") -> nn.Module:
    """Return a ConvNeXt of *size* ``tiny``, ``small``, ``base`` or ``large`` with a ConvStem."""
    import timm

    stems = {
        "tiny": ((48, 96), (2, 2)),
        "small": ((48, 96), (2, 2)),
        "base": ((64, 96, 128), (2, 2, 1)),
        "large": ((96, 144, 192), (2, 2, 1)),
    }
    if size not in stems:
        raise ValueError(f"size {size!r} is none of {', '.join(stems)}")
    net: nn.Module = timm.create_model(f"convnext_{size}", num_classes=num_classes)
    net.stem = ConvStem(*stems[size])
    return net


def vit_convstem(num_classes: int = 1000, size: str = "small") -> nn.Module:
    """Return a ViT of *size* ``small`` or ``base`` for 16×16 patches with a ConvStem."""
    import timm

    widths = {"small": 384, "base": 768}
    if size not in widths:
        raise ValueError(f"size {size!r} is none of {', '.join(widths)}")
    net: nn.Module = timm.create_model(f"vit_{size}_patch16_224", num_classes=num_classes)
    stem = ConvStem((48, 96, 192, 384), (2, 2, 2, 2), out=widths[size])
    embed: Any = net.patch_embed
    embed.proj = stem
    return net
