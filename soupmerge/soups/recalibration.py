"""Batch-norm statistics of a soup, estimated anew: averages of statistics are not its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from soupmerge.binding import align, bind
from soupmerge.errors import InputError, UsageError
from soupmerge.schedule import order, stream
from soupmerge.types import Attack, Examples, Progress, State, quiet


@dataclass(frozen=True)
class Calibration:
    """On what statistics are estimated: *data*, clean or as *attack* changes them.

    Attributes:
        data: training images, in an order drawn from *seed*; no label is used without an attack.
        attack: crafts adversarial images against the soup with its averaged statistics.
        batch_size: images a batch; a last batch of a single image is left out.
        seed: for the order and the attack's starting points.
    """

    data: Examples
    attack: Attack | None = None
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 2 or len(self.data) < 2:
            what = "statistics need batches of two images or more"
            raise UsageError(what, where="recalibrate", fix="take more images, or a larger batch")

    def describe(self) -> dict[str, Any]:
        """Return all that changes the statistics, for a recipe."""
        attack = self.attack and {"threat": str(self.attack.threat), **self.attack.describe()}
        return {
            "data": self.data.fingerprint(),
            "attack": attack,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }


def recalibrate(
    net: nn.Module,
    state: State,
    calibration: Calibration,
    *,
    device: torch.device | str = "cpu",
    progress: Progress = quiet,
) -> dict[str, Tensor]:
    """Return *state* with its batch-norm statistics estimated anew.

    running_mean ← mean over batches of the batch's mean; running_var ← that of its unbiased
    variance (a cumulative average, as `torch.optim.swa_utils.update_bn` takes it). Nothing else
    changes: only batch norms are in training mode, and counters stay as they are. On a CPU one
    thread computes, so that the same images give the same bits whatever the number of threads.

    Args:
        net: the network; it is copied, not changed.
        state: a soup, or any weights that fit *net*.
        calibration: the images.
        device: where to compute.
        progress: is told of batches.

    Raises:
        InputError: *net* has no batch-norm statistics, or *state* does not fit it.
    """
    still, moving = bind(net, state, device=device), bind(net, state, device=device)
    norms = {name: m for name, m in moving.named_modules() if _keeps_statistics(m)}
    if not norms:
        fix = "choose another buffer policy"
        raise InputError("has no batch-norm statistics", where="model", fix=fix)
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a cumulative average
        norm.train()
    batches = _batches(calibration)
    with _one_thread():
        for done, indices in enumerate(batches, start=1):
            x = _images(calibration, still, indices, torch.device(device))
            with torch.no_grad():
                moving(x)
            progress("recalibrate", done, len(batches))
    return _updated(state, net, norms)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: the number of threads changes how convolutions round."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _batches(calibration: Calibration) -> list[Tensor]:
    shuffled = order(len(calibration.data), calibration.seed, 0)
    return [batch for batch in shuffled.split(calibration.batch_size) if len(batch) > 1]


def _images(
    calibration: Calibration, still: nn.Module, indices: Tensor, device: torch.device
) -> Tensor:
    x, y = calibration.data.batch(indices)
    x, y = x.to(device), y.to(device)
    if calibration.attack is None:
        return x
    ids = [calibration.data.ids[i] for i in indices.tolist()]
    generators = [stream("recalibrate", calibration.seed, id) for id in ids]
    return calibration.attack(still, x, y, generator=generators)


def _updated(state: State, net: nn.Module, norms: Mapping[str, Any]) -> dict[str, Tensor]:
    fresh = {}
    for name, norm in norms.items():
        fresh[f"{name}.running_mean" if name else "running_mean"] = norm.running_mean
        fresh[f"{name}.running_var" if name else "running_var"] = norm.running_var
    ours = dict(zip(align(state, net), state, strict=True))  # the network's names → those of state
    new = {ours[name]: tensor.cpu() for name, tensor in fresh.items()}
    return {name: new.get(name, tensor).to(tensor.dtype) for name, tensor in state.items()}
