"""Soups whose verdicts are written in a table: searches of thousands of images in milliseconds.

Ingredient k of K is a network of K numbers, the k-th of which is 1 and the others 0, so that a
soup's numbers are its coefficients. The network looks its answer up in the table of these
coefficients: which of the images are right, clean and under each threat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.robustness.report import Report
from soupmerge.soups.judge.trials import Trial
from soupmerge.weights.recipe import Source

Row = tuple[float, ...]
Table = Callable[[Row], Any]
"""Coefficients → flags ``(1 + T, N)``: right clean, and under each of T threats."""

CLASSES, SURE = 10, 2.0
"""Classes, and the logit of the one that is answered; those of the others are 0."""

THREATS = (sm.Linf(0.1), sm.L2(0.5))


class Planted(nn.Module):
    """The network: its weights are the coefficients, and *table* says what it gets right."""

    def __init__(self, k: int, table: Table) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(k))
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        low, high, threat = (x[:, 0, 0] * 255).round().long().T
        number = low + 256 * high
        row = tuple(round(float(w), 4) for w in self.weight)
        table = torch.as_tensor(np.asarray(self.table(row), dtype=bool))
        # The checks of the chosen soup attack the images in earnest, and leave the table.
        right = table[threat.clamp(max=len(table) - 1), number % table.shape[1]]
        return SURE * nn.functional.one_hot((number + (~right).long()) % CLASSES, CLASSES)


@dataclass(frozen=True)
class Mark:
    """An attack that only tells the network which row of the table to look at.

    Attributes:
        threat: that it stands for.
        row: of the table.
        asked: how many images came with each call.
    """

    threat: sm.Threat
    row: int = 1
    asked: list[int] = field(default_factory=list, repr=False, compare=False)

    def describe(self) -> dict[str, Any]:
        return {"attack": "mark", "steps": self.row}

    def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        self.asked.append(len(x))
        marked = x.clone()
        marked[:, 0, 0, 2] = self.row / 255
        return marked


def images(n: int, ref: str = "planted") -> sm.Images:
    """Return *n* images, each of which is its number; its label is the last digit."""
    number = torch.arange(n)
    pixels = torch.stack([number % 256, number // 256, 0 * number], 1)
    shaped = pixels.to(torch.uint8).reshape(n, 1, 1, 3)
    return sm.Images.of(shaped, number % CLASSES, ref=ref, classes=CLASSES)


def make_ingredients(home: Path, k: int) -> sm.Ingredients:
    """Return *k* ingredients, a one-hot vector each; they are written, or there already."""
    home.mkdir(exist_ok=True)
    for i, row in enumerate(torch.eye(k)):
        if not (home / f"{i}.safetensors").exists():
            sm.save(home / f"{i}.safetensors", {"weight": row})
    return sm.load(*(home / f"{i}.safetensors" for i in range(k)))


def benchmark(n: int, threats: int = 1, **more: Any) -> sm.Benchmark:
    """Return the benchmark of *n* images, clean and under so many threats."""
    attacks = [Mark(threat, row) for row, threat in enumerate(THREATS[:threats], start=1)]
    return sm.Benchmark(images(n), attacks, name="val", **more)


def asked(judge: sm.Benchmark) -> int:
    """Return how many images the attacks of *judge* have been asked about."""
    return sum(sum(attack.asked) for attack in judge.attacks if isinstance(attack, Mark))


def first(*counts: int, n: int) -> list[list[bool]]:
    """Return flags: in row i, the first *counts[i]* of *n* images are right."""
    return [[place < count for place in range(n)] for count in counts]


def report(clean: Sequence[Any], *robust: Sequence[Any]) -> Report:
    """Return a report with these flags: clean, and under each threat."""
    names = [str(threat) for threat in THREATS[: len(robust)]]
    rows = dict(zip(["clean", *names], [clean, *robust], strict=True))
    flags = {name: torch.tensor(list(map(bool, row))) for name, row in rows.items()}
    return Report({}, flags, {name: {"attack": "mark", "steps": 1} for name in names})


def judged(clean: Sequence[Any], *robust: Sequence[Any], weights: Row = (0.5, 0.5)) -> Trial:
    """Return the trial of the soup of *weights* with these flags."""
    sources = tuple(Source(str(k), str(k)) for k in range(len(weights)))
    return Trial(sm.Recipe(sources, ("model",), (weights,)), report(clean, *robust))


def some_flags(seed: int, n: int, rows: int = 2) -> Table:
    """Return a table of random flags: a function of the coefficients and *seed* alone."""

    def table(row: Row) -> Any:
        draw = np.random.default_rng([seed, *(round(10_000 * (w + 1000)) for w in row)])
        return draw.random((rows, n)) < draw.uniform(0.3, 0.9, (rows, 1))

    return table
