"""The Frank-Wolfe gap, by autograd on the definition; and the mean losses of an epoch."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.choices import FAMILIES
from soupmerge.schedule import stream
from soupmerge.soups.learn import preferences
from soupmerge.soups.learn.convergence import Convergence
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.learn.settings import Settings
from soupmerge.soups.learn.soup import draw_active
from soupmerge.weights.buffers import is_statistic
from tests.soups import tiny
from tests.soups.tiny import Pushed, Tiny, answer


class Plain(Pushed):
    """Another objective: cross-entropy on clean images."""

    def loss(self, classifier: sm.Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(classifier(x), y)


GOALS = {"plain": Plain(), "pushed": Pushed()}


def directions(
    ingredients: sm.Ingredients, alpha: Tensor, goal: Pushed, x: Tensor, y: Tensor, noise: object
) -> Tensor:
    """Return ⟨∂L/∂θ[g], θ[g] − θ_k[g]⟩ ``(G, K)`` by autograd in float64, from the definition."""
    names = list(ingredients.mixed)
    states = [{n: t.double() for n, t in one.items()} for one in ingredients]
    group = {
        n: names.index("norm.weight" if is_statistic(n) else n)
        for n in states[0]
        if n in names or is_statistic(n)
    }
    theta = {
        n: torch.einsum("k,k...->...", alpha[g].double(), torch.stack([s[n] for s in states]))
        for n, g in group.items()
    }
    held = {n: t.clone() for n, t in theta.items()}
    x_adv = goal.craft(partial(answer, held), x.double(), y, generator=noise)  # type: ignore[arg-type]
    leaves = {n: t.requires_grad_() for n, t in theta.items()}
    loss = goal.loss(partial(answer, leaves), x.double(), x_adv, y)
    found = torch.zeros(len(names), len(states), dtype=torch.float64)
    for name, grad in zip(leaves, torch.autograd.grad(loss, [*leaves.values()]), strict=True):
        for k, state in enumerate(states):
            found[group[name], k] += (grad * (theta[name].detach() - state[name])).sum()
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_gap_is_the_steepest_way_to_an_ingredient(tmp_path: Path, dropout: float) -> None:
    """At each corner: gradients are averaged over the steps of an epoch that a group took part in,
    the maximum over ingredients is taken, and groups are added up."""
    ingredients, data = tiny.make_ingredients(tmp_path / "in"), tiny.images(48)
    settings = Settings(epochs=1, batch_size=8, corners=0.8, dropout=dropout, init="xavier")
    learner = Learner(Tiny(), ingredients, data, GOALS, settings)
    shape = (2, learner.groups, len(ingredients))
    sums, steps = torch.zeros(shape).double(), torch.zeros(shape[:2]).double()
    for step, indices in enumerate(torch.arange(48).split(8)):
        at = preferences.draw(2, 0.8, stream("preference", 0, step))
        if max(at) == 1:
            t, (x, y) = at.index(1), data.batch(indices)
            active = draw_active(learner.groups, dropout, stream("dropout", 0, step)).double()
            noise, goal = stream("attack", 0, step), [*GOALS.values()][t]
            found = directions(ingredients, learner.alpha(at), goal, x, y, noise)
            sums[t] += active[:, None] * found
            steps[t] += active
        learner.step(indices)
    assert bool(steps.any(1).all())
    expected = (sums / steps.clamp(min=1)[..., None]).amax(2).sum(1)
    gaps = learner.end_epoch(0)["gaps"]
    assert [gaps[name] for name in GOALS] == pytest.approx(expected.tolist(), rel=1e-3)
    assert learner.convergence.gaps() == {"plain": None, "pushed": None}  # for the next epoch


ALL = torch.ones(1, dtype=torch.bool)


def gap(alpha: list[float], *gradients: list[float]) -> float | None:
    """Return the gap of one group after steps with these gradients."""
    convergence = Convergence(["loss"], 1, len(alpha))
    for gradient in gradients:
        convergence.add_gradient((1.0,), torch.tensor([alpha]), torch.tensor([gradient]), ALL)
    return convergence.gaps()["loss"]


def test_gaps_by_hand() -> None:
    """0 where no ingredient is better; noise that averages to 0 leaves no gap."""
    assert gap([1.0, 0.0], [1.0, 2.0]) == 0
    assert gap([1.0, 0.0], [2.0, 1.0]) == 1
    assert gap([0.5, 0.5], [3.0, 1.0]) == 1
    assert gap([0.5, 0.5], [3.0, 1.0], [1.0, 3.0]) == 0
    assert gap([0.5, 0.5]) is None


def test_what_lies_between_corners_has_no_gap_but_losses() -> None:
    """Losses that a step did not compute are left out of the means; images count, not steps."""
    convergence = Convergence(["clean", "linf:0.1"], 1, 2)
    convergence.add_gradient((0.5, 0.5), torch.ones(1, 2) / 2, torch.tensor([[3.0, 1.0]]), ALL)
    assert convergence.gaps() == {"clean": None, "linf:0.1": None}
    convergence.add_losses([1.0, math.nan], 1.0, images=30)
    convergence.add_losses([4.0, 8.0], 6.0, images=10)
    assert convergence.losses() == {"clean": 1.75, "linf:0.1": 8.0}
    assert convergence.loss == 2.25
    assert convergence.note() == "clean 1.7500, linf:0.1 8.0000"
    convergence.add_gradient((0.0, 1.0), torch.ones(1, 2) / 2, torch.tensor([[3.0, 1.0]]), ALL)
    assert convergence.note() == "clean 1.7500, linf:0.1 8.0000, gap 1.000"
    assert convergence.record() == {
        "loss": 2.25,
        "losses": {"clean": 1.75, "linf:0.1": 8.0},
        "gaps": {"clean": None, "linf:0.1": 1.0},
    }


@pytest.mark.parametrize("count", [1, 2])
def test_coefficients_that_may_leave_the_simplex_have_no_gap(tmp_path: Path, count: int) -> None:
    """Their loss may fall further than to any ingredient."""
    ingredients, data = tiny.make_ingredients(tmp_path / "in"), tiny.images(16)
    goals = dict([*GOALS.items()][:count])
    found = {}
    for family in FAMILIES:
        settings = Settings(epochs=1, batch_size=8, corners=1.0, init="uniform", family=family)
        learner = Learner(Tiny(), ingredients, data, goals, settings)
        for indices in torch.arange(16).split(8):
            learner.step(indices)
        found[family] = ("gap" in learner.convergence.note(), {*learner.end_epoch(0)})
    assert found["affine"] == (False, found["softmax-linear"][1] - {"gap", "gaps"})
    assert [shown for shown, _ in found.values()].count(True) == len(FAMILIES) - 1


def test_sums_are_restored() -> None:
    one, other = (Convergence(["clean", "linf:0.1"], 1, 2) for _ in range(2))
    one.add_losses([1.0, 3.0], 2.0, images=7)
    one.add_gradient((1.0, 0.0), torch.ones(1, 2) / 2, torch.tensor([[3.0, 1.0]]), ALL)
    other.load({name: tensor.clone() for name, tensor in one.state().items()})
    assert other.record() == one.record()
