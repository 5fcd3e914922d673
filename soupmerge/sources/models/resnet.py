"""Residual networks for 32×32 images: ResNet-9, and ResNet-18 and -50 in their CIFAR forms."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def _block(channels_in: int, channels: int, *, pool: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


class ResNet9(nn.Module):
    """Nine layers, two residual pairs (Page 2018, "How to train your ResNet"); 6.6 M at width 64.

    Args:
        num_classes: classes C.
        width: channels of the first layer.
        in_channels: channels of the images.
    """

    def __init__(self, num_classes: int = 10, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        self.prep = _block(in_channels, width)
        self.layer1 = _block(width, 2 * width, pool=True)
        self.res1 = nn.Sequential(_block(2 * width, 2 * width), _block(2 * width, 2 * width))
        self.layer2 = _block(2 * width, 4 * width, pool=True)
        self.layer3 = _block(4 * width, 8 * width, pool=True)
        self.res2 = nn.Sequential(_block(8 * width, 8 * width), _block(8 * width, 8 * width))
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.layer1(self.prep(x))
        x = x + self.res1(x)
        x = self.layer3(self.layer2(x))
        x = x + self.res2(x)
        logits: Tensor = self.fc(x.amax((2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, arXiv 1512.03385)."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut (He et al. 2016, arXiv 1512.03385)."""

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        out = self.expansion * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != out:
            conv = nn.Conv2d(channels_in, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))
        self._add_norms(channels_in, channels)

    def _add_norms(self, channels_in: int, channels: int) -> None:
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.bn3 = nn.BatchNorm2d(self.expansion * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        return F.relu(out + self.shortcut(x))


class PreActBottleneck(Bottleneck):
    """Pre-activation bottleneck, as in Chen et al. 2020 (arXiv 2003.12862)."""

    def _add_norms(self, channels_in: int, channels: int) -> None:
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


class _CifarResNet(nn.Module):
    """A ResNet for 32×32 images: a 3×3 first layer and no pooling after it.

    Tensor names are those of the widely used CIFAR definition (``conv1, bn1, layer1…4, linear``).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
        num_classes: int,
        width: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for i, count in enumerate(blocks):
            channels = width << i
            after = block.expansion * channels
            first = block(before, channels, 2 if i else 1)
            rest = [block(after, channels, 1) for _ in range(count - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *rest))
            before = after
        self.linear = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class ResNet18(_CifarResNet):
    """ResNet-18 in its CIFAR form; 11.2 M at width 64.

    Args:
        num_classes: classes C.
        width: channels of the first stage.
        in_channels: channels of the images.
    """

    def __init__(self, num_classes: int = 10, width: int = 64, in_channels: int = 3) -> None:
        super().__init__(BasicBlock, (2, 2, 2, 2), num_classes, width, in_channels)


class ResNet50(_CifarResNet):
    """ResNet-50 in its CIFAR form; 23.5 M.

    Args:
        num_classes: classes C.
        in_channels: channels of the images.
        preact: use blocks that begin with batch norm and ReLU.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, preact: bool = False) -> None:
        block = PreActBottleneck if preact else Bottleneck
        super().__init__(block, (3, 4, 6, 3), num_classes, 64, in_channels)
