"""The fast gradient of learned soups: equal to the definition, for every grouping, and cheap."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.func import functional_call

import soupmerge as sm
from soupmerge.binding import hollow
from soupmerge.errors import SoupmergeError, UsageError
from soupmerge.soups import stacks
from soupmerge.soups.learned import LearnedSoup
from soupmerge.soups.learner import Learner
from soupmerge.soups.norms import ThroughStatistics, norms_of
from soupmerge.soups.stacks import stack_of
from soupmerge.soups.starts import start
from soupmerge.soups.sweeping import Sweep
from soupmerge.storage.journal import Journal
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import quiet
from soupmerge.weights.mixing import combine
from tests.shared import Stop, files_of, in_float64, stop_at


@pytest.mark.parametrize("by", ["model", "block", "module", "tensor", "glob=*.bias,head.weight"])
@pytest.mark.parametrize("policy", ["average", "base"])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("store", ["fp32", "bf16"])
def test_inner_products_are_the_gradient_of_the_definition(
    pots: sm.Ingredients,
    net: nn.Module,
    tmp_path: Path,
    by: str,
    policy: str,
    dropped: bool,
    store: str,
) -> None:
    wide = in_float64(pots, tmp_path / "wide")
    soup = LearnedSoup(sm.bind(net, pots[0]).double(), wide, by=by, buffers=policy, store=store)
    generator = torch.Generator().manual_seed(0)
    logits = start("xavier", wide, soup.groups, generator).double().requires_grad_()
    x = torch.rand(16, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(10, (16,), generator=generator)
    live = torch.ones(len(logits), dtype=torch.bool)
    if dropped and len(logits) > 1:
        live[torch.arange(len(logits)) % 2 == 0] = False
    alpha = logits.softmax(1)

    def loss_of(theta: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(soup.classifier(theta)(x), y)

    plain = loss_of(soup.weights(alpha, live))
    (expected,) = torch.autograd.grad(plain, logits, retain_graph=True)
    held = soup.held(alpha)
    leaves = soup.leaves(live, held)
    fast = loss_of(soup.placed(leaves, held))
    found = torch.autograd.grad(fast, list(leaves.values()))
    into_alpha = soup.gradient(dict(zip(leaves, found, strict=True)), live, held)
    (gradient,) = torch.autograd.grad(alpha, logits, into_alpha)
    torch.testing.assert_close(fast, plain, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-14)
    assert bool((gradient[~live] == 0).all())
    assert float(gradient.abs().max()) > 1e-6


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d, nn.SyncBatchNorm])
def test_statistics_have_the_gradient_that_autograd_finds(norm: type[nn.Module]) -> None:
    draw = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU(), nn.Conv2d(4, 5, 3), norm(5))
    state = {
        name: torch.rand(t.shape, generator=draw, dtype=torch.float64) + 0.1
        for name, t in net.double().eval().state_dict().items()
        if t.is_floating_point()
    }
    x = torch.randn(2, 3, 8, 8, generator=draw, dtype=torch.float64)
    every = {name: t.clone().requires_grad_() for name, t in state.items()}
    with ThroughStatistics():
        out = functional_call(net, every, (x,))
    torch.testing.assert_close(out, functional_call(net, state, (x,)))
    grads = dict(
        zip(every, torch.autograd.grad(out.square().sum(), list(every.values())), strict=True)
    )
    norms = list(norms_of(net))
    assert [n.mean for n in norms] == ["1.running_mean", "4.running_mean"]
    for found in norms:
        for name, grad in found.gradients(state, grads):
            assert float(grad.abs().max()) > 1e-3
            torch.testing.assert_close(grad, grads[name])


def test_statistics_that_are_not_used_are_constants(pots: sm.Ingredients, net: nn.Module) -> None:
    """With those of the batch, and with those of one ingredient, nothing depends on them."""
    used = LearnedSoup(net, pots)
    assert len(used.norms) > 0
    assert not LearnedSoup(net, pots, statistics=False).norms
    assert not LearnedSoup(net, pots, buffers="base").norms


@pytest.mark.parametrize("exclude", ["*.bias", "*.weight"])
def test_norms_whose_scale_or_shift_is_copied_keep_constant_statistics(
    trained: list[Path], digits: sm.Images, exclude: str
) -> None:
    pots = sm.load(*trained, exclude=[exclude])
    few = digits.take(torch.arange(16), "few")
    settings = sm.Settings(epochs=1, batch_size=8)
    trial = sm.learn(sm.model(like=pots), pots, few, sm.against(sm.Linf(0.1)), settings=settings)
    assert trial.recipe.origin == "learn"


# ---- where ingredients are kept


@pytest.mark.parametrize("place", ["device", "host", "files"])
def test_a_stack_mixes_and_multiplies_as_its_versions_do(pots: sm.Ingredients, place: str) -> None:
    generator = torch.Generator().manual_seed(0)
    row = torch.rand(3, generator=generator).softmax(0).double()
    for name in pots.mixed:
        stack = stack_of(pots, name, torch.float64, place=place)
        versions = torch.stack([pot[name].double() for pot in pots])
        grad = torch.randn(versions.shape[1:], generator=generator, dtype=torch.float64)
        assert torch.equal(stack.whole(), versions)
        torch.testing.assert_close(stack.mix(row), combine(row, versions))
        torch.testing.assert_close(stack.dots(grad), (versions * grad).flatten(1).sum(1))
        assert stack.mix(row).is_contiguous(
            memory_format=torch.channels_last if grad.ndim == 4 else torch.contiguous_format
        )


def test_bfloat16_differences_are_near_and_consistent(pots: sm.Ingredients) -> None:
    row = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for name in pots.mixed:
        stack = stack_of(pots, name, torch.float64, store="bf16", base=1)
        versions = torch.stack([pot[name].double() for pot in pots])
        found = stack.whole()
        assert torch.equal(found[1], versions[1])
        apart = (versions - versions[1]).abs()
        assert bool(((found - versions).abs() <= apart / 128).all())
        grad = torch.ones(versions.shape[1:], dtype=torch.float64)
        torch.testing.assert_close(stack.mix(row), combine(row, found))
        torch.testing.assert_close(stack.dots(grad), found.flatten(1).sum(1))


def test_where_ingredients_are_kept_changes_no_number(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images, tmp_path: Path
) -> None:
    net, pots = kitchen
    for place in ("device", "host", "files", "auto"):
        out = tmp_path / place
        goal = sm.against(sm.Linf(0.1))
        sm.learn(net, pots, digits, goal, epochs=2, place=place, out=out)
        assert files_of(out) == files_of(tmp_path / "device")


def test_learning_from_differences_ends_close_by(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images
) -> None:
    net, pots = kitchen
    found = []
    for store in ("fp32", "bf16"):
        settings = sm.Settings(epochs=2, store=store, dropout=0.0, lr=1.0)
        trial = sm.learn(net, pots, digits, sm.against(None), settings=settings)
        found.append(torch.tensor(trial.recipe.weights))
    torch.testing.assert_close(found[0], found[1], atol=0.01, rtol=0)
    assert not torch.equal(found[0], found[1])


def test_a_plan_counts_bytes_and_takes_the_first_place_with_room(
    pots: sm.Ingredients, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = sum(i.numel for i in pots.infos.values() if i.dtype.is_floating_point)
    largest = max(i.numel for i in pots.infos.values())
    sizes = {
        (place, store): stacks.plan(pots, place=place, store=store).ingredients
        for place, store in (("host", "fp32"), ("host", "bf16"), ("files", "fp32"))
    }
    assert list(sizes.values()) == [12 * numbers, (2 * 3 + 4) * numbers, 12 * largest]
    assert stacks.plan(pots).models == 12 * numbers
    assert stacks.plan(pots).place == "device"
    monkeypatch.setattr(stacks, "_available", lambda: 30 * numbers)
    assert stacks.plan(pots).place == "files"
    assert "left in their files" in stacks.plan(pots).describe()
    for wrong in ({"place": "disc"}, {"store": "fp8"}, {"place": "files", "store": "bf16"}):
        with pytest.raises(UsageError):
            stacks.plan(pots, **wrong)


def test_a_hollow_network_computes_what_the_whole_one_does(net: nn.Module) -> None:
    class Shifted(nn.Module):
        """Has a buffer that is not of its state, and a tied weight."""

        def __init__(self) -> None:
            super().__init__()
            self.net, self.again = net, net
            self.register_buffer("shift", torch.tensor(0.25), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.again(x) + self.net(x + self.shift)
            return logits

    whole = Shifted().eval()
    empty = hollow(whole)
    assert all(p.is_meta for p in empty.parameters())
    assert not any(p.is_meta for p in whole.parameters())
    x = torch.rand(2, 1, 8, 8)
    state = dict(whole.state_dict())
    found = torch.func.functional_call(empty, state, (x,), tie_weights=False)
    assert torch.equal(found, whole(x))


def test_tied_tensors_are_learned_as_one(tmp_path: Path) -> None:
    """Two names of one tensor: the gradient of the definition, whichever name is asked for."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.second(self.first(x).relu())
            return logits

    net = Tied().double()
    for i in range(2):
        noise = torch.Generator().manual_seed(i)
        state = {
            n: torch.randn(t.shape, generator=noise).double() for n, t in net.state_dict().items()
        }
        state["second.weight"] = state["first.weight"]
        torch.save(state, tmp_path / f"{i}.pt")
    pots = sm.load(tmp_path / "0.pt", tmp_path / "1.pt")
    soup = LearnedSoup(net, pots)
    assert len(soup.groups) == 3
    alpha = start("xavier", pots, soup.groups, torch.Generator().manual_seed(0)).softmax(1)
    alpha = alpha.detach().double().requires_grad_()
    x = torch.rand(5, 4, dtype=torch.float64)
    (expected,) = torch.autograd.grad(soup.classifier(soup.weights(alpha))(x).sum(), alpha)
    held = soup.held(alpha)
    live = torch.ones(3, dtype=torch.bool)
    leaves = soup.leaves(live, held)
    out = soup.classifier(soup.placed(leaves, held))(x).sum()
    found = torch.autograd.grad(out, list(leaves.values()), materialize_grads=True)
    gradient = soup.gradient(dict(zip(leaves, found, strict=True)), live, held)
    torch.testing.assert_close(gradient, expected)


