"""The fast gradient of learned soups: equal to the definition, for every grouping, and cheap."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.soups.learned import LearnedSoup
from soupmerge.soups.starts import start
from tests.test_soups import in_float64


@pytest.mark.parametrize("by", ["model", "block", "module", "tensor", "glob=*.bias,head.*"])
@pytest.mark.parametrize("policy", ["average", "base"])
@pytest.mark.parametrize("dropped", [False, True])
def test_inner_products_are_the_gradient_of_the_definition(
    pots: sm.Ingredients, net: nn.Module, tmp_path: Path, by: str, policy: str, dropped: bool
) -> None:
    wide = in_float64(pots, tmp_path / "wide")
    soup = LearnedSoup(sm.bind(net, pots[0]).double(), wide, by=by, buffers=policy)
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
    into_alpha = soup.gradient(dict(zip(leaves, found, strict=True)))
    (gradient,) = torch.autograd.grad(alpha, logits, into_alpha)
    torch.testing.assert_close(fast, plain, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-14)
    assert bool((gradient[~live] == 0).all())
    assert float(gradient.abs().max()) > 1e-6
