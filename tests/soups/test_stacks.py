"""The K versions of a tensor: the same numbers, wherever they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.soups.learn import stacks
from soupmerge.soups.learn.stacks import flatten, stack_of, unflatten
from soupmerge.weights.mixing import combine
from tests.shared import files_of


@pytest.mark.parametrize("place", ["device", "host", "files"])
def test_a_stack_mixes_and_multiplies_as_its_versions_do(
    ingredients: sm.Ingredients, place: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    row = torch.rand(3, generator=generator).softmax(0).double()
    for name in ingredients.mixed:
        stack = stack_of(ingredients, name, torch.float64, place=place)
        versions = torch.stack([ingredient[name].double() for ingredient in ingredients])
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
    ingredients: sm.Ingredients, monkeypatch: pytest.MonkeyPatch, place: str, chunk: int
) -> None:
    """Half an ulp of bfloat16 is 2⁻⁸ of a difference; the base itself is kept as it is."""
    monkeypatch.setattr(stacks, "CHUNK", chunk)
    row = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for name in ingredients.mixed:
        stack = stack_of(ingredients, name, torch.float64, place=place, store="bf16", base=1)
        versions = torch.stack([ingredient[name].double() for ingredient in ingredients])
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
    assert flatten(tensor).shape == (tensor.numel(),)
    assert torch.equal(unflatten(flatten(tensor), shape), tensor)
    last = tensor.permute(0, 2, 3, 1) if len(shape) == 4 else tensor
    assert torch.equal(flatten(tensor), last.reshape(-1))


def test_where_ingredients_are_kept_changes_no_number(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images, tmp_path: Path
) -> None:
    net, ingredients = kitchen
    for place in ("device", "host", "files", "auto"):
        out = tmp_path / place
        goal = sm.against(sm.Linf(0.1))
        settings = sm.Settings(epochs=2, place=place)
        sm.learn(net, ingredients, digits, goal, settings=settings, run=sm.Run(out))
        assert files_of(out) == files_of(tmp_path / "device")


def test_learning_from_differences_ends_close_by(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images
) -> None:
    net, ingredients = kitchen
    found = []
    for store in ("fp32", "bf16"):
        settings = sm.Settings(epochs=2, store=store, dropout=0.0, lr=1.0)
        trial = sm.learn(net, ingredients, digits, sm.against(None), settings=settings)
        found.append(torch.tensor(trial.recipe.weights))
    torch.testing.assert_close(found[0], found[1], atol=0.01, rtol=0)
    assert not torch.equal(found[0], found[1])


def test_a_plan_counts_bytes(ingredients: sm.Ingredients) -> None:
    """Of K ingredients of N numbers, n in the largest tensor: see docs/learned-soups.md."""
    sizes = [i.numel for i in ingredients.infos.values() if i.dtype.is_floating_point]
    numbers, largest = sum(sizes), max(sizes)
    for place, store, item, expected in (
        ("device", "fp32", 4, 4 * 3 * numbers),
        ("host", "fp32", 8, 8 * 3 * numbers),
        ("host", "bf16", 4, (2 * 3 + 4) * numbers),
        ("device", "bf16", 8, (2 * 3 + 8) * numbers),
        ("files", "fp32", 4, 4 * 3 * largest),
    ):
        plan = stacks.plan(ingredients, place=place, store=store, item=item)
        assert (plan.place, plan.store) == (place, store)
        assert (plan.ingredients, plan.models) == (expected, 3 * item * numbers)


def test_a_plan_takes_the_first_place_with_room(
    ingredients: sm.Ingredients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of what is free is left to activations; what stays in its file stays whole."""
    numbers = sum(i.numel for i in ingredients.infos.values() if i.dtype.is_floating_point)
    free = {"memory": 0, "device": 0}
    monkeypatch.setattr(stacks, "_available", lambda: free["memory"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free["device"], 0))
    for store, size in (("fp32", 24 * numbers), ("bf16", 22 * numbers)):
        little, much = 3 * size // 2, 3 * size // 2 + 2
        for memory, device, on_cpu, on_gpu in (
            (much, much, "device", "device"),
            (much, little, "device", "host"),
            (little, much, "files", "device"),
            (little, little, "files", "files"),
        ):
            free |= {"memory": memory, "device": device}
            for name, place in (("cpu", on_cpu), ("cuda", on_gpu)):
                plan = stacks.plan(ingredients, store=store, device=name)
                assert plan.place == place
                assert plan.store == (store if place != "files" else "fp32")


@pytest.mark.parametrize(
    ("place", "store", "says"),
    [
        ("device", "fp32", "ingredients on the device, whole: 5 MiB (2 MiB and three models of 1"),
        ("host", "bf16", "ingredients in memory, bfloat16 differences: 5 MiB (2 MiB and three"),
        ("files", "fp32", "ingredients left in their files, whole: 5 MiB (2 MiB and three"),
    ],
)
def test_a_plan_is_told_in_words(place: str, store: str, says: str) -> None:
    description = stacks.Plan(place, store, 2 << 20, 3 << 20).describe()
    assert description.startswith(says)
    assert description.endswith("and activations")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"place": "disc"}, "^ingredients: unknown place 'disc'"),
        ({"place": "outo"}, "^ingredients: unknown place 'outo'; did you mean 'auto'"),
        ({"store": "fp8"}, "^store: unknown form 'fp8'"),
        ({"place": "files", "store": "bf16"}, "^store bf16: .*stay in their files"),
    ],
)
def test_plans_that_cannot_be_meant_are_refused(
    ingredients: sm.Ingredients, settings: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        stacks.plan(ingredients, **settings)  # type: ignore[arg-type]