# ---- where learning starts


def test_starts_are_what_they_say(pots: sm.Ingredients, tmp_path: Path) -> None:
    groups = pots.groups("tensor")
    none = torch.Generator()

    def rows(how: str) -> Tensor:
        return start(how, pots, groups, none).softmax(1).double()

    even = torch.full((len(groups), 3), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(rows("uniform"), even, atol=1e-6, rtol=0)
    only = 0.9 * torch.eye(3, dtype=torch.float64)[1] + 0.1 / 3
    torch.testing.assert_close(rows("only:2:0.1"), only.expand(len(groups), 3), atol=1e-6, rtol=0)
    recipe = sm.Recipe.of(pots, [0.2, 0.8, 0.0])
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    near = 0.95 * torch.tensor(recipe.weights[0], dtype=torch.float64) + 0.05 / 3
    found = rows(f"recipe:{tmp_path}/recipe.json")
    torch.testing.assert_close(found, near.expand(len(groups), 3), atol=1e-6, rtol=0)


def test_a_recipe_of_finer_groups_gives_each_group_its_mean(
    pots: sm.Ingredients, tmp_path: Path
) -> None:
    fine, generator = pots.groups("tensor"), torch.Generator().manual_seed(0)
    weights = torch.rand(len(fine), 3, generator=generator, dtype=torch.float64).softmax(1)
    recipe = sm.Recipe.of(pots, weights.tolist(), by="tensor")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    found = start(f"recipe:{tmp_path}/recipe.json", pots, pots.groups("model"), generator)
    mean = 0.95 * weights.mean(0) + 0.05 / 3
    torch.testing.assert_close(found.double().softmax(1)[0], mean, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("xavjer", "did you mean 'xavier'"),
        ("only", "no start"),
        ("only:4", "names none of 3"),
        ("only:0", "names none of 3"),
        ("only:1:2", "not in"),
        ("only:1:x", "not a number"),
        ("recipe:missing.json", "no such file"),
    ],
)
def test_starts_that_cannot_be_meant(pots: sm.Ingredients, how: str, says: str) -> None:
    with pytest.raises(SoupmergeError, match=says):
        start(how, pots, pots.groups("model"), torch.Generator())


