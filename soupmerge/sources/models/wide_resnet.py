"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class WideBlock(nn.Module):
    """Pre-activation block; where shapes change, the shortcut starts after the first activation."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.equal = channels_in == channels
        if not self.equal:
            self.convShortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        shortcut: Tensor = x if self.equal else self.convShortcut(active)
        return out + shortcut


class WideStage(nn.Module):
    """Blocks of one width, the first of which may stride."""

    def __init__(self, blocks: int, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        rest = [WideBlock(channels, channels, 1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(WideBlock(channels_in, channels, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's output."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """WRN-depth-widen for 32×32 images; WRN-28-10 has 36.5 M parameters.

    Tensor names are those of TRADES' definition, which RobustBench uses (``block1.layer.0.bn1``).

    Args:
        num_classes: classes C.
        depth: layers, 6n + 4.
        widen: factor on the widths 16, 32, 64.
        in_channels: of the images.
    """

    def __init__(
        self, num_classes: int = 10, depth: int = 28, widen: int = 10, in_channels: int = 3
    ) -> None:
        super().__init__()
        blocks, extra = divmod(depth - 4, 6)
        if extra or blocks < 1:
            raise ValueError(f"depth {depth} is not 6n + 4")
        a, b, c = 16 * widen, 32 * widen, 64 * widen
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(blocks, 16, a, 1)
        self.block2 = WideStage(blocks, a, b, 2)
        self.block3 = WideStage(blocks, b, c, 2)
        self.bn1 = nn.BatchNorm2d(c)
        self.fc = nn.Linear(c, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(F.relu(self.bn1(x)).mean((2, 3)))
        return logits
