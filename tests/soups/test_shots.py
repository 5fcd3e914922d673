"""Which images choose and which judge, the subsets that they make, and the names of sets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.soups.judge.subset import Subset
from soupmerge.soups.search.shots import draw, short_names
from tests.soups.planted import images


def test_no_image_both_chooses_and_judges_in_any_set() -> None:
    """Corruptions of the same images have the same ids, and so the same images choose."""
    sets = [images(100), images(100)]
    sets[1].pixels[:, 0, 0, 2] = 1
    drawn = [draw(data, 30, 0) for data in sets]
    chose, judged = ({id for both in drawn for id in both[i].ids} for i in (0, 1))
    assert len(chose) == 30
    assert not chose & judged
    assert chose | judged == set(sets[0].ids)
    prints = [part.fingerprint()["sha256"] for both in drawn for part in both]
    assert len(set(prints)) == len(prints)


def test_a_draw_depends_on_the_seed_and_on_each_id_alone() -> None:
    data = images(50)
    chose = set(draw(data, 20, 0)[0].ids)
    turned = replace(data, ids=data.ids[::-1])
    assert set(draw(turned, 20, 0)[0].ids) == chose
    assert set(draw(data, 10, 0)[0].ids) < chose < set(draw(data, 21, 0)[0].ids)
    assert set(draw(data, 20, 1)[0].ids) != chose


def test_parts_hold_the_examples_of_their_ids_in_the_order_of_the_set() -> None:
    data = images(50)
    for part, role, n in zip(draw(data, 20, 0), ("choose", "judge"), (20, 30), strict=True):
        places = [int(id) for id in part.ids]  # an image's id is its number
        assert places == sorted(places)
        assert (len(part), part.role, part.ref, part.classes) == (n, role, data.ref, 10)
        assert part.labels.tolist() == [place % 10 for place in places]
        x, y = part.batch(torch.arange(n))
        assert torch.equal(x, data.batch(torch.tensor(places))[0])
        assert torch.equal(y, part.labels)
        assert torch.equal(part.batch(torch.tensor([3]))[0], x[3:4])
        found = part.fingerprint()
        assert (found["n"], found["split"], found["ref"]) == (n, f"all, {n} to {role}", data.ref)


def test_parts_are_told_apart_by_set_role_and_ids() -> None:
    data = images(50)
    parts = [
        Subset(data, torch.arange(5), "choose"),
        Subset(data, torch.arange(5), "judge"),
        Subset(data, torch.arange(6), "choose"),
        Subset(images(51), torch.arange(5), "choose"),
    ]
    assert len({part.fingerprint()["sha256"] for part in parts}) == 4
    again = Subset(images(50), torch.arange(5), "choose")
    assert again.fingerprint() == parts[0].fingerprint()


@pytest.mark.parametrize("shots", [-1, 0, 50, 51])
def test_some_must_choose_and_some_must_judge(shots: int) -> None:
    with pytest.raises(UsageError, match="^shots: .*1 to 49"):
        draw(images(50), shots, 0)
    assert [len(part) for part in draw(images(50), 1, 0)] == [1, 49]
    assert [len(part) for part in draw(images(50), 49, 0)] == [49, 1]


def test_some_images_get_the_verdicts_that_they_get_among_all(
    kitchen: tuple[nn.Module, sm.Ingredients],
) -> None:
    net, ingredients = kitchen
    bound, part = sm.bind(net, ingredients[0]), torch.tensor([31, 4, 17, 8, 20])
    data = sm.data("digits", split="val", limit=40)
    judge = sm.Benchmark(data, [sm.APGD(sm.Linf(0.12), steps=4)])
    whole = judge(bound)
    some = replace(judge, data=Subset(data, part, "compare"))(bound)
    for metric in whole.metrics:
        assert some.right(metric).tolist() == whole.right(metric)[part].tolist()


@pytest.mark.parametrize(
    ("refs", "names"),
    [
        (["blur-3:folder:/photos/cats", "jpeg-1:folder:/photos/cats"], ["blur-3", "jpeg-1"]),
        (["folder:/photos/sketches", "npz:drawings.npz"], ["sketches", "drawings.npz"]),
        (["digits", "jpeg-2:digits"], ["digits", "jpeg-2"]),
        (["folder:/a/b"], ["b"]),
        (["blur-1:folder:/a/b"], ["blur-1-b"]),
        (["folder:/a/b", "folder:/c/b", "folder:/d/b"], ["b", "b-2", "b-3"]),
        (["blur-1:npz:x/$y z.npz", "digits"], ["blur-1-y-z.npz", "digits"]),
        (["blur-1:digits", "blur-1:cifar10"], ["blur-1-digits", "blur-1-cifar10"]),
    ],
)
def test_short_names_tell_sets_apart_and_fit_for_files(refs: list[str], names: list[str]) -> None:
    assert list(short_names(refs)) == names