def test_a_recipe_of_other_ingredients_is_no_start(pots: sm.Ingredients, tmp_path: Path) -> None:
    recipe = sm.Recipe.of(sm.Ingredients(pots.checkpoints[::-1]), [0.2, 0.8, 0.0])
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    with pytest.raises(SoupmergeError, match="not its ingredients"):
        start(f"recipe:{tmp_path}/recipe.json", pots, pots.groups("model"), torch.Generator())


# ---- the steps


def one_step(net: nn.Module, pots: sm.Ingredients, data: sm.Images, **settings: Any) -> Tensor:
    """Return how the first step moves the logits."""
    given = sm.Settings(lr=1.0, epochs=1000, batch_size=64, **settings)
    learner = Learner(net, pots, data, sm.against(None), given)
    learner._step(torch.arange(64))
    return learner.logits.detach() - learner.first


def test_rescaling_makes_the_mean_step_that_without_dropout(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images
) -> None:
    net, pots = kitchen
    plain = one_step(net, pots, digits, dropout=0.75)
    rescaled = one_step(net, pots, digits, dropout=0.75, rescale=True)
    torch.testing.assert_close(rescaled, 4 * plain, rtol=1e-3, atol=1e-7)
    with pytest.raises(UsageError, match="nothing is left"):
        sm.Settings(dropout=1.0, rescale=True)


