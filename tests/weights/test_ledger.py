"""The ledger: which images a checkpoint was made with, and for what they may be used again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.sketch import Sketch
from soupmerge.weights import ledger
from soupmerge.weights.ledger import CHOSEN, JUDGED, STOPPED, TRAINED
from soupmerge.weights.saving import mix_to_file
from tests.shared import Outcome

ALLOWED = {
    (TRAINED, TRAINED): True,
    (STOPPED, TRAINED): True,
    (CHOSEN, TRAINED): True,
    (TRAINED, STOPPED): False,
    (STOPPED, STOPPED): True,  # one split stops the base, its fine-tunes and the soup
    (CHOSEN, STOPPED): True,
    (TRAINED, CHOSEN): False,
    (STOPPED, CHOSEN): True,
    (CHOSEN, CHOSEN): True,
    (TRAINED, JUDGED): False,
    (STOPPED, JUDGED): False,
    (CHOSEN, JUDGED): False,
}
"""(earlier use of some images, new use) → may they be used so?"""


@pytest.mark.parametrize(("earlier", "now"), ALLOWED)
def test_images_are_refused_where_they_leak_and_nowhere_else(earlier: str, now: str) -> None:
    val = sm.data("digits", split="val", limit=40)
    some, others = val.take(torch.arange(10), "some"), val.take(torch.arange(10, 20), "others")
    found = [ledger.entry("somebody", some, earlier)]
    lines = ledger.leaks(found, Sketch.of(val), now)
    assert (not lines) is ALLOWED[earlier, now]
    for line in lines:
        assert line == f"{earlier} digits, some (by somebody): 10 images in common"
    assert ledger.leaks(found, Sketch.of(others), now) == []


@pytest.mark.parametrize(
    ("by", "purpose"),
    [("finetune", TRAINED), ("learn", TRAINED), ("learn, to stop,", STOPPED), ("grid", CHOSEN)],
)
def test_ledgers_of_earlier_versions_tell_the_purpose_by_the_command(by: str, purpose: str) -> None:
    entry = ledger.entry("x", sm.data("digits", split="val", limit=5), JUDGED)
    del entry["purpose"]
    assert ledger.purpose_of({**entry, "by": by}) == purpose


def test_one_split_stops_a_soup_and_a_soup_of_it(trained: list[Path], tmp_path: Path) -> None:
    ingredients = sm.load(*trained[:2])
    net = sm.model(like=ingredients)
    val, train = (sm.data("digits", split=s, limit=32) for s in ("val", "train"))
    goal: Any = sm.against(None)
    sm.learn(net, ingredients, train, goal, epochs=1, stop_on=val, run=sm.Run(tmp_path / "first"))
    soup = tmp_path / "first" / "soup.safetensors"
    found = [e for e in ledger.ledger_of(sm.load(soup)[0]) if e["by"] == "learn"]
    assert [(e["purpose"], e["split"], e["n"]) for e in found] == [
        (TRAINED, train.fingerprint()["split"], 32),
        (STOPPED, val.fingerprint()["split"], 32),
    ]
    sm.learn(net, sm.load(soup, trained[2]), train, goal, epochs=1, stop_on=val)


def test_a_search_warns_of_images_on_which_ingredients_were_trained(
    trained: list[Path], tmp_path: Path
) -> None:
    ingredients = sm.load(*trained[:2])
    net = sm.model(like=ingredients)
    seen = sm.Benchmark(sm.data("digits", split="train", limit=16))
    with pytest.warns(UserWarning, match=r"linf.safetensors .* trained on digits, train"):
        sm.grid(net, ingredients, seen, step=1)
    sm.grid(net, ingredients, sm.Benchmark(sm.data("digits", split="val", limit=16)), step=1)


def test_images_that_calibrate_a_soup_are_in_its_ledger(
    soupmerge: Callable[..., Outcome], trained: list[Path], tmp_path: Path
) -> None:
    soup = tmp_path / "soup.safetensors"
    words = ("--buffers", "recalibrate", "--data", "digits", "--split", "test", "--limit", 64)
    assert soupmerge("mix", *trained[:2], "-w", "uniform", *words, "-o", soup).status == 0
    judged = soupmerge("eval", soup, "--data", "digits", "--limit", 64)
    assert "trained on digits, test" in judged.err
    assert "(by recalibrate)" in judged.err


def test_the_ledger_travels_through_fine_tunes_and_soups(
    trained: list[Path], tmp_path: Path
) -> None:
    train = Sketch.of(sm.data("digits", split="train"))
    test = Sketch.of(sm.data("digits", split="test"))
    ingredients = sm.load(*trained[:2])
    sm.save(tmp_path / "silent.safetensors", dict(ingredients[0]), model=ingredients.model)
    assert ledger.ledger_of(sm.load(tmp_path / "silent.safetensors")[0]) == []
    soup = tmp_path / "soup.safetensors"
    recipe = sm.Recipe.uniform(ingredients)
    seen = ledger.entry("learn", sm.data("digits", split="val"), ledger.TRAINED)
    mix_to_file(soup, ingredients, dataclasses.replace(recipe, seen=(seen,)))
    again = tmp_path / "again.safetensors"
    both = sm.load(soup, tmp_path / "silent.safetensors")
    mix_to_file(again, both, sm.Recipe.uniform(both))
    for path in (trained[0], soup, again):
        found = ledger.ledger_of(sm.load(path)[0])
        assert len(found) == (1 if path is trained[0] else 2)
        lines = ledger.leaks(found, train, ledger.JUDGED)
        assert any(line.startswith("trained on digits, train (by finetune): ") for line in lines)
        assert ledger.leaks(found, test, ledger.JUDGED) == []
    val = Sketch.of(sm.data("digits", split="val"))
    lines = ledger.leaks(ledger.ledger_of(sm.load(again)[0]), val, ledger.JUDGED)
    assert lines[0].startswith("trained on digits, val (by learn): ")


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
    warned = soupmerge(*words, "train")
    assert warned.status == 0
    assert "trained on digits, train (by finetune)" in warned.err
    assert "trained on" not in soupmerge(*words, "test").err


def test_images_that_trained_something_may_not_stop_or_judge(trained: list[Path]) -> None:
    ingredients = sm.load(*trained[:2])
    net = sm.model(like=ingredients)
    train = sm.data("digits", split="train", limit=64)
    val = sm.data("digits", split="val", limit=64)

    def learn(**settings: object) -> None:
        sm.learn(net, ingredients, val, sm.against(None), epochs=1, **settings)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="trained on digits, train .by finetune.: .* in common"):
        learn(stop_on=train)
    with pytest.raises(UsageError, match="at least 64 of them also train"):
        learn(stop_on=val)
    with pytest.raises(UsageError, match="also train the coefficients"):
        learn(benchmark=sm.Benchmark(val, []))
    learn(stop_on=sm.data("digits", split="test", limit=32))
    with pytest.warns(UserWarning, match=r"judge have made (?s:.*) trained on digits, train"):
        learn(benchmark=sm.Benchmark(train, []))


def test_who_does_not_say_what_it_saw_is_named(ingredients: sm.Ingredients) -> None:
    some = sm.data("digits", split="val", limit=32)
    other = sm.data("digits", split="test", limit=32)
    with pytest.warns(UserWarning, match="does not say what it was trained on"):
        sm.learn(
            sm.model(like=ingredients), ingredients, some, sm.against(None), epochs=1, stop_on=other
        )
