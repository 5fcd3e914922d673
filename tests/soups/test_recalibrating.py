"""Batch-norm statistics estimated anew: as torch's `update_bn` has them, on the images given."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.schedule import order, stream
from soupmerge.types import Examples
from soupmerge.weights.buffers import is_statistic


@pytest.fixture(scope="module")
def train() -> sm.Images:
    return sm.data("digits", split="train", limit=97)


def uniform(ingredients: sm.Ingredients) -> dict[str, Tensor]:
    return sm.mix(ingredients, sm.Recipe.uniform(ingredients))


def updated(net: nn.Module, state: Any, batches: list[Tensor]) -> dict[str, Tensor]:
    """Return what torch makes of the statistics of *state* on *batches*."""
    reference = sm.bind(net, state)
    torch.optim.swa_utils.update_bn(batches, reference)
    return {name: t for name, t in reference.state_dict().items() if is_statistic(name)}


@pytest.mark.parametrize(("batch_size", "seed"), [(32, 3), (48, 0), (97, 0)])
def test_recalibrated_statistics_are_those_of_update_bn(
    net: nn.Module, ingredients: sm.Ingredients, train: sm.Images, batch_size: int, seed: int
) -> None:
    """In the seed's order; a last batch of one image, which has no variance, is left out."""
    soup = uniform(ingredients)
    before = copy.deepcopy(net.state_dict())
    anew = sm.recalibrate(net, soup, sm.Calibration(train, batch_size=batch_size, seed=seed))
    parts = [part for part in order(97, seed, 0).split(batch_size) if len(part) > 1]
    expected = updated(net, soup, [train.batch(part)[0] for part in parts])
    assert list(anew) == list(soup)
    for name, tensor in anew.items():
        if is_statistic(name):
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
            assert not torch.allclose(tensor, soup[name])
        else:
            assert torch.equal(tensor, soup[name])
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(torch.equal(t, soup[n]) for n, t in uniform(ingredients).items())


class Spy:
    """An attack that turns images to their negatives, and notes what it was given."""

    threat = sm.Linf(1.0)

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, list[int]]] = []
        self.logits: list[Tensor] = []

    def describe(self) -> dict[str, Any]:
        return {"attack": "negative", "steps": 1}

    def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        self.seen.append((y, [g.initial_seed() for g in generator]))
        self.logits.append(classifier(x))
        assert not classifier.training
        return 1 - x


def test_attacked_statistics_are_of_images_crafted_against_the_averaged_soup(
    net: nn.Module, ingredients: sm.Ingredients, train: sm.Images
) -> None:
    soup, attack = uniform(ingredients), Spy()
    anew = sm.recalibrate(net, soup, sm.Calibration(train, attack, batch_size=40, seed=2))
    parts = order(97, 2, 0).split(40)
    expected = updated(net, soup, [1 - train.batch(part)[0] for part in parts])
    for name, tensor in expected.items():
        torch.testing.assert_close(anew[name], tensor, rtol=1e-5, atol=1e-6)
    still = sm.bind(net, soup)
    assert len(attack.seen) == 3
    for part, (y, seeds), logits in zip(parts, attack.seen, attack.logits, strict=True):
        x, labels = train.batch(part)
        assert torch.equal(y, labels)
        ids = [train.ids[i] for i in part.tolist()]
        assert seeds == [stream("recalibrate", 2, id).initial_seed() for id in ids]
        torch.testing.assert_close(logits, still(x), rtol=1e-4, atol=1e-4)


def test_a_calibration_tells_all_that_changes_the_statistics(train: sm.Images) -> None:
    plain = sm.Calibration(train).describe()
    assert plain == {
        "data": train.fingerprint(),
        "attack": None,
        "batch_size": 128,
        "seed": 0,
    }
    attacked = sm.Calibration(train, Spy(), batch_size=2, seed=5).describe()
    assert attacked["attack"] == {"threat": "linf:1", "attack": "negative", "steps": 1}
    assert (attacked["batch_size"], attacked["seed"]) == (2, 5)


def test_statistics_keep_their_dtype_and_names(
    net: nn.Module, ingredients: sm.Ingredients, train: sm.Images
) -> None:
    """A network may be in a wrapper, whose prefix the state lacks; and tensors be of float16."""
    soup = uniform(ingredients)
    calibration = sm.Calibration(train, batch_size=48)
    anew = sm.recalibrate(net, soup, calibration)
    wrapped = nn.DataParallel(net)
    half = {n: t.half() if t.is_floating_point() else t for n, t in soup.items()}
    found = sm.recalibrate(wrapped, half, calibration)
    assert list(found) == list(half)
    for name, tensor in found.items():
        assert tensor.dtype == half[name].dtype
        torch.testing.assert_close(tensor, anew[name].to(tensor.dtype), rtol=2e-2, atol=2e-3)


def test_one_norm_by_itself_is_recalibrated() -> None:
    """Its names have no prefix at all, and its variance is the unbiased one."""
    norm = nn.BatchNorm1d(1)
    x = torch.tensor([0.0, 2.0, 4.0, 6.0])

    class Flat(Examples):
        ref, ids, classes = "flat", ("a", "b", "c", "d"), 1
        labels = torch.zeros(4, dtype=torch.long)

        def __len__(self) -> int:
            return 4

        def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
            return x[indices, None], self.labels[indices]

        def fingerprint(self) -> dict[str, Any]:
            return {}

    found = sm.recalibrate(norm, norm.state_dict(), sm.Calibration(Flat()))
    assert found["running_mean"].tolist() == [3.0]
    assert found["running_var"].tolist() == pytest.approx([20 / 3])


def test_one_thread_computes_and_the_others_come_back(
    net: nn.Module, ingredients: sm.Ingredients, train: sm.Images
) -> None:
    """Sums of convolutions differ with the number of threads; the bytes of a soup may not."""
    seen: list[int] = []

    class Counting(Spy):
        def __call__(self, *args: Any, **settings: Any) -> Tensor:
            seen.append(torch.get_num_threads())
            return super().__call__(*args, **settings)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sm.recalibrate(net, uniform(ingredients), sm.Calibration(train, Counting(), batch_size=40))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 1]


def test_progress_counts_batches(
    net: nn.Module, ingredients: sm.Ingredients, train: sm.Images
) -> None:
    calls: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        calls.append((what, done, total))

    sm.recalibrate(
        net, uniform(ingredients), sm.Calibration(train, batch_size=32), progress=progress
    )
    assert calls == [("recalibrate", done, 3) for done in (1, 2, 3)]


@pytest.mark.parametrize(("n", "batch_size"), [(1, 128), (97, 1)])
def test_a_single_image_has_no_variance(train: sm.Images, n: int, batch_size: int) -> None:
    with pytest.raises(UsageError, match="^recalibrate: .*at least two images"):
        sm.Calibration(train.take(torch.arange(n), "few"), batch_size=batch_size)
    sm.Calibration(train.take(torch.arange(2), "two"), batch_size=2)


@pytest.mark.parametrize(
    "net", [nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2)]
)
def test_a_network_without_statistics_is_refused(net: nn.Module, train: sm.Images) -> None:
    with pytest.raises(InputError, match="no batch-norm statistics; choose another buffer policy"):
        sm.recalibrate(net, net.state_dict(), sm.Calibration(train))