def test_batch_statistics_are_those_of_the_batch_and_nothing_is_kept(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images
) -> None:
    net, pots = kitchen
    settings = sm.Settings(batch_norm="batch", dropout=0.0)
    learner = Learner(net, pots, digits, sm.against(None), settings)
    alpha = learner.first.softmax(1)
    held = learner.soup.held(alpha)
    before = {name: tensor.clone() for name, tensor in held.items()}
    x, _ = digits.batch(torch.arange(32))
    with learner._norms():
        found = learner._cast(held)(x)
    reference = sm.bind(net, held)
    reference.train()
    torch.testing.assert_close(found, reference(x), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(held[name], tensor) for name, tensor in before.items())
    torch.testing.assert_close(learner._cast(held)(x), sm.bind(net, held)(x), rtol=1e-4, atol=1e-4)
    moved = [one_step(net, pots, digits, dropout=0.0, batch_norm=m) for m in ("eval", "batch")]
    assert not torch.allclose(*moved)


def test_recalibrated_at_the_end_as_mix_would(
    kitchen: tuple[nn.Module, sm.Ingredients],
    digits: sm.Images,
    tmp_path: Path,
    soupmerge: Callable[..., Any],
) -> None:
    net, pots = kitchen
    refs = [pot.ref for pot in pots]
    words = ["--data", "digits", "--limit", 64]
    result = soupmerge(
        *("learn", *refs, *words, "--eps", "0.1", "--epochs", 1, "--augment", "none"),
        *("--batch-norm", "batch", "--recalibrate", "attacked", "-o", tmp_path / "run"),
    )
    assert result.status == 0, result.err
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["buffers"]["policy"] == "recalibrate"
    assert recipe["calibration"]["attack"]["steps"] == 2


