"""The ledger: which images made a checkpoint, told by a sketch that travels in its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.sketch import MOST, Sketch
from soupmerge.weights import ledger
from tests.shared import Outcome


def numbered(first: int, last: int) -> sm.Images:
    """Return images that are numbers, written in their pixels."""
    numbers = torch.arange(first, last)
    pixels = torch.stack([numbers // 65536, numbers // 256 % 256, numbers % 256], 1)
    return sm.Images.of(pixels.to(torch.uint8)[:, :, None, None], torch.zeros(last - first))


@given(
    st.tuples(st.integers(0, 3000), st.integers(1, 3000)),
    st.tuples(st.integers(0, 3000), st.integers(1, 3000)),
)
def test_marks_in_common_are_images_in_common(a: tuple[int, int], b: tuple[int, int]) -> None:
    one, other = numbered(a[0], sum(a)), numbered(b[0], sum(b))
    shared = max(0, min(sum(a), sum(b)) - max(a[0], b[0]))
    sketches = Sketch.of(one), Sketch.of(other)
    found = sketches[0].common(sketches[1])
    assert found <= shared
    assert sketches[1].common(sketches[0]) == found
    if max(a[1], b[1]) <= MOST:
        assert found == shared
    if shared >= 600:
        assert found > 0


def test_a_sketch_is_of_pixels_not_of_names_or_types() -> None:
    digits = sm.data("digits", split="test", limit=50)
    renamed = dataclasses.replace(digits, ids=tuple(f"x{i}" for i in range(50)), ref="other")
    half = digits.take(torch.randperm(50)[:25], "half")
    bright = sm.Images.of(digits.pixels * 0.5, digits.labels)
    own = Sketch.of(digits)
    assert own == Sketch.of(renamed)
    assert own.common(Sketch.of(half)) == len(Sketch.of(half).marks)
    assert own.common(Sketch.of(bright)) < 5  # what is black stays black
    assert Sketch.from_text(own.to_text()) == own


@pytest.mark.parametrize("text", [None, 3, "", "whole:", "whole:abc", "all:" + "0" * 12])
def test_what_is_no_sketch(text: object) -> None:
    assert Sketch.from_text(text) is None


def test_the_ledger_travels_through_fine_tunes_and_soups(
    trained: list[Path], tmp_path: Path
) -> None:
    train = Sketch.of(sm.data("digits", split="train"))
    test = Sketch.of(sm.data("digits", split="test"))
    pots = sm.load(*trained[:2])
    sm.save(tmp_path / "silent.safetensors", dict(pots[0]), model=pots.model)
    assert ledger.ledger_of(sm.load(tmp_path / "silent.safetensors")[0]) == []
    soup = tmp_path / "soup.safetensors"
    from soupmerge.weights.mixing import mix_to_file

    recipe = sm.Recipe.uniform(pots)
    seen = ledger.entry("learn", sm.data("digits", split="val"))
    mix_to_file(soup, pots, dataclasses.replace(recipe, seen=(seen,)))
    again = tmp_path / "again.safetensors"
    both = sm.load(soup, tmp_path / "silent.safetensors")
    mix_to_file(again, both, sm.Recipe.uniform(both))
    for path in (trained[0], soup, again):
        told = ledger.ledger_of(sm.load(path)[0])
        assert len(told) == (1 if path is trained[0] else 2)
        assert any("finetune saw digits, train" in line for line in ledger.shared(told, train))
        assert ledger.shared(told, test) == []
    told = ledger.shared(
        ledger.ledger_of(sm.load(again)[0]), Sketch.of(sm.data("digits", split="val"))
    )
    assert told[0].startswith("learn saw digits, val: ")


@pytest.mark.parametrize(
    "notes", ["[]", '{"seen": 3}', '{"seen": [3, {"sketch": 4}, {}]}', '{"recipe": {"seen": "x"}}']
)
def test_a_hostile_ledger_says_nothing(tmp_path: Path, notes: str) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors", {"soupmerge": notes})
    assert ledger.ledger_of(sm.load(tmp_path / "a.safetensors")[0]) == []


def test_eval_warns_of_images_that_made_the_network(
    soupmerge: Callable[..., Outcome], trained: list[Path]
) -> None:
    words = ("eval", trained[0], "--data", "digits", "--limit", 50, "--split")
    assert "finetune saw digits, train" in soupmerge(*words, "train").err
    assert "saw" not in soupmerge(*words, "test").err


def test_images_that_have_been_seen_may_not_stop_or_judge(trained: list[Path]) -> None:
    pots = sm.load(*trained[:2])
    net = sm.model(like=pots)
    train = sm.data("digits", split="train", limit=64)
    val = sm.data("digits", split="val", limit=64)

    def learn(**how: object) -> None:
        sm.learn(net, pots, val, sm.against(None), epochs=1, **how)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="finetune saw digits, train: .* in common"):
        learn(stop_on=train)
    with pytest.raises(UsageError, match="shares 64 or more with the split that teaches"):
        learn(stop_on=val)
    with pytest.raises(UsageError, match="also teach the coefficients"):
        learn(benchmark=sm.Benchmark(val, []))
    learn(stop_on=sm.data("digits", split="test", limit=32))


def test_who_does_not_say_what_it_saw_is_named(pots: sm.Ingredients) -> None:
    some = sm.data("digits", split="val", limit=32)
    other = sm.data("digits", split="test", limit=32)
    with pytest.warns(UserWarning, match="does not say what it was trained on"):
        sm.learn(sm.model(like=pots), pots, some, sm.against(None), epochs=1, stop_on=other)
