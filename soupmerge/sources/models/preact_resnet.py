"""Pre-activation ResNet-18 for 32×32 images (He et al. 2016, arXiv 1603.05027)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class PreActBlock(nn.Module):
    """Batch norm before each of two convolutions; *late*: the shortcut starts after activation."""

    def __init__(self, channels_in: int, channels: int, stride: int, late: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.late, self.equal = late, stride == 1 and channels_in == channels
        if not self.equal:
            conv = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        shortcut = x if self.equal else self.shortcut(active if self.late else x)
        return out + shortcut


class PreActResNet18(nn.Module):
    """Pre-activation ResNet-18; 11.2 M.

    Tensor names are those of the widely used CIFAR definition (``conv1, layer1…4, linear``). Names
    and shapes of tensors do not reveal which of its variants a file belongs to.

    Args:
        num_classes: classes C.
        in_channels: channels of the images.
        late: shortcuts that change shapes start after the block's first activation.
        last_bn: apply batch norm and ReLU before the head.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        late: bool = False,
        last_bn: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        for i, (before, after) in enumerate(pairwise((64, 64, 128, 256, 512)), start=1):
            first = PreActBlock(before, after, 2 if i > 1 else 1, late)
            second = PreActBlock(after, after, 1, late)
            self.add_module(f"layer{i}", nn.Sequential(first, second))
        self.last_bn = last_bn
        if last_bn:
            self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.conv1(x)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        if self.last_bn:
            x = F.relu(self.bn(x))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits
