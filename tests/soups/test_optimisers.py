"""Optimisers of coefficients: torch's own on the definition, and multiplication by exponentials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from soupmerge.choices import FAMILIES, OPTIMISERS, Optimiser, implementation
from soupmerge.soups.learn.optimisers import Coefficients
from soupmerge.weights.families import Family, coefficients

T, G, K, D = 2, 3, 4, 5
PREFERENCES = ((1.0, 0.0), (0.3, 0.7), (0.0, 1.0), (0.5, 0.5), (0.9, 0.1))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers of a normal distribution, in float64."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


STACK, TARGET = drawn(K, G, D, seed=1), drawn(G, D, seed=2)


def loss_of(alpha: Tensor) -> Tensor:
    """Return the squared distance of θ[g] = Σ_k α[g, k] · θ_k[g] from a target."""
    return (torch.einsum("gk,kgd->gd", alpha, STACK) - TARGET).square().sum()


def descend(learned: Coefficients, preferences: Sequence[tuple[float, ...]]) -> Iterator[Tensor]:
    """Take a step at each of *preferences*, with a falling rate; yield the coefficients before."""
    for step, at in enumerate(preferences):
        rows = learned.rows(at)
        alpha = learned.alpha(rows)
        (gradient,) = torch.autograd.grad(loss_of(alpha), alpha, retain_graph=True)
        learned.step(rows, alpha, gradient, 0.1 / (1 + step))
        yield alpha.detach()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "theirs"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_optimisers_are_those_of_torch_on_the_definition(
    family: str, name: str, theirs: type[torch.optim.Optimizer]
) -> None:
    """Autograd from the loss to the parameters, where ours goes through ∂L/∂α."""
    form: Family = implementation(FAMILIES, family, "family")()
    start = form.start(drawn(T, G, K).numpy())
    expected = {n: torch.tensor(p, requires_grad=True) for n, p in start.items()}
    reference = theirs([*expected.values()], lr=1.0)  # type: ignore[call-arg]
    learned = Coefficients(family, drawn(T, G, K), name, "cpu")
    for step, found in enumerate(descend(learned, PREFERENCES)):
        at = PREFERENCES[step]
        alpha = coefficients(form, form.rows(expected, at, torch), torch)
        torch.testing.assert_close(found, alpha.detach(), rtol=1e-9, atol=1e-12)
        reference.zero_grad(set_to_none=False)
        loss_of(alpha).backward()
        reference.param_groups[0]["lr"] = 0.1 / (1 + step)
        reference.step()
        for parameter, ours in learned.parameters.items():
            torch.testing.assert_close(ours, expected[parameter], rtol=1e-9, atol=1e-12)


def test_exponentiated_gradient_multiplies_coefficients_by_exponentials() -> None:
    """α_k ← α_k · exp(−lr · ∂L/∂α_k) / Z (Kivinen & Warmuth 1997), by one objective."""
    learned = Coefficients("softmax-linear", drawn(1, G, K), "eg", "cpu")
    expected = drawn(1, G, K)[0].softmax(1)
    for step, found in enumerate(descend(learned, [(1.0,)] * 6)):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        expected.requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(expected), expected)
        raised = (expected * torch.exp(-0.1 / (1 + step) * gradient)).detach()
        expected = raised / raised.sum(1, keepdim=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_learns_and_is_restored_to_the_bit(family: str, optimiser: str) -> None:
    learns_and_is_restored(family, optimiser)


def learns_and_is_restored(family: str, optimiser: str) -> None:
    middle = [(0.5, 0.5)] * 40
    learned = Coefficients(family, drawn(T, G, K).float(), optimiser, "cpu")
    losses = [float(loss_of(alpha.double())) for alpha in _single(learned, middle)]
    assert losses[-1] < 0.9 * losses[0]
    kept = {name: tensor.clone() for name, tensor in learned.state().items()}
    again = Coefficients(family, torch.zeros(T, G, K), optimiser, "cpu")
    again.load(kept)
    pairs = zip(_single(learned, PREFERENCES), _single(again, PREFERENCES), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert learned.state().keys() == again.state().keys()
    assert all(torch.equal(t, again.state()[name]) for name, t in learned.state().items())


@pytest.fixture
def averaged(monkeypatch: pytest.MonkeyPatch) -> str:
    """An optimiser that is not part of the library: that of `benchmarks/averaging.py`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    entry = Optimiser("averaging:PrimalAveraging", lr=20.0)
    monkeypatch.setitem(OPTIMISERS, "averaged", entry)
    return "averaged"


@pytest.mark.parametrize("family", FAMILIES)
def test_averaged_iterates_are_restored(family: str, averaged: str) -> None:
    learns_and_is_restored(family, averaged)


def test_averaged_iterates_are_the_mean_of_a_descent(averaged: str) -> None:
    """Whose gradients are taken at the mean so far; the start is not part of it."""
    learned = Coefficients("softmax-linear", drawn(1, G, K), averaged, "cpu")
    iterates = [drawn(1, G, K)[0]]
    for step, alpha in enumerate(descend(learned, [(1.0,)] * 5)):
        mean = torch.stack(iterates[1:] or iterates).mean(0).requires_grad_()
        torch.testing.assert_close(alpha, mean.detach().softmax(1), rtol=1e-9, atol=1e-12)
        (gradient,) = torch.autograd.grad(loss_of(mean.softmax(1)), mean)
        iterates.append(iterates[-1] - 0.1 / (1 + step) * gradient)


def test_the_state_of_other_groups_is_refused() -> None:
    kept = Coefficients("softmax-linear", drawn(T, G, K).float(), "adam", "cpu")
    list(_single(kept, PREFERENCES))
    state = kept.state() | {"optimiser.logits.exp_avg": torch.zeros(T, G + 1, K)}
    again = Coefficients("softmax-linear", torch.zeros(T, G, K), "adam", "cpu")
    with pytest.raises(ValueError, match=r"exp_avg of logits has the shape \(2, 4, 4\), not"):
        again.load(state)


def _single(learned: Coefficients, preferences: Sequence[tuple[float, ...]]) -> Iterator[Tensor]:
    """As `descend`, for parameters in float32."""
    for at in preferences:
        rows = learned.rows(at)
        alpha = learned.alpha(rows)
        (gradient,) = torch.autograd.grad(loss_of(alpha.double()), alpha, retain_graph=True)
        learned.step(rows, alpha, gradient, 0.02)
        yield alpha.detach().clone()
