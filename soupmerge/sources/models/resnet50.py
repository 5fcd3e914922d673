"""ResNet-50 in its CIFAR form, with post- or pre-activation blocks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self._convolutions(channels_in, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.bn3 = nn.BatchNorm2d(4 * channels)

    def _convolutions(self, channels_in: int, channels: int, stride: int) -> None:
        out = 4 * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != out:
            conv = nn.Conv2d(channels_in, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        return F.relu(out + self.shortcut(x))


class PreActBottleneck(Bottleneck):
    """Pre-activation bottleneck, as in Chen et al. 2020 (arXiv 2003.12862)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        nn.Module.__init__(self)
        self._convolutions(channels_in, channels, stride)
        self.bn0 = nn.BatchNorm2d(channels_in)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        active = F.relu(self.bn0(x))
        out = F.relu(self.bn1(self.conv1(active)))
        out = self.conv3(F.relu(self.bn2(self.conv2(out))))
        whole: Tensor = out + self.shortcut(active if len(self.shortcut) else x)
        return whole


class ResNet50(nn.Module):
    """ResNet-50 for 32×32 images: a 3×3 first layer and no pooling after it; 23.5 M.

    Tensor names are those of the widely used CIFAR definition (``conv1, bn1, layer1…4, linear``).

    Args:
        num_classes: classes C.
        in_channels: channels of the images.
        preact: use blocks that begin with batch norm and ReLU.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, preact: bool = False) -> None:
        super().__init__()
        block = PreActBottleneck if preact else Bottleneck
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels_in = 64
        for i, (blocks, channels) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
            first = block(channels_in, channels, 2 if i else 1)
            channels_in = 4 * channels
            rest = [block(channels_in, channels, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(channels_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits
