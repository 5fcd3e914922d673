"""Networks are put on the device of the run, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge import binding
from soupmerge.soups.geometry import basin, landscape
from soupmerge.soups.judge import evaluator
from soupmerge.soups.learn import run as learning
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.search import candidates
from tests.soups import planted, tiny
from tests.soups.planted import Planted, benchmark, make_ingredients, some_flags

pytestmark = pytest.mark.usefixtures("unexamined")

ELSEWHERE = torch.device("cpu", 0)


def search(do: Callable[..., Any], home: Path, k: int, **options: Any) -> None:
    net = Planted(k, some_flags(0, 40, rows=3))
    do(net, make_ingredients(home, k), benchmark(40), run=sm.Run(device=ELSEWHERE), **options)


def adapt(home: Path) -> None:
    net, data = Planted(2, some_flags(0, 40)), planted.images(40)
    ingredients, run = make_ingredients(home, 2), sm.Run(device=ELSEWHERE)
    sm.adapt(net, ingredients, [data], shots=9, step=1, run=run)


def learn(home: Path) -> None:
    settings, goal = sm.Settings(epochs=1, batch_size=16), tiny.Pushed()
    ingredients, data = tiny.make_ingredients(home), tiny.images(16)
    judge, run = sm.Benchmark(tiny.images(8, seed=1)), sm.Run(device=ELSEWHERE)
    sm.learn(tiny.Tiny(), ingredients, data, goal, settings=settings, benchmark=judge, run=run)


WORK: dict[str, tuple[Any, Callable[[Path], None]]] = {
    "grid": (evaluator, lambda home: search(sm.grid, home, 2, step=1)),
    "barrier": (basin, lambda home: search(sm.barrier, home, 2, points=3)),
    "landscape": (landscape, lambda home: search(sm.landscape, home, 3, points=2)),
    "adapt": (candidates, adapt),
    "learn": (learning, learn),
}


@pytest.mark.parametrize("name", WORK)
def test_networks_are_bound_on_the_device_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    devices: list[Any] = []

    def bind(net: nn.Module, state: Any, *, device: Any = None) -> nn.Module:
        devices.append(device)
        return binding.bind(net, state, device=device)

    module, do = WORK[name]
    monkeypatch.setattr(module, "bind", bind)
    do(tmp_path / "in")
    assert set(devices) == {ELSEWHERE}


def test_a_learner_mixes_on_the_device_it_is_given(tmp_path: Path) -> None:
    ingredients = tiny.make_ingredients(tmp_path / "in")
    settings, goals = sm.Settings(epochs=1, init="uniform"), {"loss": tiny.Pushed()}
    learner = Learner(tiny.Tiny(), ingredients, tiny.images(8), goals, settings, device=ELSEWHERE)
    assert learner.soup.device == learner.device == ELSEWHERE
