"""Watches a network under attack: counts its gradients, and times it."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.robustness.meter import answers_right

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


@dataclass(frozen=True)
class Case:
    """A network in two forms, the images to judge it on, and the settings.

    Attributes:
        plain: the network as it is after loading: contiguous, with parameters that require
            gradients.
        bound: the network as soupmerge binds it.
        rounds: number of repetitions of what is timed, in turn.
    """

    plain: nn.Module
    bound: nn.Module
    data: sm.Images
    threats: tuple[sm.Threat, ...]
    steps: int
    batch: int
    seed: int
    rounds: int

    def right(self) -> Tensor:
        """Return the indices of the images that the network gets right."""
        return sm.Benchmark(self.data)(self.bound).right("clean").nonzero().squeeze(1)

    def judge(self, attack: Any, precision: str = "fp32") -> sm.Benchmark:
        return sm.Benchmark(
            self.data, [attack], seed=self.seed, batch_size=self.batch, precision=precision
        )

    def theirs(self, net: nn.Module, threat: sm.Threat, todo: Tensor) -> Tensor:
        """Return which of the images *todo* are robust against pyautoattack's APGD-CE."""
        settings = {"n_iter": self.steps, "norm": NORMS[threat.norm], "eps": threat.eps}
        return self._robust(net, todo, APGDAttack(net, **settings, seed=self.seed).perturb)

    def ours(self, net: nn.Module, threat: sm.Threat, todo: Tensor) -> Tensor:
        """Return which of the images *todo* are robust against soupmerge, with the same starts."""
        attack, start = sm.APGD(threat, steps=self.steps), torch.Generator()
        attacked = lambda x, y: attack(net, x, y, generator=start.manual_seed(self.seed))  # noqa: E731
        return self._robust(net, todo, attacked)

    def _robust(self, net: nn.Module, todo: Tensor, attack: Callable[..., Tensor]) -> Tensor:
        device, found = next(net.parameters()).device, []
        for indices in torch.split(todo, self.batch):
            x, y = (t.to(device) for t in self.data.batch(indices))
            found.append(answers_right(net, attack(x, y), y).cpu())
        return torch.cat(found)


class Watched(nn.Module):
    """A network that counts the gradients that are computed through it, and the time it takes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.gradients, self.seconds = net, 0, 0.0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        self.gradients += len(x) if torch.is_grad_enabled() and x.requires_grad else 0
        return self._timed(self.net, x)  # type: ignore[no-any-return]

    def _timed(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        began = clock()
        found = work(*args, **kwargs)
        self.seconds += clock() - began
        return found

    @contextmanager
    def backward_too(self) -> Iterator[None]:
        """Include the time of gradients."""
        grad = torch.autograd.grad
        timed = lambda *args, **kwargs: self._timed(grad, *args, **kwargs)  # noqa: E731
        with mock.patch.object(torch.autograd, "grad", timed):
            yield


@dataclass
class Recorded:
    """An attack that records its last proposal for each image, and otherwise is the same attack."""

    attack: sm.APGD
    points: dict[int, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:  # starts depend on it
        return repr(self.attack)

    @property
    def threat(self) -> Any:
        return self.attack.threat

    def describe(self) -> dict[str, Any]:
        return self.attack.describe()

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.attack(*args, **kwargs)

    def propose(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for finished in self.attack.propose(*args, **kwargs):
            self.points |= dict(zip(finished.indices.tolist(), finished.x_adv, strict=True))
            yield finished


def clock() -> float:
    """Return the time, once the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what *work* returns, its wall time and its processor time in seconds."""
    began, busy = clock(), time.process_time()
    found = work()
    return found, clock() - began, time.process_time() - busy


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def unbound(net: nn.Module) -> nn.Module:
    """Return *net* as it is after loading, without binding."""
    state = {name: t.contiguous() for name, t in net.state_dict().items()}
    plain = copy.deepcopy(net).requires_grad_(True)
    plain.load_state_dict(state, assign=True)
    return plain


def some(data: sm.Images, count: int) -> sm.Images:
    """Return *count* images of *data*, evenly spaced, because they may be ordered by class."""
    count = min(count, len(data))
    return data.take(torch.arange(count) * len(data) // count, f"{count} of it")
