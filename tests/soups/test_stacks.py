"""The K versions of a tensor: the same numbers, wherever they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.soups import stacks
from soupmerge.soups.stacks import flat, shaped, stack_of
from soupmerge.weights.mixing import combine
from tests.shared import files_of


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


@pytest.mark.parametrize("place", ["device", "host"])
@pytest.mark.parametrize("chunk", [stacks.CHUNK, 7])
def test_bfloat16_differences_are_near_and_consistent(
    pots: sm.Ingredients, monkeypatch: pytest.MonkeyPatch, place: str, chunk: int
) -> None:
    """Half an ulp of bfloat16 is 2⁻⁸ of a difference; the base itself is kept as it is."""
    monkeypatch.setattr(stacks, "CHUNK", chunk)
    row = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for name in pots.mixed:
        stack = stack_of(pots, name, torch.float64, place=place, store="bf16", base=1)
        versions = torch.stack([pot[name].double() for pot in pots])
        found = stack.whole()
        assert torch.equal(found[1], versions[1])
        apart = versions - versions[1]
        assert torch.equal(found - versions[1], apart.bfloat16().double())
        assert bool(((found - versions).abs() <= apart.abs() / 256).all())
        grad = torch.arange(versions[0].numel(), dtype=torch.float64).reshape(versions[0].shape)
        torch.testing.assert_close(stack.mix(row), combine(row, found))
        torch.testing.assert_close(stack.dots(grad), (found * grad).flatten(1).sum(1))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_a_tensor_is_flat_and_shaped_again(shape: tuple[int, ...]) -> None:
    """Convolutions channels-last: their numbers come channel by channel of each pixel."""
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert flat(tensor).shape == (tensor.numel(),)
    assert torch.equal(shaped(flat(tensor), shape), tensor)
    last = tensor.permute(0, 2, 3, 1) if len(shape) == 4 else tensor
    assert torch.equal(flat(tensor), last.reshape(-1))


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
