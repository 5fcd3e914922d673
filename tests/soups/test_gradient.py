"""The gradient of a learned soup in its coefficients: the definition, slopes, and the fast way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.func import functional_call

import soupmerge as sm
from soupmerge.binding import hollow
from soupmerge.soups.learn.batch_norms import ThroughStatistics, norms_of
from soupmerge.soups.learn.soup import LearnedSoup
from soupmerge.soups.learn.starts import start
from tests.shared import in_float64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_soup(
    net: nn.Module, ingredients: sm.Ingredients, alpha: Tensor, by: str, policy: str
) -> dict[str, Tensor]:
    """Return θ(W) as the definition has it: a sum over ingredients, one name after the other."""
    recipe = sm.Recipe.of(ingredients, alpha.detach().tolist(), by=by, buffers=policy)
    rows = recipe.rows_by_tensor(ingredients)
    groups = {name: g for g, name in enumerate(recipe.groups)}
    theta = {}
    for name in ingredients.infos:
        if name in ingredients.mixed:
            group = {"model": "model", "tensor": name, "module": name.rpartition(".")[0]}[by]
            theta[name] = sum(
                alpha[groups[group], k] * ingredients[k][name].double()
                for k in range(len(ingredients))
            )
        elif ingredients.infos[name].dtype.is_floating_point:
            theta[name] = sum(w * ingredients[k][name].double() for k, w in enumerate(rows[name]))
        else:
            theta[name] = ingredients[0][name]
    return theta


@pytest.mark.parametrize("by", ["model", "module", "tensor"])
@pytest.mark.parametrize("policy", ["average", "base"])
def test_coefficient_gradients_are_slopes_of_the_loss(
    ingredients: sm.Ingredients, net: nn.Module, tmp_path: Path, by: str, policy: str
) -> None:
    """Statistics move with the coefficients if they are averaged, and that is in the gradient."""
    wide = in_float64(ingredients, tmp_path / "wide")
    own = sm.bind(net, ingredients[0]).double()
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
    ingredients: sm.Ingredients, net: nn.Module, tmp_path: Path
) -> None:
    """∂L/∂W[g, k] = ⟨∂L/∂θ[g], θ_k[g]⟩."""
    wide = in_float64(ingredients, tmp_path / "wide")
    own = sm.bind(net, ingredients[0]).double()
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
    ingredients: sm.Ingredients, net: nn.Module
) -> None:
    soup = LearnedSoup(sm.bind(net, ingredients[0]), ingredients, by="tensor")
    logits = start("xavier", ingredients, soup.groups, seeded(0)).requires_grad_()
    live = torch.arange(len(logits)) % 3 == 0
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    alpha = logits.softmax(1)
    out = soup.classifier(soup.weights(alpha, live))(x)
    torch.testing.assert_close(out, soup.classifier(soup.weights(alpha))(x), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(out.square().sum(), logits, retain_graph=True)
    assert bool((gradient[~live] == 0).all())
    assert bool((gradient[live] != 0).any(1).all())


def test_a_learned_soup_is_the_mix_of_its_recipe(
    ingredients: sm.Ingredients, net: nn.Module
) -> None:
    for by in ("model", "module", "tensor"):
        for policy in ("average", "base"):
            soup = LearnedSoup(
                sm.bind(net, ingredients[0]), ingredients, by=by, buffers=policy, base=1
            )
            logits = start("xavier", ingredients, soup.groups, seeded(0))
            recipe = replace(soup.recipe(), weights=logits.double().softmax(1).tolist())
            mixed = sm.mix(ingredients, recipe)
            for learned in (soup.weights(logits.softmax(1)), soup.mix(logits.softmax(1))):
                for name in mixed:
                    torch.testing.assert_close(learned[name], mixed[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", ["model", "block", "module", "tensor", "glob=*.bias,head.weight"])
@pytest.mark.parametrize("policy", ["average", "base"])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("store", ["fp32", "bf16"])
def test_inner_products_are_the_gradient_of_the_definition(
    ingredients: sm.Ingredients,
    net: nn.Module,
    tmp_path: Path,
    by: str,
    policy: str,
    dropped: bool,
    store: str,
) -> None:
    wide = in_float64(ingredients, tmp_path / "wide")
    soup = LearnedSoup(
        sm.bind(net, ingredients[0]).double(), wide, by=by, buffers=policy, store=store
    )
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
    mixed = soup.mix(alpha)
    leaves = soup.leaves(live, mixed)
    fast = loss_of(soup.substitute(leaves, mixed))
    found = torch.autograd.grad(fast, list(leaves.values()))
    into_alpha = soup.gradient(dict(zip(leaves, found, strict=True)), live, mixed)
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


def test_statistics_that_are_not_used_are_constants(
    ingredients: sm.Ingredients, net: nn.Module
) -> None:
    """With those of the batch, and with those of one ingredient, nothing depends on them."""
    used = LearnedSoup(net, ingredients)
    assert len(used.norms) > 0
    assert not LearnedSoup(net, ingredients, statistics=False).norms
    assert not LearnedSoup(net, ingredients, buffers="base").norms


@pytest.mark.parametrize("exclude", ["*.bias", "*.weight"])
def test_norms_whose_scale_or_shift_is_copied_keep_constant_statistics(
    trained: list[Path], digits: sm.Images, exclude: str
) -> None:
    ingredients = sm.load(*trained, exclude=[exclude])
    few = digits.take(torch.arange(16), "few")
    settings = sm.Settings(epochs=1, batch_size=8)
    trial = sm.learn(
        sm.model(like=ingredients), ingredients, few, sm.against(sm.Linf(0.1)), settings=settings
    )
    assert trial.recipe.origin == "learn"


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
    ingredients = sm.load(tmp_path / "0.pt", tmp_path / "1.pt")
    soup = LearnedSoup(net, ingredients)
    assert len(soup.groups) == 3
    alpha = start("xavier", ingredients, soup.groups, torch.Generator().manual_seed(0)).softmax(1)
    alpha = alpha.detach().double().requires_grad_()
    x = torch.rand(5, 4, dtype=torch.float64)
    (expected,) = torch.autograd.grad(soup.classifier(soup.weights(alpha))(x).sum(), alpha)
    mixed = soup.mix(alpha)
    live = torch.ones(3, dtype=torch.bool)
    leaves = soup.leaves(live, mixed)
    out = soup.classifier(soup.substitute(leaves, mixed))(x).sum()
    found = torch.autograd.grad(out, list(leaves.values()), materialize_grads=True)
    gradient = soup.gradient(dict(zip(leaves, found, strict=True)), live, mixed)
    torch.testing.assert_close(gradient, expected)


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


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_batch_norm_through_statistics_is_torch_s(training: bool, affine: bool) -> None:
    """With torch's defaults, in every mode; in training, running statistics move alike."""
    draw = torch.Generator().manual_seed(0)
    x, scale, shift, mean = (
        torch.randn(shape, generator=draw) for shape in ((6, 3, 2, 2), 3, 3, 3)
    )
    pairs = [(mean.clone(), torch.ones(3)) for _ in range(2)]
    options: dict[str, Any] = {"training": training}
    options |= {"weight": scale, "bias": shift} if affine else {}
    expected = nn.functional.batch_norm(x, *pairs[0], **options)
    with ThroughStatistics():
        found = nn.functional.batch_norm(x, *pairs[1], **options)
        without = nn.functional.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(pairs[1], pairs[0])
    torch.testing.assert_close(without.mean((0, 2, 3)), torch.zeros(3))
