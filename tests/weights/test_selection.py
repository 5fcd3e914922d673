"""Which tensors are copied or left out is said by patterns, and by what a head looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.weights.selection import HEADS, Selection, head_of, select

NAMES = ("conv.weight", "conv.bias", "bn.running_mean", "fc.weight", "fc.bias")


def checkpoints(home: Path, *changes: dict[str, torch.Tensor | None]) -> list[sm.Checkpoint]:
    found = []
    for i, change in enumerate(changes):
        state = {**{name: torch.ones(10, 2) for name in NAMES}, **change}
        sm.save(home / f"{i}.safetensors", {n: t for n, t in state.items() if t is not None})
        found.append(sm.load(home / f"{i}.safetensors")[0])
    return found


@pytest.mark.parametrize(
    ("settings", "copied"),
    [
        ({}, {}),
        ({"exclude": ["*.bias"]}, {"conv.bias": 0, "fc.bias": 0}),
        (
            {"exclude": ["conv.*", "fc.bias"], "base": 1},
            {"conv.bias": 1, "conv.weight": 1, "fc.bias": 1},
        ),
        ({"only": ["conv.*"]}, {"bn.running_mean": 0, "fc.bias": 0, "fc.weight": 0}),
        ({"only": ["conv.*", "fc.*"], "base": 1}, {"bn.running_mean": 1}),
        (
            {"only": ["conv.*"], "exclude": ["*.bias"]},
            {"bn.running_mean": 0, "conv.bias": 0, "fc.bias": 0, "fc.weight": 0},
        ),
        ({"head": "base", "base": 1}, {"fc.bias": 1, "fc.weight": 1}),
        ({"head": "first", "base": 1}, {"fc.bias": 0, "fc.weight": 0}),
        (
            {"head": "first", "exclude": ["fc.bias", "conv.bias"], "base": 1},
            {"conv.bias": 1, "fc.bias": 0, "fc.weight": 0},
        ),
    ],
)
def test_patterns_and_heads_say_what_is_copied_and_from_whom(
    tmp_path: Path, settings: dict[str, Any], copied: dict[str, int]
) -> None:
    found = select(checkpoints(tmp_path, {}, {}), **settings)
    assert found == Selection(copied)
    assert list(found.copied) == sorted(copied)
    assert [name for name in NAMES if found.mixes(name)] == [n for n in NAMES if n not in copied]


def test_a_skipped_head_is_nowhere_and_so_is_what_the_base_lacks(tmp_path: Path) -> None:
    one, other = checkpoints(tmp_path, {}, {"conv.bias": None})
    assert select([one, other], head="skip") == Selection({}, frozenset({"fc.weight", "fc.bias"}))
    both = select([one, other], head="skip", exclude=["conv.bias", "fc.bias"], base=1)
    assert both == Selection({}, frozenset({"fc.weight", "fc.bias", "conv.bias"}))
    assert not both.mixes("conv.bias")
    assert select([one, other], exclude=["conv.bias"]) == Selection({"conv.bias": 0})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"exclude": ["conv.wieght"]},
            "'conv.wieght' matches no tensor; did you mean 'conv.weight'",
        ),
        ({"only": ["*.bn"]}, "'\\*.bn' matches no tensor"),
        ({"exclude": ["conv.*", "x"]}, "'x' matches no tensor"),
        ({"head": "second"}, "unknown choice 'second'"),
    ],
)
def test_what_selects_nothing_is_refused(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=rf"^--\w.*: {words}"):
        select(checkpoints(tmp_path, {}), **settings)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    head = {f"{name}.weight": torch.ones(3, 2), f"{name}.bias": torch.ones(3)}
    deeper = {f"body.{name}.weight": torch.ones(3, 2), f"{name}x.weight": torch.ones(1)}
    found = checkpoints(tmp_path, {**dict.fromkeys(["fc.weight", "fc.bias"]), **head, **deeper})
    assert head_of(found) == sorted(head)


def test_a_head_is_known_by_another_number_of_classes(tmp_path: Path) -> None:
    none = dict.fromkeys(["fc.weight", "fc.bias"])

    def last(classes: int, width: int, kernel: int) -> dict[str, torch.Tensor | None]:
        tensors = {
            "out.weight": torch.ones(classes, 4),
            "out.bias": torch.ones(classes),
            "wide.weight": torch.ones(4, width),
            "deep.weight": torch.ones(classes, 4, kernel),
        }
        return {**none, **tensors}

    found = checkpoints(tmp_path, last(10, 5, 3), last(7, 6, 3))
    assert head_of(found) == ["out.bias", "out.weight"]
    assert select(found, head="base", base=1).copied == {"out.bias": 1, "out.weight": 1}
    one = found[:1]
    assert head_of(one) == []
    with pytest.raises(UsageError, match="--head: no classifier was found; name its tensors with"):
        select(one, head="base")
