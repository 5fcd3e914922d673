"""Tables over many data sets: a column for each, and nothing that was judged is judged again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import soupmerge as sm
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.soups.judge.earlier import reports_in
from tests.shared import near

Typed = Callable[..., Any]
NET = "digits-cnn?width=2"
COLUMNS = ("--column", "IN=digits", "--column", "IN-C=noise-2:digits")
FEW = ("--limit", 20)


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    base = sm.model(NET, seed=0)
    files = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for seed, file in enumerate(files):
        sm.save(file, near(base, seed), model=NET)
    return files


def rows(done: Any) -> dict[str, dict[str, Any]]:
    assert done.status == 0, done.err
    return {Path(row["name"]).name: row for row in json.loads(done.out)["rows"]}


def accuracies(row: dict[str, Any], metric: str = "clean") -> list[float | None]:
    return [m and m[metric]["accuracy"] for m in row["sets"].values()]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The references of the data sets on which a network is judged, as that happens."""
    seen: list[str] = []
    call = Benchmark.__call__

    def noted(self: Benchmark, *args: Any, **settings: Any) -> Any:
        seen.append(self.data.ref)
        return call(self, *args, **settings)

    monkeypatch.setattr(Benchmark, "__call__", noted)
    return seen


def test_a_table_has_a_column_for_each_set_and_their_mean(
    soupmerge: Typed, nets: list[Path]
) -> None:
    found = rows(soupmerge("eval", *nets[:2], *COLUMNS, *FEW, "--json"))
    for file in nets[:2]:
        row = found[file.name]
        assert list(row["sets"]) == ["IN", "IN-C"]
        for name, ref in (("IN", "digits"), ("IN-C", "noise-2:digits")):
            alone = json.loads(soupmerge("eval", file, "--data", ref, *FEW, "--json").out)
            assert row["sets"][name] == alone["metrics"]
        assert row["mean"]["clean"] == pytest.approx(sum(accuracies(row)) / 2)
    shown = soupmerge("eval", *nets[:2], *COLUMNS, *FEW).out
    header, first = shown.splitlines()[:2]
    assert header.split() == ["network", "#FP", "IN", "IN-C", "MEAN"]
    a = found["a.safetensors"]
    wanted = [f"{100 * x:.2f}" for x in (*accuracies(a), a["mean"]["clean"])]
    assert first.split() == ["a.safetensors", "×1", *wanted]


def test_every_set_has_a_column_at_each_resolution(soupmerge: Typed, nets: list[Path]) -> None:
    done = soupmerge("eval", nets[0], *COLUMNS, *FEW, "--resolution", "8,10", "--json")
    [row] = rows(done).values()
    assert list(row["sets"]) == ["IN at 8", "IN at 10", "IN-C at 8", "IN-C at 10"]


def test_an_ensemble_is_a_row_with_its_passes(soupmerge: Typed, nets: list[Path]) -> None:
    done = soupmerge("eval", *nets, *COLUMNS, *FEW, "--ensemble", "prob", "--json")
    [row] = rows(done).values()
    assert row["passes"] == 3


def test_what_was_judged_is_not_judged_again(
    soupmerge: Typed, nets: list[Path], judged: list[str]
) -> None:
    a, b, c = nets
    attack = ("--threat", "linf:0.1", "--steps", 3, *FEW)
    first = soupmerge("eval", a, b, "--column", "IN=digits", *attack, "-o", "first", "--json")
    assert judged == ["digits", "digits"]
    judged.clear()
    moved = nets[0].rename(nets[0].with_name("moved.safetensors"))
    more = ("eval", moved, c, *COLUMNS, *attack, "--beside", "first", "--json")
    found = rows(soupmerge(*more, "-o", "second"))
    assert judged == ["noise-2:digits", "digits", "noise-2:digits"]
    saved = rows(first)
    assert found["moved.safetensors"]["sets"]["IN"] == saved["a.safetensors"]["sets"]["IN"]
    beside = found["b.safetensors"]  # which was judged on one of the sets
    assert beside["sets"] == {"IN": saved["b.safetensors"]["sets"]["IN"], "IN-C": None}
    assert beside["mean"] == {"clean": None, "linf:0.1": None, "union": None}
    judged.clear()
    again = rows(soupmerge(*more, "-o", "second"))
    assert (again, judged) == (found, [])


