"""The steps of learning: against a plain loop of autograd and torch's own optimiser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.binding import cast
from soupmerge.choices import OPTIMISERS, PRECISIONS
from soupmerge.errors import NumericsError, UsageError
from soupmerge.schedule import order, stream
from soupmerge.soups.learn.batch_norms import statistics_of_batch
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.learn.settings import Settings
from soupmerge.soups.learn.soup import draw_active
from soupmerge.storage import run_folder
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import quiet
from soupmerge.weights.buffers import is_statistic
from soupmerge.weights.front import recipe_at
from tests.shared import Stop, stop_at
from tests.soups import tiny
from tests.soups.tiny import Pushed, Tiny, answer

EPOCHS, BATCH, N = 3, 16, 40


def brighter(x: Tensor, generator: torch.Generator) -> Tensor:
    """Change images as an augmentation would."""
    return x + 0.2 * torch.rand(len(x), 1, 1, 1, generator=generator)


def plain_steps(
    ingredients: sm.Ingredients, data: sm.Images, settings: Settings, seed: int, augment: Any
) -> Iterator[tuple[Tensor, float, int]]:
    """Yield the logits after each step, its loss, and how many images it saw, all in float64."""
    states = [{name: t.double() for name, t in ingredient.items()} for ingredient in ingredients]
    names = list(ingredients.mixed)
    draw = stream("start", seed)
    rows = [
        nn.init.xavier_uniform_(torch.empty(1, len(ingredients)), generator=draw) for _ in names
    ]
    logits = torch.cat(rows).double().requires_grad_()
    optimiser = torch.optim.SGD([logits], lr=settings.rate)
    steps = -(-len(data) // settings.batch_size)
    total = (settings.epochs or 0) * steps
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=total)
    for step in range(total):
        epoch, place = divmod(step, steps)
        x, y = data.batch(order(len(data), seed, epoch).split(settings.batch_size)[place])
        x = augment(x, stream("augment", seed, step)) if augment else x
        draw = stream("dropout", seed, step)
        active = torch.rand(len(names), generator=draw) >= settings.dropout
        spare = torch.randint(len(names), (), generator=draw)
        active[spare] |= not bool(active.any())
        alpha = torch.where(active[:, None], logits.softmax(1), logits.softmax(1).detach())

        def mixed(name: str, alpha: Tensor = alpha) -> Tensor:
            if name in names:
                row = alpha[names.index(name)]
            elif settings.buffers == "average" and is_statistic(name):
                row = alpha[names.index("norm.weight")]
            else:
                row = torch.eye(len(ingredients), dtype=torch.float64)[settings.base]
            return torch.einsum("k,k...->...", row, torch.stack([s[name] for s in states]))

        theta = {name: mixed(name) for name in states[0]}
        fixed = {name: t.detach() for name, t in theta.items()}
        goal, x = Pushed(), x.double()
        x_adv = goal.craft(partial(answer, fixed), x, y, generator=stream("attack", seed, step))
        moving = partial(answer, theta, batch=settings.batch_norm == "batch")
        loss = goal.loss(moving, x, x_adv, y)
        optimiser.zero_grad()
        (loss / (1 - settings.dropout) if settings.rescale else loss).backward()
        optimiser.step()
        schedule.step()
        yield logits.detach().clone(), loss.item(), len(y)


@pytest.mark.parametrize(
    ("more", "seed", "augment"),
    [
        ({}, 0, None),  # --as-paper
        ({"base": 2}, 1, brighter),
        ({"buffers": "average"}, 2, brighter),
        ({"buffers": "average", "dropout": 0.0}, 3, None),
        ({"buffers": "average", "dropout": 0.5, "rescale": True, "lr": 3.0}, 4, None),
        ({"dropout": 1.0}, 5, None),
        ({"buffers": "average", "batch_norm": "batch", "dropout": 0.4}, 6, None),
    ],
)
def test_learning_is_the_plain_loop_step_by_step(
    tmp_path: Path, more: dict[str, Any], seed: int, augment: Any
) -> None:
    """As in Huang 2023: logits, losses and the history; the recipe is the softmax of the last."""
    ingredients, data = tiny.make_ingredients(tmp_path / "in"), tiny.images(N)
    settings = Settings.paper(epochs=EPOCHS, batch_size=BATCH, **more)
    goal = {"pushed": Pushed()}
    learner = Learner(Tiny(), ingredients, data, goal, settings, augment=augment, seed=seed)
    seen: list[Tensor] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        assert (what, done, total) == ("steps", len(seen) + 1, EPOCHS * 3)
        seen.append(logits_of(learner).double())

    with run_folder.opened(tmp_path / "run", {"command": "learn"}) as folder:
        recipe = recipe_of(learner, learner.learn(folder, progress))
        history = folder.journal("history.jsonl").records
    found = list(plain_steps(ingredients, data, settings, seed, augment))
    assert len(found) == len(seen) == EPOCHS * 3
    for ours, (theirs, _, _) in zip(seen, found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)
    first = learner.start[0].double().softmax(1)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    for epoch, record in enumerate(history):
        part = found[3 * epoch : 3 * epoch + 3]
        assert [images for _, _, images in part] == [16, 16, 8]
        mean = sum(loss * images for _, loss, images in part) / N
        alpha = part[-1][0].softmax(1)
        entropy = torch.distributions.Categorical(probs=alpha).entropy().mean()
        moved = (alpha - first).abs().sum(1).mean() / 2
        assert record["loss"] == pytest.approx(mean, rel=1e-3)
        assert record["entropy"] == pytest.approx(float(entropy), rel=1e-3, abs=1e-4)
        assert record["moved"] == pytest.approx(float(moved), rel=1e-3, abs=1e-4)
        assert record["weights"] == pytest.approx(alpha.mean(0).tolist(), abs=1e-3)
        assert record["weights"] == [round(w, 6) for w in record["weights"]]
    torch.testing.assert_close(torch.tensor(recipe.weights).double(), seen[-1].softmax(1))
    assert (recipe.by, recipe.origin) == ("tensor", "learn")
    assert (recipe.buffers, recipe.base) == (settings.buffers, settings.base)


# ---- numbers of the history


def ended(tmp_path: Path, first: Tensor, now: Tensor) -> dict[str, Any]:
    """Return the record of an epoch that led from coefficients *first* to *now*."""
    ingredients = tiny.make_ingredients(tmp_path / "in")
    settings = Settings(by="model", epochs=1)
    learner = Learner(Tiny(), ingredients, tiny.images(8), {"pushed": Pushed()}, settings)
    learner.start = first.clamp(min=1e-30).log()[None]
    learner.coefficients.parameters["logits"].data.copy_(now.clamp(min=1e-30).log())
    learner.convergence.add_losses([1.0], 1.0, images=1)
    return learner.end_epoch(0)


def test_from_one_ingredient_to_another_coefficients_move_by_one(tmp_path: Path) -> None:
    """Total variation, on paper: 1 from one-hot to one-hot, 2/3 from one-hot to uniform."""
    one, other, even = torch.eye(3)[:1], torch.eye(3)[1:2], torch.full((1, 3), 1 / 3)
    assert ended(tmp_path, one, other)["moved"] == pytest.approx(1)
    assert ended(tmp_path, one, even)["moved"] == pytest.approx(2 / 3)
    assert ended(tmp_path, one, one)["moved"] == pytest.approx(0, abs=1e-6)


def test_entropy_is_0_at_one_ingredient_and_log_k_at_all_alike(tmp_path: Path) -> None:
    one, even = torch.eye(3)[:1], torch.full((1, 3), 1 / 3)
    half = torch.tensor([[0.5, 0.25, 0.25]])
    for rows, expected in ((one, 0.0), (even, 1.0986123), (half, 1.0397208)):
        assert ended(tmp_path, one, rows)["entropy"] == pytest.approx(expected, abs=1e-5)


# ---- detach dropout


@given(
    groups=st.integers(1, 40),
    dropout=st.sampled_from([0.0, 0.5, 0.8, 0.99, 1.0]),
    seed=st.integers(0, 999),
)
def test_detach_dropout_leaves_at_least_one_group_alive(
    groups: int, dropout: float, seed: int
) -> None:
    active = draw_active(groups, dropout, torch.Generator().manual_seed(seed))
    assert active.shape == (groups,)
    assert bool(active.any())
    if dropout == 0:
        assert bool(active.all())
    if dropout == 1:
        assert int(active.sum()) == 1


def test_detach_dropout_detaches_each_group_with_its_probability() -> None:
    generator = torch.Generator().manual_seed(0)
    alive = torch.stack([draw_active(50, 0.8, generator) for _ in range(400)]).sum(0)
    assert int(alive.sum()) == pytest.approx(0.2 * 50 * 400, rel=0.05)
    assert stats.chisquare(alive.numpy()).pvalue > 0.01


@pytest.mark.parametrize("groups", [2, 7])
def test_where_all_are_detached_each_group_comes_about_equally_often(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.stack([draw_active(groups, 1.0, generator) for _ in range(2000)]).sum(0)
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_a_detached_group_stays_where_it_is(tmp_path: Path) -> None:
    """In a first step, one group moves; with dropout 0 all do."""
    for dropout, moving in ((1.0, 1), (0.0, 6)):
        for optimiser in OPTIMISERS:
            learner = learner_of(tmp_path, dropout=dropout, optimiser=optimiser)
            learner.step(torch.arange(BATCH))
            moved = (logits_of(learner) != learner.start[0]).any(1)
            assert int(moved.sum()) == moving


# ---- what a step leaves alone, and what it refuses


def learner_of(tmp_path: Path, objective: Any = None, **settings: Any) -> Learner:
    ingredients = tiny.make_ingredients(tmp_path / "in")
    given = Settings(**{"epochs": EPOCHS, "batch_size": BATCH, **settings})
    return Learner(Tiny(), ingredients, tiny.images(N), {"loss": objective or Pushed()}, given)


def logits_of(learner: Learner) -> Tensor:
    """Return a copy of the logits ``(G, K)`` of a learner with one objective."""
    return learner.coefficients.parameters["logits"].detach()[0].clone()


def recipe_of(learner: Learner, parameters: Any) -> sm.Recipe:
    """Return the recipe that *parameters*, what `Learner.learn` returned, stand for."""
    return recipe_at(learner.soup.recipe(), learner.settings.family, parameters, (1.0,))


@pytest.mark.parametrize("mode", ["eval", "batch"])
def test_learning_leaves_network_statistics_and_random_state_alone(
    tmp_path: Path, mode: str
) -> None:
    net, ingredients = Tiny(), tiny.make_ingredients(tmp_path / "in")
    before = {name: t.clone() for name, t in net.state_dict().items()}
    random = torch.get_rng_state()
    settings = Settings(epochs=1, batch_size=BATCH, batch_norm=mode)
    learner = Learner(net, ingredients, tiny.images(N), {"pushed": Pushed()}, settings)
    learner.learn(None, quiet)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert not any(module.training for module in learner.soup.net.modules())
    assert learner.soup.net.norm.track_running_stats
    with pytest.raises(ZeroDivisionError), statistics_of_batch(learner.soup.net):
        raise ZeroDivisionError
    assert not learner.soup.net.norm.training


class Scripted(Pushed):
    """Its losses are those of a list; the gradient is that of the answers."""

    def __init__(self, *losses: float) -> None:
        self.losses = list(losses)

    def loss(self, classifier: Any, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        answers = classifier(x).sum()
        return answers - answers.detach() + self.losses.pop(0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_learning_where_it_was(tmp_path: Path, bad: float) -> None:
    learner = learner_of(tmp_path, Scripted(1.0, 2.0, bad, 3.0), init="xavier")
    kept: list[Tensor] = []
    with pytest.raises(NumericsError, match=r"^step 3: the loss is not finite; .*lower --lr"):
        learner.learn(None, lambda *_, **__: kept.append(logits_of(learner)))
    assert len(kept) == 2
    assert torch.equal(logits_of(learner), kept[-1])


class Edged(Pushed):
    """Its loss is 0 at step 3, where its gradient is not a number; before, it is that of Pushed."""

    def __init__(self) -> None:
        self.steps = 0

    def loss(self, classifier: Any, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        self.steps += 1
        if self.steps < 3:
            return super().loss(classifier, x, x_adv, y)
        return (0 * classifier(x).sum()).sqrt()


def test_a_gradient_that_is_no_number_does_not_reach_the_coefficients(tmp_path: Path) -> None:
    learner = learner_of(tmp_path, Edged(), init="xavier")
    kept: list[Tensor] = []
    with pytest.raises(NumericsError, match="^step 3: the gradient is not finite; "):
        learner.learn(None, lambda *_, **__: kept.append(logits_of(learner)))
    assert torch.equal(logits_of(learner), kept[-1])


def test_progress_notes_the_mean_loss_of_the_epoch_so_far(tmp_path: Path) -> None:
    notes: list[str] = []
    learner = learner_of(tmp_path, Scripted(1.0, 2.0, 4.0, 7.0, 0, 0, 0, 0, 0), init="xavier")
    learner.learn(None, lambda *_, note="", **__: notes.append(_[-1] if len(_) > 3 else note))
    losses = [note.partition(", gap ")[0] for note in notes[:4]]
    assert losses == ["loss 1.0000", "loss 1.5000", "loss 2.0000", "loss 7.0000"]


# ---- resuming


@pytest.mark.parametrize("often", [False, True])
@pytest.mark.parametrize("at", [1, 3, 4, 8])
def test_a_killed_learning_takes_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often: bool, at: int
) -> None:
    """From the last snapshot: after each epoch, and, where one is due, after each step."""
    monkeypatch.setattr(Snapshot, "due", lambda self: often)
    whole = learner_of(tmp_path)
    expected = recipe_of(whole, whole.learn(None, quiet))
    with run_folder.opened(tmp_path / "run", {"command": "learn"}) as folder:
        with pytest.raises(Stop):
            learner_of(tmp_path).learn(folder, stop_at(at, "steps"))
        calls: list[int] = []
        again = learner_of(tmp_path)
        found = again.learn(folder, lambda what, done, total, note="": calls.append(done))
        assert recipe_of(again, found) == expected
        # A step is announced before it is kept, and what was not kept is taken again.
        first = at if often else 3 * ((at - 1) // 3) + 1
        assert calls == list(range(first, 10))
        assert [record["epoch"] for record in folder.journal("history.jsonl").records] == [1, 2, 3]


# ---- stopping early


class Stopping(Pushed):
    """On images of the stopping set, which are dark, the loss is the next of a list."""

    def __init__(self, *losses: float) -> None:
        self.losses = list(losses)

    def loss(self, classifier: Any, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        if float(x.max()) == 0:
            return torch.tensor(self.losses.pop(0))
        return super().loss(classifier, x, x_adv, y)


def dark(n: int) -> sm.Images:
    return sm.Images.of(
        torch.zeros(n, 1, 2, 2), torch.zeros(n).long(), ref="dark", classes=tiny.CLASSES
    )


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([3.0, 1.0, 2.0, 2.5, 0.5], 2, 4, 2),  # two epochs without a lower one, and it ends
        ([3.0, 1.0, 2.0, 0.5, 2.5], 2, 5, 4),
        ([3.0, 1.0, 2.0, 2.5, 0.5], None, 5, 5),
        ([1.0, 1.0, 1.0, 1.0, 1.0], None, 5, 1),  # the first of equals
        ([1.0, 2.0, 0.0, 0.0, 0.0], 1, 2, 1),
    ],
)
def test_the_epoch_of_the_lowest_loss_is_taken_and_patience_counts_epochs(
    tmp_path: Path, losses: list[float], patience: int | None, epochs: int, best: int
) -> None:
    ingredients, goal = tiny.make_ingredients(tmp_path / "in"), Stopping(*losses)
    settings = Settings(epochs=5, batch_size=BATCH, patience=patience)
    named = {"stopping": goal}
    learner = Learner(Tiny(), ingredients, tiny.images(N), named, settings, stop_on=dark(8))
    kept: list[sm.Recipe] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        if done % 3 == 0:
            kept.append(recipe_of(learner, learner.coefficients.arrays()))

    with run_folder.opened(tmp_path / "run", {"command": "learn"}) as folder:
        recipe = recipe_of(learner, learner.learn(folder, progress))
        history = folder.journal("history.jsonl").records
    assert [record["val"] for record in history] == losses[:epochs]
    assert recipe == kept[best - 1]


def test_the_loss_that_stops_is_the_mean_over_its_images_crafted_alike_each_time(
    tmp_path: Path,
) -> None:
    """In batches, the last of which is smaller; the noise of each batch is drawn by its place."""
    learner, data = learner_of(tmp_path), tiny.images(N, seed=7)
    recipe = recipe_of(learner, learner.coefficients.arrays())
    ingredients = tiny.make_ingredients(tmp_path / "in")
    theta = {n: t.double() for n, t in sm.mix(ingredients, recipe).items()}
    expected, goal, soup = 0.0, Pushed(), partial(answer, theta)
    for part in torch.arange(N).split(BATCH):
        x, y = data.batch(part)
        noise = stream("stop", 0, int(part[0]))
        x_adv = goal.craft(soup, x.double(), y, generator=noise)
        expected += float(goal.loss(soup, x.double(), x_adv, y)) * len(y)
    assert learner.loss_on(data) == pytest.approx(expected / N, rel=1e-5)
    assert learner.loss_on(data) == learner.loss_on(data)


# ---- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dropout": 1.5}, "^dropout: 1.5 is not a probability"),
        ({"dropout": -0.1}, "^dropout: -0.1 is not a probability"),
        ({"dropout": 1.0, "rescale": True}, "^dropout 1: .*cannot be divided"),
        ({"epochs": 0}, "^learn: epochs must be at least 1, not 0"),
        ({"batch_size": 0}, "^learn: batch size must be at least 1"),
        ({"patience": 0}, "^learn: patience must be at least 1"),
        ({"lr": 0.0}, "^learn: learning rate 0 is not above 0"),
        ({"lr": float("inf")}, "^learn: learning rate inf is not"),
        ({"lr": 1e9}, r"^learn: learning rate 1e\+09 is not"),
        ({"corners": 1.1}, "^corners: 1.1 is not a probability"),
        ({"batch_norm": "bach"}, "^learn: unknown batch norm 'bach'; did you mean 'batch'"),
        ({"optimiser": "adm"}, "^learn: unknown optimiser 'adm'; did you mean 'adam'"),
        ({"family": "afine"}, "^learn: unknown family 'afine'; did you mean 'affine'"),
        ({"scalarisation": "sums"}, "^learn: unknown scalarisation 'sums'; did you mean 'sum'"),
        ({"by": "blocks"}, "'blocks'.*'block'"),
        ({"init": "zero"}, "^init: unknown start 'zero'"),
        ({"precision": "fp8"}, "^precision: unknown precision 'fp8'"),
        ({"store": "fp8"}, "^store: unknown form 'fp8'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        learner_of(tmp_path, **settings)
    Settings(dropout=1.0, lr=1e-9, batch_size=1, epochs=1, patience=1)
    Settings(dropout=0.999, rescale=True)


def test_images_that_the_network_cannot_take_are_refused_before_the_first_step(
    tmp_path: Path,
) -> None:
    ingredients = tiny.make_ingredients(tmp_path / "in")
    wide = sm.Images.of(torch.rand(4, 1, 3, 3), [0, 1, 2, 0])
    with pytest.raises(sm.errors.InputError, match=r"cannot take images of shape \(1, 3, 3\)"):
        Learner(Tiny(), ingredients, wide, {"pushed": Pushed()}, Settings(epochs=1))


def test_bf16_computes_nearly_the_same(tmp_path: Path) -> None:
    ingredients = tiny.make_ingredients(tmp_path / "in")
    bound, x = sm.bind(Tiny(), ingredients[0]), tiny.images(32).batch(torch.arange(32))[0]
    full, half = (cast(bound, p, torch.device("cpu"))(x) for p in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)
    learners = [learner_of(tmp_path, epochs=1, precision=p) for p in PRECISIONS]
    weights = [torch.tensor(recipe_of(each, each.learn(None, quiet)).weights) for each in learners]
    assert not torch.equal(*weights)
    torch.testing.assert_close(*weights, rtol=0, atol=0.05)


def test_a_history_is_json(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path / "run", {"command": "learn"}) as folder:
        learner_of(tmp_path).learn(folder, quiet)
        for record in folder.journal("history.jsonl").records:
            assert set(record) == {"epoch", "loss", "gap", "entropy", "moved", "weights"}
            json.dumps(record, allow_nan=False)
