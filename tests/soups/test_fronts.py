"""Learning fronts: planted problems, what is judged, resuming after a kill, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.choices import FAMILIES, SCALARISATIONS
from soupmerge.errors import InputError, NumericsError, UsageError
from soupmerge.schedule import stream
from soupmerge.soups.learn.front import LearnedFront
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.learn.preferences import draw
from soupmerge.soups.search.choice import tried
from soupmerge.storage.journal import Journal
from soupmerge.storage.snapshot import Snapshot
from soupmerge.weights import ledger
from soupmerge.weights.families import coefficients
from soupmerge.weights.recipe_files import read_front
from tests.shared import Stop, files_of, in_folder, stop_at
from tests.soups import tiny
from tests.soups.tiny import Tiny

SETTINGS = sm.Settings(epochs=2, batch_size=16)
GOALS = [sm.clean(), sm.against(sm.Linf(0.1))]


def judge(n: int = 20) -> sm.Benchmark:
    return sm.Benchmark(tiny.images(n, seed=5), [sm.APGD(sm.Linf(0.1), steps=2)], name="test")


def learn(home: Path, run: sm.Run | None = None, **given: Any) -> LearnedFront:
    """Learn a front of three tiny networks in the folder *home*/run, and judge three points."""
    ingredients = given.pop("ingredients", None) or tiny.make_ingredients(home / "in")
    options = {"settings": SETTINGS, "benchmark": judge(), "points": 3, **given}
    goals, data = options.pop("objectives", GOALS), options.pop("data", tiny.images(40))
    return sm.front(
        Tiny(), ingredients, data, goals, run=in_folder(run or sm.Run(), home / "run"), **options
    )


# ---- a planted problem


class Rotated:
    """An objective whose right answer is the label, so many classes on."""

    def __init__(self, by: int) -> None:
        self.by = by

    def describe(self) -> dict[str, Any]:
        return {"objective": "rotated", "by": self.by}

    def craft(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        return x

    def loss(self, classifier: Any, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(classifier(x_adv), (y + self.by) % tiny.CLASSES)


def planted(home: Path) -> tuple[nn.Module, sm.Ingredients, sm.Images]:
    """Return images that show their label, and two networks: one reads it, one rotates it by 1."""
    net, labels = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False)), torch.arange(60) % 3
    for name, by in (("plain", 0), ("rotated", 1)):
        weight = 4 * torch.eye(3).roll(by, 0)
        sm.save(home / f"{name}.safetensors", {"1.weight": weight})
    images = sm.Images.of(torch.eye(3)[labels].reshape(-1, 1, 1, 3), labels, classes=3)
    return net, sm.load(home / "plain.safetensors", home / "rotated.safetensors"), images


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scalarisation", SCALARISATIONS)
def test_the_ends_are_near_the_ingredients_and_the_middle_lies_between(
    tmp_path: Path, family: str, scalarisation: str
) -> None:
    """Each of which is perfect for one objective; the start is the middle, by symmetry."""
    net, ingredients, data = planted(tmp_path)
    goals = {"plain": Rotated(0), "rotated": Rotated(1)}
    settings = sm.Settings(
        epochs=40,
        batch_size=20,
        lr=0.5,
        family=family,
        scalarisation=scalarisation,
        init="uniform",
    )
    found = sm.front(net, ingredients, data, goals, settings=settings).front
    shares = [found.at(s).weights[0][1] for s in (0, 0.25, 0.5, 0.75, 1)]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] > 0.8
    assert abs(shares[2] - 0.5) < 0.15
    assert found.objectives == ("plain", "rotated")


def test_the_usual_start_is_near_the_best_ingredient_of_each_objective(tmp_path: Path) -> None:
    net, ingredients, data = planted(tmp_path)
    goals = {"rotated": Rotated(1), "plain": Rotated(0)}
    settings = sm.Settings(epochs=1, lr=1e-9)
    found = sm.front(net, ingredients, data, goals, settings=settings).front
    assert found.at(0).weights[0] == pytest.approx((0.15, 0.85), abs=1e-6)
    assert found.at(1).weights[0] == pytest.approx((0.85, 0.15), abs=1e-6)


def test_affine_fronts_keep_every_variance_positive(tmp_path: Path) -> None:
    """Though steps are so large that rows leave [0, 1] by far."""
    settings = replace(SETTINGS, family="affine", lr=2.0)
    found = learn(tmp_path, settings=settings)
    rows = torch.tensor(found.front.at(0).weights)
    assert float(rows.min()) < -0.5
    ingredients = tiny.make_ingredients(tmp_path / "in")
    for n in range(11):
        state = sm.mix(ingredients, found.front.at(n / 10))
        assert float(state["norm.running_var"].min()) > 0


def test_the_usual_length_is_that_of_a_front_or_of_the_paper(tmp_path: Path) -> None:
    given = (Tiny(), tiny.make_ingredients(tmp_path / "in"), tiny.images(40))
    named = {goal.name: goal for goal in GOALS}
    for objectives, epochs in ((named, 200), ({"clean": GOALS[0]}, 30)):
        learner = Learner(*given, objectives, sm.Settings(batch_size=16))
        assert (learner.epochs, learner.settings.epochs) == (epochs, epochs)


@pytest.mark.parametrize("preferences", [1, 2, 3, 99])
@pytest.mark.parametrize("family", FAMILIES)
def test_preferences_share_the_images_of_a_step(
    tmp_path: Path, preferences: int, family: str
) -> None:
    """By autograd on the mean loss of ten images, each at the preference of its part."""
    n, rate, ingredients = 10, 0.2, tiny.make_ingredients(tmp_path / "in")
    settings = sm.Settings(
        batch_size=n,
        optimiser="sgd",
        lr=rate,
        family=family,
        init="xavier",
        preferences=preferences,
    )
    goals, images = {"plain": Rotated(0), "pushed": tiny.Pushed()}, tiny.images(n)
    learner = Learner(Tiny(), ingredients, images, goals, settings)
    form, soup = learner.coefficients.family, learner.soup
    before = {
        name: parameter.detach().clone().requires_grad_()
        for name, parameter in learner.coefficients.parameters.items()
    }
    drawn, total = set(), torch.zeros(())
    for part, indices in enumerate(torch.arange(n).tensor_split(min(preferences, n))):
        key = (0, 0, part) if part else (0, 0)
        at, noise = draw(2, settings.corners, stream("preference", *key)), stream("attack", *key)
        alpha = coefficients(form, form.rows(before, at, torch), torch)
        attacked, learned = map(soup.classifier, (soup.mix(alpha.detach()), soup.weights(alpha)))
        x, y = images.batch(indices)
        for share, goal in zip(at, goals.values(), strict=True):
            if share:
                x_adv = goal.craft(attacked, x, y, generator=noise)
                total = total + len(y) / n * share * goal.loss(learned, x, x_adv, y)
        drawn.add(at)
    assert (len(drawn) > 1) == (preferences > 1)
    gradients = torch.autograd.grad(total, [*before.values()], materialize_grads=True)
    learner.step(torch.arange(n))
    assert learner.convergence.loss == pytest.approx(total.item(), rel=1e-5)
    for (name, parameter), gradient in zip(before.items(), gradients, strict=True):
        found = learner.coefficients.parameters[name].detach()
        torch.testing.assert_close(
            found, parameter.detach() - rate * gradient, rtol=1e-4, atol=1e-5
        )


# ---- what is written and judged


def test_a_run_holds_the_front_and_every_judged_soup(tmp_path: Path) -> None:
    found, home = learn(tmp_path), tmp_path / "run"
    ingredients, test = tiny.make_ingredients(tmp_path / "in"), judge()
    kept = read_front(home)
    assert kept.to_json() == found.front.to_json()
    seen = [(e["by"], e["purpose"], e["sha256"]) for e in kept.recipe.seen]
    assert seen == [("front", ledger.TRAINED, tiny.images(40).sha256)]
    shares = [list((t.recipe.front or {})["at"].values()) for t in found.points]
    assert shares == [[1, 0], [0.5, 0.5], [0, 1]]
    for trial, share in zip(found.points, (0, 0.5, 1), strict=True):
        assert trial.recipe == kept.at(share)
        assert trial.report == test(sm.bind(Tiny(), sm.mix(ingredients, trial.recipe)))
    assert list(found.beside) == [*ingredients.names, "uniform"]
    for name, one in zip(ingredients.names, ingredients, strict=True):
        assert found.beside[name].report == test(sm.bind(Tiny(), one))
    assert len(Journal(home / "trials.jsonl").records) == 7
    history = Journal(home / "history.jsonl").records
    assert [set(record["gaps"]) for record in history] == [{"clean", "linf:0.1"}] * 2
    assert "state.safetensors" not in files_of(home)
    runs = tried([home])
    assert (len(runs.trials), runs.unfinished) == (7, {})
    alone = learn(tmp_path, sm.Run(tmp_path / "alone"), benchmark=None)
    assert alone.front.sha256 == found.front.sha256
    assert (len(alone.points), alone.beside) == (0, {})


def test_soups_beside_are_judged_once_each_with_their_own_statistics(tmp_path: Path) -> None:
    """Even where all points have the statistics of one ingredient, as in the paper."""
    ingredients = tiny.make_ingredients(tmp_path / "in")
    second, even = sm.Recipe.of(ingredients, [0, 1, 0]), sm.Recipe.uniform(ingredients)
    settings = sm.Settings.paper(epochs=1, batch_size=40)
    found = learn(tmp_path, settings=settings, beside={"grid 0 1 0": second, "grid even": even})
    for name, one in zip(ingredients.names, ingredients, strict=True):
        assert found.beside[name].report == judge()(sm.bind(Tiny(), one))
    assert found.beside["grid 0 1 0"] == found.beside[ingredients.names[1]]
    averaged = judge()(sm.bind(Tiny(), sm.mix(ingredients, even)))
    assert found.beside["grid even"].report == averaged
    assert found.beside["uniform"].recipe.buffers == "base"
    runs = tried([tmp_path / "run"])
    assert (len(runs.trials), runs.unfinished) == (8, {})
    gap = found.hypervolume(["grid 0 1 0", "grid even"])
    assert gap.metrics == ("clean", "linf:0.1")
    taught = replace(found.front, objectives=("clean", "linf:0.2"))  # and judged at 0.1
    assert replace(found, front=taught).hypervolume(["grid 0 1 0", "grid even"]) == gap
    with pytest.raises(UsageError, match="grid was not judged; choose from .*uniform"):
        found.hypervolume(["grid"])


def test_points_that_are_one_soup_are_told_apart(tmp_path: Path) -> None:
    """A front that has not moved from a uniform start is the uniform soup everywhere."""
    settings = sm.Settings(by="model", epochs=1, batch_size=40, init="uniform", lr=1e-30)
    found = learn(tmp_path, settings=settings)
    assert len(Journal(tmp_path / "run" / "trials.jsonl").records) == 4
    assert [t["at"]["linf:0.1"] for t in found.summary()["trials"]] == [0, 0.5, 1]
    assert tried([tmp_path / "run"]).unfinished == {}


# ---- resuming


@pytest.mark.parametrize(("often", "preferences"), [(False, 1), (True, 2)])
def test_a_killed_front_resumes_to_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often: bool, preferences: int
) -> None:
    """Killed at steps, before and after a snapshot, while points are judged, and between."""
    monkeypatch.setattr(Snapshot, "due", lambda self: often)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = replace(SETTINGS, dropout=0.3, preferences=preferences)
    expected = learn(tmp_path, sm.Run(whole), settings=settings).summary()

    def killed(progress: Any) -> None:
        with pytest.raises(Stop):
            learn(tmp_path, sm.Run(cut, progress=progress), settings=settings)

    for n, what in ((1, "steps"), (2, "steps"), (4, "steps"), (1, "images linf:0.1")):
        killed(stop_at(n, what))
        assert (cut / "front.json").exists() == (what != "steps")
    for n, what in ((2, "images linf:0.1"), (2, "soups"), (3, "soups"), (1, "images clean")):
        killed(stop_at(n, what))
    assert learn(tmp_path, sm.Run(cut), settings=settings).summary() == expected
    assert files_of(cut) == files_of(whole)
    again = stop_at(1, "images clean")  # nothing is judged twice
    assert learn(tmp_path, sm.Run(cut, progress=again), settings=settings).summary() == expected


def test_a_kill_between_the_front_and_its_state_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(tmp_path, sm.Run(tmp_path / "whole"))

    def killed(self: Snapshot) -> None:
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(Snapshot, "clear", killed)
        with pytest.raises(Stop):
            learn(tmp_path)
    assert "state.safetensors" in files_of(tmp_path / "run")
    learn(tmp_path)
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")


class Scripted(Rotated):
    """Its loss is not finite from the fourth call on."""

    calls = 0

    def loss(self, classifier: Any, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        Scripted.calls += 1
        return super().loss(classifier, x, x_adv, y) / (0 if self.calls > 4 else 1)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Snapshot, "due", lambda self: True)
    monkeypatch.setattr(Scripted, "calls", 0)
    goals = {"plain": Rotated(0), "scripted": Scripted(1)}
    settings = replace(SETTINGS, epochs=9, init="uniform")
    with pytest.raises(NumericsError, match="the loss is not finite") as caught:
        learn(tmp_path, objectives=goals, settings=settings)
    assert caught.value.exit_status == 7
    tensors, state = Snapshot(tmp_path / "run" / "state.safetensors").load() or ({}, {})
    assert f"step {state['step'] + 1}: " in str(caught.value)
    assert all(bool(t.isfinite().all()) for n, t in tensors.items() if n.startswith("parameters"))
    assert not (tmp_path / "run" / "front.json").exists()


# ---- what is refused


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"objectives": GOALS[:1]}, "--objective: .*two or more distinct objectives, not clean"),
        ({"objectives": {"clean": GOALS[0]}}, "--objective: .*objectives, not clean"),
        ({"objectives": [GOALS[0]] * 2}, "--objective: .*not clean, clean"),
        ({"points": 1}, "--points: 1 points cannot hold the ends .*2 objectives; judge 2"),
        ({"benchmark": sm.Benchmark(tiny.images(40))}, "judge split: at least 40 of the images"),
        ({"settings": replace(SETTINGS, init="recipe:none.json")}, "none.json: .*no such file"),
    ],
)
def test_fronts_that_cannot_be_meant_are_refused_before_the_first_step(
    tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises((UsageError, InputError), match=says):
        learn(tmp_path, **given)
    assert not (tmp_path / "run" / "history.jsonl").exists()


def test_a_run_of_another_front_is_refused(tmp_path: Path) -> None:
    learn(tmp_path)
    others: list[tuple[dict[str, Any], str]] = [
        ({"objectives": GOALS[::-1]}, "objectives"),
        ({"settings": replace(SETTINGS, family="affine")}, "settings.family was 'softmax-linear'"),
        ({"points": 4}, "points was 3, now 4"),
        ({"seed": 1}, "seed was 0, now 1"),
    ]
    for given, says in others:
        with pytest.raises(UsageError, match=says):
            learn(tmp_path, **given)
    ingredients = tiny.make_ingredients(tmp_path / "in")
    elsewhere = sm.Recipe.uniform(sm.Ingredients(ingredients.checkpoints[::-1]))
    with pytest.raises(InputError, match="other: these are not its ingredients"):
        learn(tmp_path, beside={"other": elsewhere})
    json.dumps(learn(tmp_path).summary(), allow_nan=False)
