"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soupmerge.sources.models.activations import activation_of


class WideBlock(nn.Module):
    """Pre-activation block; where shapes change, the shortcut starts after the first activation."""

    projection = "convShortcut"

    def __init__(self, channels_in: int, channels: int, stride: int, active: nn.Module) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.activation = active
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.equal = channels_in == channels
        if not self.equal:
            conv = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.add_module(self.projection, conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        active = self.activation(self.bn1(x))
        out: Tensor = self.conv2(self.activation(self.bn2(self.conv1(active))))
        shortcut: Tensor = x if self.equal else self.get_submodule(self.projection)(active)
        return out + shortcut


class A4Block(WideBlock):
    """`WideBlock` with its shortcut named ``shortcut.0``."""

    projection = "shortcut"

    def __init__(self, channels_in: int, channels: int, stride: int, active: nn.Module) -> None:
        super().__init__(channels_in, channels, stride, active)
        if not self.equal:
            self.shortcut = nn.Sequential(self.get_submodule("shortcut"))


class WideStage(nn.Module):
    """Blocks of one width that share one activation; the first may have a stride."""

    def __init__(
        self,
        blocks: int,
        channels_in: int,
        channels: int,
        stride: int,
        active: nn.Module,
        block: type[WideBlock] = WideBlock,
    ) -> None:
        super().__init__()
        rest = [block(channels, channels, 1, active) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(block(channels_in, channels, stride, active), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's output."""
        out: Tensor = self.layer(x)
        return out


class CosineHead(nn.Linear):
    """Logits cos(x, w_c) of features and rows of the weight (Pang et al. 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return F.linear(F.normalize(x), F.normalize(self.weight))


class WideResNet(nn.Module):
    """WRN-depth-widen for 32×32 images; WRN-28-10 has 36.5 M parameters.

    Tensor names are those of TRADES' definition, which RobustBench uses (``block1.layer.0.bn1``).

    Args:
        num_classes: classes C.
        depth: layers, 6n + 4.
        widen: factor on the widths 16, 32, 64.
        in_channels: channels of the images.
        activation: ``relu``, ``silu`` or ``pssilu``, whose two parameters all blocks share.
        sub_block1: have an unused copy of the first stage, as many published files do.
        cosine: use a `CosineHead`, without bias.
    """

    def __init__(
        self,
        num_classes: int = 10,
        depth: int = 28,
        widen: int = 10,
        in_channels: int = 3,
        activation: str = "relu",
        sub_block1: bool = False,
        cosine: bool = False,
    ) -> None:
        super().__init__()
        n = blocks_of(depth)
        a, b, c = 16 * widen, 32 * widen, 64 * widen
        active = activation_of(activation)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(n, 16, a, 1, active)
        if sub_block1:
            self.sub_block1 = WideStage(n, 16, a, 1, active)
        self.block2 = WideStage(n, a, b, 2, active)
        self.block3 = WideStage(n, b, c, 2, active)
        self.bn1 = nn.BatchNorm2d(c)
        self.activation = active
        self.fc = CosineHead(c, num_classes, bias=False) if cosine else nn.Linear(c, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(self.activation(self.bn1(x)).mean((2, 3)))
        return logits


class StagedWideResNet(nn.Module):
    """A wide residual network with individual depths and widths of its stages.

    Tensor names are ``stem_conv``, ``blocks.0.layer.0.bn1``, … WRN-34-R of Huang et al. 2021
    (arXiv 2110.03825) is the default.

    Args:
        num_classes: classes C.
        in_channels: channels of the images.
    """

    channels: tuple[int, ...] = (16, 320, 640, 512)
    depths: tuple[int, ...] = (5, 5, 5)
    block = WideBlock
    last_norm = "bn1"
    activation = "relu"

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        active = activation_of(self.activation)
        first, *widths = self.channels
        self.stem_conv = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        sizes = zip(self.depths, self.channels, widths, (1, 2, 2), strict=False)
        self.blocks = nn.Sequential(*[WideStage(*size, active, self.block) for size in sizes])
        self.add_module(self.last_norm, nn.BatchNorm2d(widths[-1]))
        self.active = active
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        norm = self.get_submodule(self.last_norm)
        x = self.active(norm(self.blocks(self.stem_conv(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class WideResNetA4(StagedWideResNet):
    """WRN-A4 with SiLU (Huang et al. 2022, arXiv 2212.11005); 147 M.

    It normalises by CIFAR-10's mean and deviation, which are its tensors ``mu`` and ``sigma``.
    """

    channels = (16, 160, 448, 384)
    depths = (27, 28, 13)
    block = A4Block
    last_norm = "norm1"
    activation = "silu"

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.register_buffer("mu", torch.tensor((0.4914, 0.4822, 0.4465)).view(3, 1, 1))
        self.register_buffer("sigma", torch.tensor((0.2471, 0.2435, 0.2616)).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return super().forward((x - self.get_buffer("mu")) / self.get_buffer("sigma"))


def blocks_of(depth: int) -> int:
    """Return the number n of blocks per stage of a network with *depth* = 6n + 4 layers."""
    blocks, extra = divmod(depth - 4, 6)
    if extra or blocks < 1:
        raise ValueError(f"depth {depth} is not 6n + 4")
    return blocks
