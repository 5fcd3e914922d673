"""Networks and images of one's own, as ``package.module:function`` names them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.sources.models.wide_resnet import StagedWideResNet, WideResNetA4

HERE = "tests.sources.own"


class SmallStaged(StagedWideResNet):
    channels, depths = (4, 8, 12, 6), (2, 1, 1)


class SmallA4(WideResNetA4):
    channels, depths = (4, 8, 12, 6), (2, 1, 1)


class Recording(nn.Linear):
    """Keeps the arguments that it was made with."""

    def __init__(self, **given: Any) -> None:
        super().__init__(2, 3)
        self.given = given


def linear(num_classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))


def headless() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten())


def seven() -> int:
    return 7


def leaves() -> nn.Module:
    raise SystemExit(3)


def arrays(split: str) -> tuple[Tensor, Tensor]:
    return torch.full((4, 1, 2, 2), {"train": 0.25, "test": 0.75}[split]), torch.tensor(
        [0, 1, 2, 1]
    )


def in_a_list(split: str) -> list[int]:
    return [1, 2, 3]


def three(split: str) -> tuple[Tensor, Tensor, Tensor]:
    x, y = arrays(split)
    return x, y, y