def test_early_stopping_takes_the_best_epoch_and_resumes(
    kitchen: tuple[nn.Module, sm.Ingredients],
    digits: sm.Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Snapshot, "due", lambda self: True)
    net, pots = kitchen
    stop_on = sm.data("digits", split="test", limit=64)
    logits = []

    def loss_on(self: Learner, examples: Any) -> float:
        logits.append(self.logits.detach().clone())
        return [3.0, 1.0, 2.0, 2.5, 0.5][self.at["step"] // self.steps - 1]

    monkeypatch.setattr(Learner, "loss_on", loss_on)

    def learn(out: str, progress: Any = quiet) -> sm.Recipe:
        settings = sm.Settings(epochs=5, patience=2, batch_size=128)
        how: dict[str, Any] = {"settings": settings, "stop_on": stop_on, "progress": progress}
        return sm.learn(net, pots, digits, sm.against(None), out=tmp_path / out, **how).recipe

    whole = learn("whole")
    assert len(Journal(tmp_path / "whole" / "history.jsonl").records) == 4
    best = logits[1].double().softmax(1)
    torch.testing.assert_close(torch.tensor(whole.weights, dtype=torch.float64), best)
    for n in (2, 3):
        with pytest.raises(Stop):
            learn("cut", stop_at(n, "steps"))
    assert learn("cut") == whole
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_the_loss_that_stops_is_that_of_the_soup(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images
) -> None:
    net, pots = kitchen
    settings = sm.Settings(batch_size=50)
    learner = Learner(net, pots, digits, sm.against(None), settings)
    soup = sm.bind(net, sm.mix(pots, learner.soup.recipe(learner.logits)))
    x, y = digits.batch(torch.arange(len(digits)))
    expected = nn.functional.cross_entropy(soup(x), y).item()
    assert learner.loss_on(digits) == pytest.approx(expected, rel=1e-5)
    attacked = Learner(net, pots, digits, sm.against(sm.Linf(0.1)), settings)
    assert attacked.loss_on(digits) == attacked.loss_on(digits) > expected


# ---- several soups in one run


def test_a_sweep_learns_each_soup_as_learn_does_and_judges_all(
    kitchen: tuple[nn.Module, sm.Ingredients],
    digits: sm.Images,
    chooser: sm.Benchmark,
    tmp_path: Path,
) -> None:
    net, pots = kitchen
    goals = {"clean": sm.against(None), "linf": sm.against(sm.Linf(0.1))}
    settings = sm.Settings(epochs=1)

    def sweep(out: str, progress: Any = quiet) -> Sweep:
        how: dict[str, Any] = {"benchmark": chooser, "beside": {"uniform": sm.Recipe.uniform(pots)}}
        how |= {"seeds": (3, 4), "settings": settings, "progress": progress}
        return sm.sweep(net, pots, digits, goals, out=tmp_path / out, **how)

    whole = sweep("whole")
    assert whole.names == ("clean-seed3", "clean-seed4", "linf-seed3", "linf-seed4")
    assert set(whole.beside) == {"uniform", *pots.names}
    alone = sm.learn(net, pots, digits, goals["linf"], settings=settings, seed=4)
    assert alone.recipe == whole.trials[3].recipe
    soup = sm.bind(net, sm.mix(pots, alone.recipe))
    assert chooser(soup).accuracy("clean") == whole.trials[3].judged().accuracy("clean")
    values = [trial.judged().accuracy("clean") for trial in whole.trials[:2]]
    assert whole.spread("clean")["clean"] == (sum(values) / 2, min(values), max(values))
    told = whole.summary()
    assert [t["name"] for t in told["trials"]] == list(whole.names)
    for n, what in ((1, "steps"), (2, "steps"), (5, "clean"), (2, "clean")):
        with pytest.raises(Stop):
            sweep("cut", stop_at(n, what))
    assert sweep("cut") == whole
    soups = (files_of(tmp_path / out / "soups") for out in ("cut", "whole"))
    assert next(soups) == next(soups)  # the table beside them holds their paths
    with pytest.raises(UsageError, match="objectives"):
        sm.sweep(net, pots, digits, {"clean": goals["clean"]}, out=tmp_path / "cut")


def test_the_command_sweeps_radii_and_shares(
    trained: list[Path], tmp_path: Path, soupmerge: Callable[..., Any]
) -> None:
    common = ["learn", *trained[:2], "--data", "digits", "--limit", 64, "--epochs", 1, "--json"]
    judged = ["--judge-split", "test", "--judge-limit", 20, "--threat", "linf:0.1", "--steps", 2]
    run = tmp_path / "run"
    result = soupmerge(*common, *judged, "--eps", "0,0.1", "--trades", "0,0.5", "-o", run)
    assert result.status == 0, result.err
    told = json.loads(result.out)
    names = ["linf-0-trades-0", "linf-0-trades-0.5", "linf-0.1-trades-0", "linf-0.1-trades-0.5"]
    assert [t["name"] for t in told["trials"]] == names
    assert set(told["baselines"]) == {"linf", "l2"}
    assert (run / "soups" / "linf-0.1-trades-0.5" / "soup.safetensors").exists()
    again = soupmerge(*common, *judged, "--eps", "0,0.1", "--trades", "0,0.5", "-o", run)
    assert json.loads(again.out) == told


WRONG = [
    ("--eps 0.1 --against linf:0.1", "give one of the two"),
    ("", "give one of the two"),
    ("--eps 0.1,0.1", "given twice"),
    ("--eps 0.1,", "not a number"),
    ("--eps 0.1 --trades-kl 6 --mart 6", "give one of the two"),
    ("--eps 0.1 --trades 2", "not in [0, 1]"),
    ("--eps 0.1 --beside nowhere", "would not be judged"),
    ("--eps 0.1 --judge-split test --threat linf:0.1 --beside nowhere", "no best soups"),
    ("--eps 0.1 --patience 2", "waits for nothing"),
    ("--eps 0.1 --ingredients files --store bf16", "stays in its file"),
    ("--eps 0.1 --init only:3", "names none of 2"),
    ("--eps 0,0.1 --recalibrate attacked", "needs one attack"),
    ("--eps 0.1 --stop-split train", "stopping split"),
]


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_learning_that_cannot_be_meant(
    trained: list[Path], tmp_path: Path, soupmerge: Callable[..., Any], options: str, says: str
) -> None:
    words = ["learn", *trained[:2], "--data", "digits", "--limit", 64, "--epochs", 1]
    result = soupmerge(*words, *options.split(), "-o", tmp_path / "run")
    assert result.status == 2
    assert says in result.err
    assert "Traceback" not in result.err
