"""A network of six tensors and a batch norm, ingredients of it, and images: learning at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import soupmerge as sm

CLASSES = 3


class Tiny(nn.Module):
    """Images of 4 numbers → 5 units, normed → 3 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.norm(self.first(x.flatten(1))).relu())
        return logits


def answer(theta: dict[str, Tensor], x: Tensor, *, batch: bool = False) -> Tensor:
    """Return what the network with weights *theta* answers, written out: no module, any dtype.

    With *batch*, the norm takes the statistics of the batch.
    """
    h = x.flatten(1) @ theta["first.weight"].T + theta["first.bias"]
    mean = h.mean(0) if batch else theta["norm.running_mean"]
    variance = h.var(0, correction=0) if batch else theta["norm.running_var"]
    h = (h - mean) / (variance + 1e-5).sqrt() * theta["norm.weight"] + theta["norm.bias"]
    return h.relu() @ theta["last.weight"].T + theta["last.bias"]


def make_ingredients(home: Path, k: int = 3) -> sm.Ingredients:
    """Return *k* networks of random weights; they are written, or there already."""
    home.mkdir(exist_ok=True)
    for i in range(k):
        path, draw = home / f"{i}.safetensors", torch.Generator().manual_seed(i)
        if not path.exists():
            state = {
                name: torch.randn(t.shape, generator=draw) if t.is_floating_point() else t
                for name, t in Tiny().state_dict().items()
            }
            state["norm.running_var"] = state["norm.running_var"].square() + 0.2
            sm.save(path, state)
    return sm.load(*(home / f"{i}.safetensors" for i in range(k)))


def images(n: int, seed: int = 0) -> sm.Images:
    """Return *n* random images and labels."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.rand(n, 1, 2, 2, generator=draw), torch.randint(CLASSES, (n,), generator=draw)
    return sm.Images.of(x, y, ref=f"tiny-{seed}", classes=CLASSES)


class Pushed:
    """An objective whose images are drawn and depend on the answers; its loss asks for both."""

    def describe(self) -> dict[str, Any]:
        return {"objective": "pushed"}

    def craft(self, classifier: Any, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            noise = torch.rand(x.shape, generator=generator).to(x)
            return x + 0.3 * noise + 0.05 * classifier(x)[:, :1, None, None]

    def loss(self, classifier: Any, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(classifier(x_adv), y) + 0.5 * F.cross_entropy(classifier(x), y)
