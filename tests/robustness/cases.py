"""What the tests of attacks and verdicts share: data at hand, stubs, a ledger, small networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.types import Finished
from tests.shared import Stop

REFERENCE_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def right(network: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return network(x).argmax(1) == y


def streams(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(n)]


class Recorder:
    """A classifier that keeps every batch it is asked about, and whether with a gradient."""

    def __init__(self, classifier: Callable[[Tensor], Tensor]) -> None:
        self.classifier = classifier
        self.points: list[Tensor] = []
        self.with_gradient: list[bool] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.points.append(x.detach().clone())
        self.with_gradient.append(x.requires_grad)
        return self.classifier(x)


@dataclass
class AtHand:
    """Images and labels as a data set."""

    x: Tensor
    labels: Tensor
    ids: Sequence[str] = ()
    classes: int = 10
    ref: str = "at hand"

    def __post_init__(self) -> None:
        self.ids = self.ids or [f"image {i}" for i in range(len(self.x))]

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[indices], self.labels[indices]

    def fingerprint(self) -> dict[str, Any]:
        return {"ref": self.ref, "split": "test", "n": len(self), "sha256": "0"}


def pixels(values: Sequence[float], labels: Sequence[int] | None = None) -> AtHand:
    """Return images of one pixel each; without *labels*, all are of class 0."""
    x = torch.tensor(values).view(-1, 1, 1, 1)
    return AtHand(x, torch.tensor(labels if labels is not None else [0] * len(x)))


def threshold(x: Tensor) -> Tensor:
    """Classify an image by its mean: class 0 up to 1/2, class 1 above."""
    score = x.flatten(1).mean(1) - 0.5
    return torch.stack([-score, score], 1)


@dataclass(frozen=True)
class Stub:
    """An attack with given answers: ``answer(x)``."""

    threat: sm.Threat
    answer: Callable[[Tensor], Tensor] = lambda x: x
    name: str = "stub"
    steps: int = 0

    def describe(self) -> dict[str, Any]:
        return {"attack": self.name, "steps": self.steps}

    def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        return self.answer(x)


@dataclass(frozen=True)
class Streaming(Stub):
    """A stub that takes examples as there is room for them, and claims to have fooled *claims*."""

    claims: Callable[[Tensor], Tensor] = lambda x: torch.zeros(len(x), dtype=torch.bool)

    def propose(self, classifier: Any, feed: Any, *, width: int) -> Iterator[Finished]:
        while (batch := feed(width)) is not None:
            found = self(classifier, batch.x, batch.y, generator=batch.generator)
            yield Finished(batch.indices, found, self.claims(batch.x))


@dataclass
class Kept:
    """A ledger in memory, which breaks off after *most* entries."""

    most: int = 1 << 30
    kept: dict[str, dict[int, bool]] = field(default_factory=dict)
    adds: int = 0

    def known(self, key: str) -> dict[int, bool]:
        return self.kept.get(key, {})

    def add(self, key: str, verdicts: dict[int, bool]) -> None:
        self.kept.setdefault(key, {}).update(verdicts)
        self.adds += 1
        if self.adds == self.most:
            raise Stop


def small_network(side: int = 4) -> nn.Module:
    """Return a network of ten classes for images ``(3, side, side)``, which is far from linear."""
    pixels = 3 * side * side
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(pixels, 32), nn.Tanh(), nn.Linear(32, 10)]
    net = nn.Sequential(nn.Flatten(), *layers).eval().requires_grad_(False)
    layers[0].weight.mul_(24 / side)
    layers[0].bias.copy_(-layers[0].weight.sum(1) / 2)  # centred on grey
    return net


def digits_network() -> nn.Module:
    """Return a linear network for digits, fitted by least squares: honest, and quick to make."""
    data = sm.data("digits", split="train")
    x, y = data.batch(torch.arange(len(data)))
    rows = torch.cat([x.flatten(1), torch.ones(len(x), 1)], 1).double()
    wanted = nn.functional.one_hot(y, 10).double()
    fitted = torch.linalg.solve(rows.T @ rows + 10 * torch.eye(65).double(), rows.T @ wanted)
    last = nn.Linear(64, 10)
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), last).eval().requires_grad_(False)
    last.weight.copy_(10 * fitted[:64].T)
    last.bias.copy_(10 * fitted[64])
    return net


def probable_digits() -> nn.Module:
    """Return a network that gives probabilities for logits."""
    return nn.Sequential(digits_network(), nn.Softmax(1)).eval()
