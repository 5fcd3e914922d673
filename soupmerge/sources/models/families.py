"""The built-in networks, in all published sizes of their families."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from soupmerge.sources.models.convstem import convnext_convstem, vit_convstem
from soupmerge.sources.models.dm_wide_resnet import DMPreActResNet, DMWideResNet
from soupmerge.sources.models.preact_resnet import PreActResNet18
from soupmerge.sources.models.resnet import ResNet9, ResNet18, ResNet50
from soupmerge.sources.models.tiny import DigitsCNN
from soupmerge.sources.models.wide_resnet import StagedWideResNet, WideResNet, WideResNetA4
from soupmerge.sources.models.xcit import xcit

WIDE = ((28, 4), (28, 10), (34, 10), (34, 15), (34, 20), (40, 2), (70, 16))
DM_WIDE = ((28, 10), (34, 10), (34, 20), (70, 16), (82, 8), (94, 16), (106, 16))
RA_WIDE = {"blocks": (30, 31, 10), "widths": (96, 216, 432, 864), "squeeze": 0.25}
"""Peng et al. 2023, "Robust Principles" (arXiv 2308.16258)."""

BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "digits-cnn": DigitsCNN,
    "resnet9": ResNet9,
    "resnet18-cifar": ResNet18,
    "resnet50-cifar": ResNet50,
    "preact-resnet18": PreActResNet18,
    **{f"wrn-{d}-{w}": partial(WideResNet, depth=d, widen=w) for d, w in WIDE},
    "wrn-34-r": StagedWideResNet,
    "wrn-a4": WideResNetA4,
    "dm-preact-resnet18": DMPreActResNet,
    **{f"dm-wrn-{d}-{w}": partial(DMWideResNet, depth=d, widen=w) for d, w in DM_WIDE},
    "ra-wrn-70-16": partial(DMWideResNet, **RA_WIDE),  # type: ignore[arg-type]
    **{
        f"convnext-{size}-convstem": partial(convnext_convstem, size=size)
        for size in ("tiny", "small", "base", "large")
    },
    **{f"vit-{size}-convstem": partial(vit_convstem, size=size) for size in ("small", "base")},
    **{f"xcit-{size}": partial(xcit, size=size) for size in ("s12", "m12", "l12")},
}
"""Name → network, called with ``num_classes`` and its own arguments."""
