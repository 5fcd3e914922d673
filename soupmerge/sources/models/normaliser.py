"""Normalisation inside a network, as hooks on its input, so that no tensor is renamed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.errors import UsageError


class Normaliser:
    """A forward pre-hook that maps images x to (x − mean) / std, per channel.

    Args:
        mean, std: one number per channel, in units of pixels in ``[0, 1]``.
        names: names of two tensors of the network that hold mean and deviation, as in some
            published networks; they are read from there. Without names, both are constants.

    Raises:
        UsageError: they do not fit together, or a deviation is not positive.
    """

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], names: tuple[str, ...] = ()
    ) -> None:
        values = torch.tensor((*mean, *std), dtype=torch.float32, device="cpu")  # like images
        fits = mean and len(mean) == len(std) and bool(values.isfinite().all())
        if not fits or bool((values[len(mean) :] <= 0).any()):
            fix = "give one mean and one std > 0 per channel"
            raise UsageError(f"mean {mean} and std {std} do not fit", where="model", fix=fix)
        if len(names) not in (0, 2):
            raise UsageError(f"{names} are not two names", where="model constants")
        self.mean, self.std, self.names = mean, std, names

    def put_into(self, net: nn.Module) -> None:
        """Make *net* normalise its images."""
        for name, values in zip(self.names, (self.mean, self.std), strict=False):
            net.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))
        net.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the module's arguments, with normalised images."""
        x: Tensor = args[0]
        if self.names:
            mean, std = (module.get_buffer(name) for name in self.names)
        else:
            mean, std = (
                torch.tensor(values, dtype=x.dtype, device=x.device).view(-1, 1, 1)
                for values in (self.mean, self.std)
            )
        return ((x - mean) / std, *args[1:])


def per_image(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the module's arguments, each image with mean 0 and standard deviation 1.

    The deviation is at least 1/√n for an image of n numbers, as in TensorFlow's
    ``per_image_standardization``.
    """
    x: Tensor = args[0]
    std, mean = torch.std_mean(x, (1, 2, 3), keepdim=True)
    return ((x - mean) / std.clamp(min=x[0].numel() ** -0.5), *args[1:])
