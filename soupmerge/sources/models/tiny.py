"""A network small enough to train in seconds."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class DigitsCNN(nn.Module):
    """Three convolutions with batch norm and a linear head, for 8×8 digits; 19 k at width 16.

    Args:
        num_classes: classes C.
        width: channels of the first layer.
        in_channels: channels of the images.
    """

    def __init__(self, num_classes: int = 10, width: int = 16, in_channels: int = 1) -> None:
        super().__init__()
        widths = [in_channels, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            layers.append(nn.Conv2d(before, after, 3, stride=2 if i else 1, padding=1, bias=False))
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.features(x).mean((2, 3)))
        return logits