@pytest.mark.parametrize(
    "other",
    [("--threat", "linf:0.2"), ("--steps", 4), ("--seed", 1), ("--limit", 9)],
)
def test_what_another_attack_judged_is_judged_again(
    soupmerge: Typed, nets: list[Path], judged: list[str], other: tuple[object, ...]
) -> None:
    usual = {"--threat": "linf:0.1", "--steps": 3, "--limit": 20, "--seed": 0}
    words = [word for pair in usual.items() for word in pair]
    soupmerge("eval", nets[0], "--data", "digits", *words, "-o", "first")
    judged.clear()
    changed = {**usual, **dict(zip(other[::2], other[1::2], strict=True))}
    words = [word for pair in changed.items() for word in pair]
    done = soupmerge("eval", nets[0], "--data", "digits", *words, "--beside", "first")
    assert (done.status, judged) == (0, ["digits"])


def test_saved_reports_are_those_that_were_made(soupmerge: Typed, nets: list[Path]) -> None:
    line = ("eval", *nets[:2], *COLUMNS, *FEW, "--threat", "linf:0.1", "--steps", 3, "--json")
    made = json.loads(soupmerge(*line, "-o", "run").out)["reports"]
    found = [earlier.report.to_metrics() for earlier in reports_in(["run"])]
    assert found == [report["metrics"] for report in made]


def test_rows_of_an_earlier_adaptation_stand_beside(soupmerge: Typed, nets: list[Path]) -> None:
    line = ("--shots", 20, "--step", "0.5", "--limit", 60, "--json")
    both = soupmerge("adapt", *nets[:2], *COLUMNS, *line, "-o", "both")
    assert (Path("both/best/IN-C.json")).exists()
    theirs = {row["name"]: row for row in json.loads(both.out)["rows"]}
    renamed = ("--column", "C=noise-2:digits", "--column", "D=low_contrast-2:digits")
    done = soupmerge("adapt", *nets[1:], *renamed, *line, "-o", "other", "--beside", "both")
    assert done.status == 0, done.err
    for row in json.loads(done.out)["beside"]:
        name = row["name"].removesuffix(" (both)")
        assert row["sets"] == {"C": theirs[name]["sets"]["IN-C"]}
        assert row["mean"] is None
    shown = soupmerge("adapt", *nets[1:], *renamed, *line[:-1], "-o", "other", "--beside", "both")
    assert "single soup (both)" in shown.out


@pytest.mark.parametrize(
    ("words", "status", "fragment"),
    [
        ((), 2, "no data set is given; give --data DATA, or --column NAME=DATA"),
        (("--column", "digits"), 2, "'digits' is not NAME=VALUE"),
        (("--column", "a/b=digits"), 2, "'a/b=digits' is not NAME=VALUE"),
        (
            ("--column", "IN=digits", "--column", "IN=noise-1:digits"),
            2,
            "two columns are",
        ),
        (("--column", "IN=digits", "--beside", "nowhere"), 3, "nowhere: is not a run folder"),
    ],
)
def test_refusals(
    soupmerge: Typed, nets: list[Path], words: tuple[str, ...], status: int, fragment: str
) -> None:
    done = soupmerge("eval", nets[0], *words)
    assert (done.status, fragment in done.err) == (status, True), done.err


def test_only_runs_of_the_same_command_stand_beside(soupmerge: Typed, nets: list[Path]) -> None:
    soupmerge("grid", *nets[:2], "--data", "digits", *FEW, "--step", 1, "-o", "grid")
    done = soupmerge("eval", nets[0], "--data", "digits", *FEW, "--beside", "grid")
    assert (done.status, "a run of soupmerge grid" in done.err) == (2, True)
    line = ("--shots", 5, "--step", "1", *FEW, "-o", "run", "--beside", "grid")
    done = soupmerge("adapt", *nets[:2], "--data", "digits", *line)
    assert (done.status, "is no adaptation" in done.err) == (2, True)
