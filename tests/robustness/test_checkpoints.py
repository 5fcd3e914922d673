"""When APGD halves its step and goes back: losses from a table, and halvings worked out on paper.

With 100 steps the checkpoints are at steps 22, 41, 57, 70, 80, 87, 93 and 99: the first window is
22 steps, each is 3 shorter than the one before, and none is below 6 (Croce & Hein 2020, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import soupmerge as sm
from soupmerge.robustness import engine
from soupmerge.robustness.losses import margin
from soupmerge.robustness.queues import SingleTry
from soupmerge.robustness.rules import Adaptive, SparseAdaptive

EPS = 0.125
WINDOWS = [22, 19, 16, 13, 10, 7, 6, 6]
MARKS = [22, 41, 57, 70, 80, 87, 93, 99]


class Watched(Adaptive):
    """The rule, which keeps the step size with which it takes each step."""

    def __init__(self, threat: sm.Threat, steps: int) -> None:
        super().__init__(threat, steps)
        self.sizes: list[float] = []

    def move(self, state: engine.AttackState) -> Tensor:
        self.sizes.append(state.step.item())
        return super().move(state)


def sizes(losses: Sequence[float]) -> list[float]:
    """Return the size of each step where *losses* are those of the start and after each step."""
    asked = iter(losses)

    def scripted(x: Tensor) -> Tensor:
        rise = x.flatten(1).sum(1)
        loss = next(asked) + rise - rise.detach()
        return torch.stack([torch.zeros_like(loss), loss], 1)

    steps, label = len(losses) - 1, torch.tensor([0])
    rule, x = Watched(sm.Linf(EPS), steps), torch.full((1, 1, 2, 2), 0.5)
    settings = {"steps": steps, "loss": margin, "until_fooled": False, "width": 1}
    list(engine.run(scripted, SingleTry(x, label, label, x), rule, **settings))  # type: ignore[arg-type]
    return rule.sizes


def halved_at(*marks: int, steps: int = 100) -> list[float]:
    return [2 * EPS / 2 ** sum(mark <= step for mark in marks) for step in range(steps)]


def rising(wins: Sequence[int], windows: Sequence[int] = WINDOWS) -> list[float]:
    """Return losses whose best rises in every window, in which just so many steps are rises."""
    losses, top = [-1.0], 0.0
    for window, count in zip(windows, wins, strict=True):
        falls = window - count
        for step in range(window):
            top += 1
            # All falls come first, each lower than the one before; then only rises.
            losses.append(losses[-1] - 0.01 if step < falls else top)
    return [*losses, losses[-1] + 1]


def test_a_loss_that_always_rises_keeps_the_step() -> None:
    assert sizes(rising(WINDOWS)) == halved_at()


@pytest.mark.parametrize("window", range(8))
def test_a_step_is_halved_if_at_most_three_quarters_of_a_window_rise(window: int) -> None:
    most = int(0.75 * WINDOWS[window])
    enough = [*WINDOWS[:window], most, *WINDOWS[window + 1 :]]
    assert sizes(rising(enough)) == halved_at(MARKS[window])
    enough[window] += 1
    assert sizes(rising(enough)) == halved_at()


def test_a_step_is_halved_if_neither_it_nor_the_best_loss_has_changed() -> None:
    """The start stays the best: nothing is halved right after a halving, nor at the first mark."""
    assert sizes([1e3, *range(1, 101)]) == halved_at(41, 70, 87, 99)


def test_what_rises_again_after_it_was_stuck_is_not_halved() -> None:
    losses = [50.5, *range(1, 101)]  # above the start from step 51 on
    assert sizes(losses) == halved_at(41)


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_the_first_rise_is_measured_from_zero_as_in_the_reference(start: float) -> None:
    """So where losses are below zero, as those of DLR are, the first step is never a rise."""
    losses = [start, *(loss + 1.0 for loss in range(17)), *(16.5 - i / 100 for i in range(5))]
    losses += [100.0 + i for i in range(78)]
    assert sizes(losses) == halved_at()
    assert sizes([loss - 1000 for loss in losses]) == halved_at(22)


@pytest.mark.parametrize(
    ("steps", "marks"),
    [
        (2, [1]),
        (10, [2, 3, 4, 5, 6, 7, 8, 9]),
        (34, [7, 13, 18, 22, 25, 27, 29, 31, 33]),
        (50, [11, 21, 30, 38, 45]),
    ],
)
def test_windows_of_other_lengths(steps: int, marks: list[int]) -> None:
    """They are shares of the steps, rounded down, and never below one step."""
    assert sizes([-float(i) for i in range(steps + 1)]) == halved_at(*marks, steps=steps)


def test_going_back_takes_the_gradient_of_the_best_point_along() -> None:
    """A pixel is pushed up until step 5, where the loss peaks, and down ever after."""
    pushes: list[float] = []
    seen: list[float] = []

    def scripted(x: Tensor) -> Tensor:
        step = len(pushes)
        pushes.append(1.0 if step <= 5 else -1.0)
        seen.append(x.item())
        rise = x.flatten(1).sum(1) * pushes[-1]
        loss = (float(step) if step <= 5 else 0.0) + rise - rise.detach()
        return torch.stack([torch.zeros_like(loss), loss], 1)

    x, label = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    rule = Adaptive(sm.Linf(EPS), 100)
    settings = {"steps": 100, "loss": margin, "until_fooled": False, "width": 1}
    (finished,) = engine.run(scripted, SingleTry(x, label, label, x), rule, **settings)  # type: ignore[arg-type]
    assert finished.x_adv.item() == seen[5] == 0.5 + EPS
    assert seen[22] == 0.5 - EPS
    # Back at the best point, which pushed up: three quarters of nothing, a quarter of the way in.
    inertia = 0.25 * (seen[5] - seen[22])
    assert seen[23] == pytest.approx(min(seen[5] + inertia, 0.5 + EPS))


def test_an_l1_step_grows_again_where_the_best_point_got_sparser() -> None:
    """At every 4% of the steps: sparser than 95% of the last best point is back to eps.

    Otherwise the step is divided by 1.5, down to a tenth of eps. Of the coordinates that moved at
    the best point, two thirds move next.
    """
    supports = [95, 90, 85, *[85] * 14, *[60] * 7]
    planned, found = iter(supports), []

    class Told(SparseAdaptive):
        def adapt(self, state: engine.AttackState) -> None:
            if state.i.item() and state.i.item() % 2 == 0:
                count = next(planned)
                state.x_best = torch.where(torch.arange(100).view(1, 1, 10, 10) < count, 0.6, 0.5)
            super().adapt(state)

        def move(self, state: engine.AttackState) -> Tensor:
            found.append((state.step.item(), state.density.item()))
            return super().move(state)

    def flat(z: Tensor) -> Tensor:
        return torch.stack([z.flatten(1).sum(1), 0 * z.flatten(1).sum(1)], 1)

    x, label = torch.full((1, 1, 10, 10), 0.5), torch.tensor([0])
    settings = {"steps": 50, "loss": margin, "until_fooled": False, "width": 1}
    list(engine.run(flat, SingleTry(x, label, label, x), Told(sm.L1(12), 50), **settings))  # type: ignore[arg-type]
    each = [12 / 1.5**k for k in range(6)]
    expected = [12.0, each[1], 12.0, *each, *[1.2] * 9, *each, 1.2]
    assert [size for size, _ in found[::2]] == pytest.approx(expected, rel=1e-5)
    assert found[1::2] == found[::2]
    densities = [0.2, *(count / 150 for count in supports)]
    assert [density for _, density in found[::2]] == pytest.approx(densities)
