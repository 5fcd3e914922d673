"""XCiT as in "A Light Recipe to Train Robust Vision Transformers" (Debenedetti et al. 2022)."""

from __future__ import annotations

from typing import Any

from torch import nn


def xcit(num_classes: int = 1000, size: str = "s12", patch: int = 16) -> nn.Module:
    """Return timm's XCiT of *size* ``s12``, ``m12`` or ``l12``.

    Args:
        num_classes: classes C.
        size: width and number of heads, at 12 blocks.
        patch: 16, or 8 or 4 for small images. The latter remove strides from the first
            convolutions, so that tensors have the same shapes (arXiv 2209.07399).
    """
    import timm

    sizes = {"s12": (384, 8), "m12": (512, 8), "l12": (768, 16)}
    if size not in sizes or patch not in (16, 8, 4):
        raise ValueError(f"no XCiT of size {size!r} and patch {patch}")
    width, heads = sizes[size]
    net: nn.Module = timm.create_model(
        "xcit_small_12_p16_224", num_classes=num_classes, embed_dim=width, num_heads=heads
    )
    embed: Any = net.patch_embed
    for i in range({16: 0, 8: 1, 4: 2}[patch]):
        embed.proj[2 * i][0].stride = (1, 1)
    embed.patch_size = patch
    return net
