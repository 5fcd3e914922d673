"""The commands that search: what they refuse, and what they warn of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Typed = Callable[..., Any]
FEW = ["--data", "digits", "--limit", 30, "--threat", "linf:0.1", "--steps", 4, "-q"]


def test_commands_that_cannot_be_meant(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    for line, status, said in (
        ("greedy {a} {b} --metric unoin", 2, "did you mean 'union'?"),
        ("greedy {a}", 2, "two or more"),
        ("path {a}", 2, "exactly 2 ingredients, not 1"),
        ("path {a} {b} --points 1", 2, "--points"),
        ("search {a} {b} --method cmaes", 2, "did you mean 'cma'?"),
        ("search {a} {b} -n 0", 2, "cannot judge 0 soups"),
        ("search {a} {b} -n 1000000000", 2, "1,000,000,000 soups"),
        ("grid {a} {b} --best 0.5*clean+0.5*uniom", 2, "'union'"),
        ("grid {a} {b} --race --step 1e-9", 2, "too many to judge"),
    ):
        words = line.format(a=trained[0], b=trained[1]).split()
        result = soupmerge(*words, *FEW, "-o", tmp_path / "run")
        assert (result.status, said in result.err) == (status, True), (line, result.err)
        assert not (tmp_path / "run").exists()


def test_a_search_that_chooses_on_test_images_is_warned_of(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    words = [*FEW, "--split", "test", "--points", 2, "-o", tmp_path / "run"]
    typed = soupmerge("path", *trained[:2], *words)
    assert typed.status == 0
    assert "judge the soup on other images" in typed.err
