"""A search says what it cost, at the end of its tables and in its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soupmerge.cli import results, show

Typed = Callable[..., Any]
FEW = ["--data", "digits", "--limit", 12]
COST = r"^cost of this run: ([\d,]+) gradient evaluations?, ([\d,]+) forward evaluations?, \S+ s$"
KEYS = ("gradient_evaluations", "forward_evaluations", "seconds")


SEARCHES: dict[str, tuple[list[object], int]] = {
    # command: options, and the number of soups
    "grid": (["--step", 1], 2),
    "path": (["--points", 3], 3),
    "search": (["-n", 2], 5),
    "greedy": ([], 3),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_says_what_it_cost(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path, name: str
) -> None:
    """One step of PGD takes a gradient evaluation of each image that is right; clean, a forward."""
    options, soups = SEARCHES[name]
    judge = ["--threat", "linf:0.1", "--attack", "pgd", "--steps", 3]
    line = [name, *ingredients[:2], *FEW, *judge, *options]
    said = soupmerge(*line, "-o", tmp_path / "one")
    (found,) = re.findall(COST, said.out, re.MULTILINE)
    gradients, forwards = (int(number.replace(",", "")) for number in found)
    parsed = json.loads(soupmerge(*line, "-o", tmp_path / "two", "--json").out)
    assert tuple(parsed["cost"]) == KEYS
    assert parsed["cost"]["gradient_evaluations"] == gradients
    assert parsed["cost"]["forward_evaluations"] == forwards
    assert parsed["cost"]["seconds"] > 0
    right = sum(t["metrics"]["clean"]["correct"] for t in parsed["trials"])
    assert len(parsed["trials"]) == soups
    assert forwards >= 12 * soups
    assert gradients <= 3 * right
    assert (gradients > 0) == (right > 0)
    again = json.loads(soupmerge(*line, "-o", tmp_path / "two", "--json").out)
    assert again["cost"] == dict.fromkeys(KEYS, 0), "what a run folder holds costs nothing"


def test_a_race_counts_what_dropped_soups_cost(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    line = ["grid", *ingredients[:2], *FEW, "--threat", "linf:0.1", "--attack", "pgd", "--steps", 3]
    line += ["--step", "0.5", "--race", "-o", tmp_path / "run"]
    parsed = json.loads(soupmerge(*line, "--json").out)
    assert tuple(parsed["cost"]) == KEYS
    assert parsed["cost"]["forward_evaluations"] >= 3 * 12
    (found,) = re.findall(COST, soupmerge(*line).out, re.MULTILINE)
    assert found == ("0", "0")


def test_adapt_counts_what_chose_and_what_judged(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    line = ["adapt", *ingredients[:2], *FEW, "--shots", 5, "--step", 1]
    parsed = json.loads(soupmerge(*line, "-o", tmp_path / "one", "--json").out)
    assert parsed["cost"]["gradient_evaluations"] == 0
    # Two soups on 5 images; at least each of them on the other 7.
    assert parsed["cost"]["forward_evaluations"] >= 2 * 12
    (found,) = re.findall(COST, soupmerge(*line, "-o", tmp_path / "two").out, re.MULTILINE)
    assert int(found[1]) == parsed["cost"]["forward_evaluations"]


def test_costs_are_written_with_their_units(capfd: pytest.CaptureFixture[str]) -> None:
    results.print_cost({KEYS[0]: 137_203, KEYS[1]: 1, KEYS[2]: 1234.56})
    assert capfd.readouterr().out == (
        "cost of this run: 137,203 gradient evaluations, 1 forward evaluation, 1,234.6 s\n"
    )
    results.print_cost({})
    assert "0 gradient evaluations, 0 forward evaluations, 0.0 s" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 soups"), (1, "1 soup"), (2, "2 soups"), (1000, "1,000 soups")]
)
def test_one_thing_is_in_the_singular(n: int, text: str) -> None:
    assert show.counted(n, "soup") == text
