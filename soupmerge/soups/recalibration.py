"""Re-estimate the batch-norm statistics of a soup: an average of statistics is not its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from soupmerge.asking import answering
from soupmerge.binding import align, bind
from soupmerge.errors import InputError, UsageError
from soupmerge.label_spaces.outputs import require_one_label
from soupmerge.schedule import order, stream
from soupmerge.types import Attack, Examples, Progress, State, quiet


@dataclass(frozen=True)
class Calibration:
    """The images on which batch-norm statistics are estimated: *data*, clean or under *attack*.

    Attributes:
        data: training images, in an order drawn from *seed*; labels are used only for the attack.
        attack: crafts adversarial images against the soup with its averaged statistics; None leaves
            the images clean.
        batch_size: images per batch, at least 2; a last batch of a single image is left out.
        seed: seed for the order and the random starts of the attack.

    Raises:
        UsageError: fewer than two images in all or per batch, or images that may have several right
            labels are attacked.

    Example:
        >>> Calibration(train, batch_size=20).describe()["batch_size"]
        20
    """

    data: Examples
    attack: Attack | None = None
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 2 or len(self.data) < 2:
            what = "statistics need batches of at least two images"
            raise UsageError(what, where="recalibrate", fix="give more images, or a larger batch")
        if self.attack is not None:
            require_one_label(self.data, "an attack")

    def describe(self) -> dict[str, Any]:
        """Return everything that affects the statistics, for a recipe."""
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
    """Return *state* with re-estimated batch-norm statistics.

    running_mean ← mean over batches of the batch's mean; running_var ← mean over batches of its
    unbiased variance (a cumulative average, as in `torch.optim.swa_utils.update_bn`). Nothing else
    changes: only batch norms are in training mode, and counters are kept. A single thread computes,
    so that on a CPU the same images give the same bits whatever the number of threads.

    Args:
        net: the network; it is copied, not changed.
        state: a soup, or any weights that fit *net*.
        calibration: the images.
        device: device of torch.
        progress: callback for progress; see `types.Progress`.

    Raises:
        InputError: *net* has no batch-norm statistics, or *state* does not fit it.

    Example:
        >>> soup = sm.mix(ingredients, sm.Recipe.of(ingredients, [0.5, 0.5]))
        >>> recalibrated = sm.recalibrate(net, soup, sm.Calibration(train))
        >>> sorted(n for n in soup if not soup[n].equal(recalibrated[n]))[0].split(".")[-1]
        'running_mean'
    """
    fixed, network = bind(net, state, device=device), bind(net, state, device=device)
    norms = {name: m for name, m in network.named_modules() if _has_statistics(m)}
    if not norms:
        fix = "choose another buffer policy"
        raise InputError("has no batch-norm statistics", where="model", fix=fix)
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # means a cumulative average
        norm.train()
    batches = _batches(calibration)
    with _one_thread():
        for done, indices in enumerate(batches, start=1):
            x = _images(calibration, fixed, indices, torch.device(device))
            with torch.no_grad():
                network(x)
            progress("recalibrate", done, len(batches))
    return _with_statistics(state, net, norms)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread, because the number of threads affects how convolutions round."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _batches(calibration: Calibration) -> list[Tensor]:
    shuffled = order(len(calibration.data), calibration.seed, 0)
    return [batch for batch in shuffled.split(calibration.batch_size) if len(batch) > 1]


def _images(
    calibration: Calibration, network: nn.Module, indices: Tensor, device: torch.device
) -> Tensor:
    """Return the images at *indices*, attacked against *network* if there is an attack."""
    x, y = calibration.data.batch(indices)
    x, y = x.to(device), y.to(device)
    if calibration.attack is None:
        return x
    ids = [calibration.data.ids[i] for i in indices.tolist()]
    generators = [stream("recalibrate", calibration.seed, id) for id in ids]
    asked = answering(network, calibration.data)
    return calibration.attack(asked, x, y, generator=generators)


def _with_statistics(state: State, net: nn.Module, norms: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return *state* with the statistics of *norms*, which are named as in *net*."""
    in_state = dict(zip(align(state, net), state, strict=True))
    new = {}
    for name, norm in norms.items():
        prefix = f"{name}." if name else ""
        new[in_state[f"{prefix}running_mean"]] = norm.running_mean.cpu()
        new[in_state[f"{prefix}running_var"]] = norm.running_var.cpu()
    return {name: new.get(name, tensor).to(tensor.dtype) for name, tensor in state.items()}
