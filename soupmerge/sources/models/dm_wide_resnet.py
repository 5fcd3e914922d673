"""The wide and pre-activation residual networks of Gowal et al. 2020 (arXiv 2010.03593).

Tensor names are those of the authors, as in most files of RobustBench since 2020:
``init_conv``, ``layer.0.block.0.batchnorm_0``, ``logits``. Convolutions with stride 2 pad only
below and on the right, as in TensorFlow. The authors' Swish is SiLU.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soupmerge.sources.models.activations import activation_of
from soupmerge.sources.models.wide_resnet import blocks_of


class MeanSparse(nn.Module):
    """Replaces values near their channel's mean by it (Amini et al. 2024, arXiv 2406.05927).

    Near means within *threshold* standard deviations. All three are buffers, loaded from a file.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.zeros(channels))
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("flag_update_statistics", torch.tensor(0))
        self.register_buffer("batch_num", torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return *x* with values near the mean replaced."""
        names = ("running_mean", "running_var")
        mean, variance = (self.get_buffer(name).view(-1, 1, 1) for name in names)
        near = self.get_buffer("threshold") * variance.sqrt()
        return torch.where((x - mean).abs() < near, mean, x)


class SqueezeExcitation(nn.Module):
    """Scales channels by factors that two layers compute from their means (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return *x* with scaled channels."""
        scale = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(scale)


class DMBlock(nn.Module):
    """Pre-activation block, optionally with squeeze-and-excitation and MeanSparse."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int,
        activation: str,
        squeeze: float,
        sparse: bool,
    ) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(channels_in)
        self.meansparse_0 = MeanSparse(channels_in) if sparse else nn.Identity()
        self.active = activation_of(activation)
        self.conv_0 = nn.Conv2d(channels_in, channels, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(channels)
        self.meansparse_1 = MeanSparse(channels) if sparse else nn.Identity()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.stride, self.equal = stride, channels_in == channels
        if not self.equal:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
        squeezed = round(squeeze * channels)
        self.se = SqueezeExcitation(channels, squeezed) if squeezed else nn.Identity()
        self.meansparse_2 = MeanSparse(channels) if sparse else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        active = self.active(self.meansparse_0(self.batchnorm_0(x)))
        out = self.conv_0(_padded(active, self.stride))
        out = self.conv_1(self.active(self.meansparse_1(self.batchnorm_1(out))))
        shortcut = x if self.equal else self.shortcut(active)
        whole: Tensor = self.meansparse_2(shortcut + self.se(out))
        return whole


class DMStage(nn.Module):
    """Blocks of one width; the first may have a stride."""

    def __init__(
        self, blocks: int, channels_in: int, channels: int, stride: int, *options: object
    ) -> None:
        super().__init__()
        first = DMBlock(channels_in, channels, stride, *options)  # type: ignore[arg-type]
        rest = [DMBlock(channels, channels, 1, *options) for _ in range(blocks - 1)]  # type: ignore[arg-type]
        self.block = nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's output."""
        out: Tensor = self.block(x)
        return out


class DMWideResNet(nn.Module):
    """WRN-depth-widen with SiLU for 32×32 images.

    Args:
        num_classes: classes C.
        depth: layers, 6n + 4.
        widen: factor on the widths 16, 32, 64.
        in_channels: channels of the images.
        activation: ``silu`` or ``relu``.
        sparse: apply `MeanSparse` after each batch norm and block.
        blocks: blocks of each stage, instead of depth.
        widths: channels of the stem and each stage, instead of widen.
        squeeze: ratio of squeeze-and-excitation; 0 for none.
    """

    def __init__(
        self,
        num_classes: int = 10,
        depth: int = 28,
        widen: int = 10,
        in_channels: int = 3,
        activation: str = "silu",
        sparse: bool = False,
        blocks: tuple[int, ...] = (),
        widths: tuple[int, ...] = (),
        squeeze: float = 0,
    ) -> None:
        super().__init__()
        blocks = blocks or (blocks_of(depth),) * 3
        widths = widths or (16, 16 * widen, 32 * widen, 64 * widen)
        options = activation, squeeze, sparse
        sizes = zip(blocks, pairwise(widths), (1, 2, 2), strict=True)
        self.init_conv = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.layer = nn.Sequential(
            *[DMStage(n, *between, stride, *options) for n, between, stride in sizes]
        )
        self.batchnorm = nn.BatchNorm2d(widths[-1])
        self.meansparse_end = MeanSparse(widths[-1]) if sparse else nn.Identity()
        self.active = activation_of(activation)
        self.logits = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.layer(self.init_conv(x))
        x = self.active(self.meansparse_end(self.batchnorm(x)))
        logits: Tensor = self.logits(x.mean((2, 3)))
        return logits


class DMPreActBlock(nn.Module):
    """Pre-activation block whose shortcut, if shapes change, is a 3×3 convolution of the input."""

    def __init__(self, channels_in: int, channels: int, stride: int, activation: str) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(channels_in)
        self.active = activation_of(activation)
        self.conv_2d_1 = nn.Conv2d(channels_in, channels, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(channels)
        self.conv_2d_2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.stride, self.equal = stride, stride == 1 and channels_in == channels
        if not self.equal:
            self.shortcut = nn.Conv2d(channels_in, channels, 3, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = self.conv_2d_1(_padded(self.active(self.batchnorm_0(x)), self.stride))
        out = self.conv_2d_2(self.active(self.batchnorm_1(out)))
        shortcut = x if self.equal else self.shortcut(_padded(x, self.stride))
        whole: Tensor = out + shortcut
        return whole


class DMPreActResNet(nn.Module):
    """Pre-activation ResNet-18 with SiLU for 32×32 images.

    Args:
        num_classes: classes C.
        in_channels: channels of the images.
        activation: ``silu`` or ``relu``.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, activation: str = "silu"
    ) -> None:
        super().__init__()
        self.conv_2d = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        widths = (64, 64, 128, 256, 512)
        for i, (before, after) in enumerate(pairwise(widths)):
            first = DMPreActBlock(before, after, 2 if i else 1, activation)
            second = DMPreActBlock(after, after, 1, activation)
            self.add_module(f"layer_{i}", nn.Sequential(first, second))
        self.batchnorm = nn.BatchNorm2d(512)
        self.active = activation_of(activation)
        self.logits = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.conv_2d(x)
        for i in range(4):
            x = self.get_submodule(f"layer_{i}")(x)
        logits: Tensor = self.logits(self.active(self.batchnorm(x)).mean((2, 3)))
        return logits


def _padded(x: Tensor, stride: int) -> Tensor:
    return F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))


def ra_wide_resnet(**arguments: Any) -> DMWideResNet:
    """Return the RaWideResNet of Peng et al. 2023, "Robust Principles" (arXiv 2308.16258)."""
    usual = {"blocks": (30, 31, 10), "widths": (96, 216, 432, 864), "squeeze": 0.25}
    return DMWideResNet(**{**usual, **arguments})
