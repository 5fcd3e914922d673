"""Choosing coefficients: the lattice, the learned soup and its gradient, trials, the choice."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.binding import cast
from soupmerge.errors import InputError, UsageError
from soupmerge.soups.comparing import Entry, compare
from soupmerge.soups.grid import lattice, lattice_size, parts_of
from soupmerge.soups.learned import LearnedSoup, draw_live
from soupmerge.soups.settings import Settings
from soupmerge.soups.starts import start
from soupmerge.storage import run
from soupmerge.storage.journal import Journal
from soupmerge.training.augment import crop_flip
from soupmerge.types import quiet
from tests.shared import Stop, files_of, in_float64, stop_at, trial

# ---- the lattice


@given(k=st.integers(1, 5), parts=st.integers(1, 6))
def test_the_lattice_is_all_of_it_once(k: int, parts: int) -> None:
    soups = list(lattice(k, parts))
    assert len(soups) == len(set(soups)) == lattice_size(k, parts)
    assert all(sum(round(w * parts) for w in soup) == parts and min(soup) >= 0 for soup in soups)
    for i in range(k):
        assert tuple(float(j == i) for j in range(k)) in soups


def test_the_papers_sizes() -> None:
    assert [lattice_size(k, parts_of(0.2)) for k in (2, 3, 4, 5)] == [6, 21, 56, 126]


@pytest.mark.parametrize("step", ["0.3", "0", "-0.2", "2", "x", "", 0.15, "1/0"])
def test_steps_that_do_not_divide_one(step: Any) -> None:
    with pytest.raises(UsageError, match="step"):
        parts_of(step)


# ---- the grid


def test_the_grid_holds_every_ingredient_and_its_best_is_no_worse(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark
) -> None:
    net, pots = kitchen
    trials = sm.grid(net, pots, chooser, step=0.5)
    assert len(trials) == 6
    for k in range(3):
        alone = chooser(sm.bind(net, pots[k]))
        one_hot = tuple(float(i == k) for i in range(3))
        pure = next(t for t in trials if t.recipe.weights[0] == one_hot)
        assert pure.judged().to_metrics() == alone.to_metrics()
        for metric in trials.metrics:
            assert trials.best(metric).judged().correct(metric) >= alone.correct(metric)


def test_a_grid_needs_two_ingredients_and_a_bound(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark
) -> None:
    net, pots = kitchen
    with pytest.raises(UsageError, match="two or more"):
        sm.grid(net, sm.Ingredients((pots[0],)), chooser)
    with pytest.raises(UsageError, match="too many to judge"):
        sm.grid(net, pots, chooser, step="0.001")


def test_a_killed_grid_resumes_to_the_same_files(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    net, pots = kitchen
    sm.grid(net, pots, chooser, step=0.5, out=tmp_path / "whole")
    for n in (2, 4):
        with pytest.raises(Stop):
            sm.grid(
                net, pots, chooser, step=0.5, out=tmp_path / "cut", progress=stop_at(n, "soups")
            )
    trials = sm.grid(net, pots, chooser, step=0.5, out=tmp_path / "cut")
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    again = sm.grid(
        net, pots, chooser, step=0.5, out=tmp_path / "cut", progress=stop_at(1, "clean")
    )
    assert again.summary() == trials.summary()
    soup = sm.load(tmp_path / "whole" / "soup.safetensors")[0]
    best = sm.mix(pots, trials.best("union").recipe)
    assert all(torch.equal(soup[n], best[n]) for n in best)


def test_a_killed_comparison_resumes_to_the_same_files(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    net, pots = kitchen
    entries = [Entry(pot, net) for pot in pots]
    whole = compare(entries, chooser, out=tmp_path / "whole")
    with pytest.raises(Stop):
        compare(entries, chooser, out=tmp_path / "cut", progress=stop_at(3, "networks"))
    assert compare(entries, chooser, out=tmp_path / "cut") == whole
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_a_run_folder_refuses_other_settings_and_says_which(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    net, pots = kitchen
    sm.grid(net, pots, chooser, step=1, out=tmp_path / "run")
    with pytest.raises(UsageError, match="settings.step was '1', now '1/2'"):
        sm.grid(net, pots, chooser, step=0.5, out=tmp_path / "run")
    with pytest.raises(UsageError, match="benchmark.seed was 0, now 1"):
        sm.grid(net, pots, replace(chooser, seed=1), step=1, out=tmp_path / "run")
    sm.grid(net, pots, chooser, step=0.5, out=tmp_path / "run", force=True)


def test_a_run_folder_that_holds_an_input_is_refused(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    net, pots = kitchen
    sm.grid(net, pots, chooser, step=1, out=tmp_path / "run")
    soup = tmp_path / "run" / "soup.safetensors"
    kept = soup.read_bytes()
    again = sm.load(soup, pots[1].ref)
    few = sm.data("digits", split="train", limit=20)
    with pytest.raises(UsageError, match="holds an input"):
        sm.grid(net, again, chooser, step=1, out=tmp_path / "run", force=True)
    with pytest.raises(UsageError, match="holds an input"):
        sm.learn(net, again, few, sm.against(None), out=tmp_path / "run", force=True)
    with pytest.raises(UsageError, match="holds an input"):
        compare([Entry(again[0], net)], chooser, out=tmp_path / "run", force=True)
    assert soup.read_bytes() == kept


def test_a_folder_with_a_stranger_s_manifest_is_left_alone(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    net, pots = kitchen
    web = tmp_path / "web"
    (web / "best").mkdir(parents=True)
    for name in ("manifest.json", "recipe.json", "best/shot.json"):
        (web / name).write_text('{"name": "my app"}')
    before = files_of(web)
    with pytest.raises(InputError, match="not the manifest of a run"):
        sm.grid(net, pots, chooser, step=1, out=web, force=True)
    assert files_of(web) == before


@pytest.mark.parametrize("harm", ["swap", "double"])
def test_a_journal_of_other_soups_is_not_believed(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path, harm: str
) -> None:
    net, pots = kitchen
    sm.grid(net, pots, chooser, step=1, out=tmp_path / "run")
    path = tmp_path / "run" / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[::-1] if harm == "swap" else lines * 2))
    with pytest.raises(InputError, match=r"another soup|6 records of 3 soups"):
        sm.grid(net, pots, chooser, step=1, out=tmp_path / "run")


def test_a_finished_run_whose_soup_was_removed_writes_it_again(
    kitchen: tuple[nn.Module, sm.Ingredients], tmp_path: Path
) -> None:
    net, pots = kitchen
    few = sm.data("digits", split="train", limit=40)
    sm.learn(net, pots, few, sm.against(None), epochs=1, out=tmp_path / "run")
    before = files_of(tmp_path / "run")
    (tmp_path / "run" / "soup.safetensors").unlink()
    sm.learn(net, pots, few, sm.against(None), epochs=1, out=tmp_path / "run")
    assert files_of(tmp_path / "run") == before


def test_a_run_goes_on_when_its_ingredients_have_moved(
    trained: list[Path], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    pots = sm.load(*trained)
    net = sm.model(like=pots)
    with pytest.raises(Stop):
        sm.grid(net, pots, chooser, step=1, out=tmp_path / "run", progress=stop_at(2, "soups"))
    moved = [shutil.copy(path, tmp_path) for path in trained]
    assert len(sm.grid(net, sm.load(*moved), chooser, step=1, out=tmp_path / "run")) == 3


# ---- trials


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    trials = sm.Trials(tuple(trial(*p) for p in points))
    front = trials.front("clean", "linf:0.1")
    for i, p in enumerate(points):
        beaten = any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)
        assert (i in front) == (not beaten)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_choosing_under_a_condition() -> None:
    trials = sm.Trials((trial(9, 2), trial(8, 5), trial(6, 6)))
    assert trials.best("linf:0.1") is trials[2]
    assert trials.where(clean=">=0.8").best("linf:0.1") is trials[1]
    with pytest.raises(InputError, match="no trial to choose from"):
        trials.where(clean=">0.9").best("clean")
    with pytest.raises(UsageError, match="not a condition"):
        trials.where(clean="high")
    with pytest.raises(InputError, match="no metric 'l2:1'"):
        trials.best("l2:1")


# ---- the learned soup


def plain_soup(
    net: nn.Module, pots: sm.Ingredients, alpha: Tensor, by: str, policy: str
) -> dict[str, Tensor]:
    """Return θ(W) as the definition has it: a sum over ingredients, one name after the other."""
    recipe = sm.Recipe.of(pots, alpha.detach().tolist(), by=by, buffers=policy)
    rows = recipe.rows_by_tensor(pots)
    groups = {name: g for g, name in enumerate(recipe.groups)}
    theta = {}
    for name in pots.infos:
        if name in pots.mixed:
            group = {"model": "model", "tensor": name, "module": name.rpartition(".")[0]}[by]
            theta[name] = sum(
                alpha[groups[group], k] * pots[k][name].double() for k in range(len(pots))
            )
        elif pots.infos[name].dtype.is_floating_point:
            theta[name] = sum(w * pots[k][name].double() for k, w in enumerate(rows[name]))
        else:
            theta[name] = pots[0][name]
    return theta


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("by", ["model", "module", "tensor"])
@pytest.mark.parametrize("policy", ["average", "base"])
def test_coefficient_gradients_are_slopes_of_the_loss(
    pots: sm.Ingredients, net: nn.Module, tmp_path: Path, by: str, policy: str
) -> None:
    """Statistics move with the coefficients if they are averaged, and that is in the gradient."""
    wide = in_float64(pots, tmp_path / "wide")
    own = sm.bind(net, pots[0]).double()
    soup = LearnedSoup(own, wide, by=by, buffers=policy)
    generator = torch.Generator().manual_seed(0)
    logits = start("xavier", wide, soup.groups, generator).double().requires_grad_()
    x = torch.rand(16, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(10, (16,), generator=generator)

    ours = nn.functional.cross_entropy(soup.classifier(soup.weights(logits.softmax(1)))(x), y)
    (gradient,) = torch.autograd.grad(ours, logits)

    def loss_at(place: Tensor) -> Tensor:
        theta = plain_soup(own, wide, place.softmax(1), by, policy)
        return nn.functional.cross_entropy(torch.func.functional_call(own, theta, (x,)), y)

    torch.testing.assert_close(ours, loss_at(logits), rtol=1e-12, atol=0)
    for _ in range(4):
        way = 1e-6 * torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            rise = float(loss_at(logits + way) - loss_at(logits - way)) / 2
        assert rise == pytest.approx(float((gradient * way).sum()), rel=1e-5, abs=1e-14)
    assert float(gradient.abs().max()) > 1e-6


def test_the_gradient_is_an_inner_product_with_the_ingredients(
    pots: sm.Ingredients, net: nn.Module, tmp_path: Path
) -> None:
    """∂L/∂W[g, k] = ⟨∂L/∂θ[g], θ_k[g]⟩."""
    wide = in_float64(pots, tmp_path / "wide")
    own = sm.bind(net, pots[0]).double()
    soup = LearnedSoup(own, wide, by="tensor", buffers="base")
    alpha = torch.full((len(soup.groups), 3), 1 / 3, dtype=torch.float64, requires_grad=True)
    x = torch.rand(8, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(8)
    (gradient,) = torch.autograd.grad(
        nn.functional.cross_entropy(soup.classifier(soup.weights(alpha))(x), y), alpha
    )
    theta = {n: t.detach().requires_grad_(n in wide.mixed) for n, t in soup.weights(alpha).items()}
    loss = nn.functional.cross_entropy(soup.classifier(theta)(x), y)
    leaves = dict(
        zip(wide.mixed, torch.autograd.grad(loss, [theta[n] for n in wide.mixed]), strict=True)
    )
    for g, name in enumerate(soup.groups):
        inner = [float((leaves[name] * wide[k][name]).sum()) for k in range(3)]
        assert gradient[g].tolist() == pytest.approx(inner, rel=1e-9, abs=1e-14)


def test_detached_groups_take_no_gradient_and_change_no_output(
    pots: sm.Ingredients, net: nn.Module
) -> None:
    soup = LearnedSoup(sm.bind(net, pots[0]), pots, by="tensor")
    logits = start("xavier", pots, soup.groups, seeded(0)).requires_grad_()
    live = torch.arange(len(logits)) % 3 == 0
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    alpha = logits.softmax(1)
    out = soup.classifier(soup.weights(alpha, live))(x)
    torch.testing.assert_close(out, soup.classifier(soup.weights(alpha))(x), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(out.square().sum(), logits, retain_graph=True)
    assert bool((gradient[~live] == 0).all())
    assert bool((gradient[live] != 0).any(1).all())


def test_a_learned_soup_is_the_mix_of_its_recipe(pots: sm.Ingredients, net: nn.Module) -> None:
    for by in ("model", "module", "tensor"):
        for policy in ("average", "base"):
            soup = LearnedSoup(sm.bind(net, pots[0]), pots, by=by, buffers=policy, base=1)
            logits = start("xavier", pots, soup.groups, seeded(0))
            mixed = sm.mix(pots, soup.recipe(logits))
            for learned in (soup.weights(logits.softmax(1)), soup.held(logits.softmax(1))):
                for name in mixed:
                    torch.testing.assert_close(learned[name], mixed[name], rtol=1e-5, atol=1e-6)


def test_xavier_has_the_same_scale_for_any_number_of_groups(
    pots: sm.Ingredients,
) -> None:
    for by in ("model", "tensor"):
        starts = torch.cat([start("xavier", pots, pots.groups(by), seeded(s)) for s in range(200)])
        bound = math.sqrt(6 / (1 + 3))
        assert 0.95 * bound < float(starts.abs().max()) <= bound


@given(
    groups=st.integers(1, 40),
    dropout=st.sampled_from([0.0, 0.5, 0.8, 0.99, 1.0]),
    seed=st.integers(0, 999),
)
def test_detach_dropout_leaves_at_least_one_group_alive(
    groups: int, dropout: float, seed: int
) -> None:
    live = draw_live(groups, dropout, torch.Generator().manual_seed(seed))
    assert live.shape == (groups,)
    assert bool(live.any())
    if dropout == 0:
        assert bool(live.all())


def test_detach_dropout_detaches_with_its_probability() -> None:
    draws = [
        draw_live(50, 0.8, torch.Generator().manual_seed(s)).float().mean() for s in range(200)
    ]
    assert float(torch.stack(draws).mean()) == pytest.approx(0.2, abs=0.02)


def test_learning_prefers_a_good_ingredient_to_noise(
    trained: list[Path], digits: sm.Images, tmp_path: Path
) -> None:
    good = sm.load(trained[0])[0]
    noise = {
        n: torch.randn(t.shape, generator=torch.Generator().manual_seed(0)) * t.std() + t.mean()
        if n.endswith(("weight", "bias")) and t.numel() > 1
        else t
        for n, t in good.items()
    }
    sm.save(tmp_path / "noise.safetensors", noise, model=good.model)
    pots = sm.load(trained[0], tmp_path / "noise.safetensors")
    learned = sm.learn(
        sm.model(like=pots),
        pots,
        digits,
        sm.against(sm.Linf(0.05)),
        settings=Settings(by="model", epochs=5, dropout=0.0, init="uniform"),
    )
    assert learned.recipe.weights[0][0] > 0.95


OBJECTIVES = {
    "clean": sm.against(None),
    "linf": sm.against(sm.Linf(0.1)),
    "l1": sm.against(sm.L1(2.0)),
    "trades": sm.against(sm.L2(0.5), alpha=0.5),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_learning_lowers_its_loss_and_harms_nothing(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images, tmp_path: Path, objective: Any
) -> None:
    net, pots = kitchen
    before = {n: t.clone() for n, t in net.state_dict().items()}
    random = torch.get_rng_state()
    settings = Settings(epochs=4, dropout=0.0)
    sm.learn(net, pots, digits, objective, settings=settings, out=tmp_path / "run")
    losses = [r["loss"] for r in Journal(tmp_path / "run" / "history.jsonl").records]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


def test_a_killed_learning_resumes_to_the_same_files(
    kitchen: tuple[nn.Module, sm.Ingredients],
    digits: sm.Images,
    chooser: sm.Benchmark,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from soupmerge.storage.snapshot import Snapshot

    monkeypatch.setattr(Snapshot, "due", lambda self: True)
    net, pots = kitchen

    def learn(out: str, progress: Any = quiet) -> Any:
        objective = sm.against(sm.Linf(0.1))
        return sm.learn(
            net,
            pots,
            digits,
            objective,
            epochs=3,
            benchmark=chooser,
            augment=crop_flip,
            out=tmp_path / out,
            progress=progress,
        )

    whole = learn("whole")
    for n in (1, 2, 3):
        with pytest.raises(Stop):
            learn("cut", stop_at(n, "steps"))
    with pytest.raises(Stop):
        learn("cut", stop_at(1, "clean"))
    assert learn("cut") == whole == learn("cut", stop_at(1, "steps"))  # finished: no step is taken
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert "state.safetensors" not in files_of(tmp_path / "cut")


def test_a_manifest_says_what_the_paper_leaves_open(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images, tmp_path: Path
) -> None:
    net, pots = kitchen
    sm.learn(net, pots, digits, sm.against(None), epochs=1, out=tmp_path / "run")
    decisions = run.read_manifest(tmp_path / "run")["decisions"]
    documented = (Path(__file__).parents[2] / "docs" / "learned-soups.md").read_text()
    for decision in decisions:
        assert f"**{decision}**" in documented


def test_bf16_computes_nearly_the_same(kitchen: tuple[nn.Module, sm.Ingredients]) -> None:
    net, pots = kitchen
    bound = sm.bind(net, pots[0])
    x = sm.data("digits", limit=64).batch(torch.arange(64))[0]
    full, half = (cast(bound, p, torch.device("cpu"))(x) for p in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.3)


def test_settings_that_cannot_be_meant(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images
) -> None:
    net, pots = kitchen
    for settings in (
        {"by": "blocks"},
        {"dropout": 1.5},
        {"epochs": 0},
        {"init": "zero"},
        {"precision": "fp8"},
    ):
        with pytest.raises(UsageError):
            sm.learn(net, pots, digits, sm.against(None), settings=Settings(**settings))
    with pytest.raises(UsageError, match="two or more"):
        sm.learn(net, sm.Ingredients((pots[0],)), digits, sm.against(None))
