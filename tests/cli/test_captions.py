"""What stands above and below the figures: what was judged, on what, how, and why to doubt it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.cli import results, show

Typed = Callable[..., Any]
Tables = Callable[[Any], "list[list[dict[str, str]]]"]
FEW = ["--data", "digits", "--limit", 12]


def report(ref: str = "digits", *, notes: Any = None, **data: Any) -> sm.Report:
    """Return a report on four images of *ref*: three right clean, two under attack."""
    flags = {"clean": torch.arange(4) < 3, "linf:0.1": torch.arange(4) < 2}
    found = {"ref": ref, "split": "test", "n": 4, **data}
    attacks = {"linf:0.1": {"attack": "apgd-ce", "steps": 20}}
    return sm.Report(found, flags, attacks, notes=notes or {})


BOUNDS = "95% intervals; accuracies under attack are upper bounds"
RECHECK = {"linf:0.1": {"precision": "bf16", "fell": 2, "rechecked": 64}}
CAPTIONS: dict[str, tuple[list[sm.Report], str]] = {
    "one set": ([report()] * 2, f"4 images of digits (test); under apgd-ce, 20 steps; {BOUNDS}"),
    "two sets": (
        [report(), report("cifar10", n=9)],
        f"4 images of digits (test), 9 images of cifar10 (test); under apgd-ce, 20 steps; {BOUNDS}",
    ),
    "resized": (
        [report(resolution=6, resize="bilinear")],
        "4 images of digits (test) resized before the attack (bilinear); "
        f"under apgd-ce, 20 steps; {BOUNDS}",
    ),
    "a cheaper precision": (
        [report(notes={"float32": RECHECK})],
        "4 images of digits (test); under apgd-ce, 20 steps; attacked in bf16 (linf:0.1: 2 of 64 "
        f"survivors fell in float32); {BOUNDS}",
    ),
    "threats in an order": (
        [report(notes={"order": ["l2:1", "linf:0.1"]})] * 2,
        "4 images of digits (test); under apgd-ce, 20 steps; "
        f"threats in the order l2:1, linf:0.1; {BOUNDS}",
    ),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_a_caption_says_on_what_and_how_it_was_measured(name: str) -> None:
    reports, wanted = CAPTIONS[name]
    assert results.caption(reports) == wanted


def test_a_caption_says_what_a_search_gave_up_and_tried_first() -> None:
    attack: Any = sm.APGD(sm.Linf(0.1), 100).giving_up()
    description = {**attack.describe(), "transfer": True}
    data = {"ref": "x", "split": "val", "n": 4}
    said = results.caption([sm.Report(data, report().flags, {"linf:0.1": description})])
    early = f"(images that resist are given up after {description['gives up']['after']})"
    first = "after the adversarial images of earlier soups"
    assert f"apgd-ce, 100 steps, {first} {early}; 95%" in said


def test_rows_stand_set_by_set_without_the_folder_that_all_share(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sets = ("folder:/d/cats", "folder:/d/dogs")
    reports = [report(ref) for _ in "ab" for ref in sets]
    results.print_reports([n for n in ("/x/a.pt", "/x/b.pt") for _ in sets], reports, "t", passes=3)
    header, *rows, _ = capfd.readouterr().out.splitlines()
    assert header.split() == [
        "network",
        "forward",
        "passes",
        "data",
        "n",
        "clean",
        "linf:0.1",
        "union",
    ]
    assert [row.split()[:4] for row in rows] == [
        ["a.pt", "×3", "cats", "4"],
        ["b.pt", "×3", "cats", "4"],
        ["a.pt", "×3", "dogs", "4"],
        ["b.pt", "×3", "dogs", "4"],
    ]
    assert {tuple(row.split()[4:6]) for row in rows} == {("75.0%", "(30.1–95.4)")}


def test_one_network_keeps_its_folder(capfd: pytest.CaptureFixture[str]) -> None:
    results.print_reports(["/x/a.pt"], [report()], "t")
    header, row, _ = capfd.readouterr().out.splitlines()
    assert row.startswith("/x/a.pt ")
    assert "forward" not in header
    assert "data" not in header


def test_sizes_stand_where_images_were_resized(capfd: pytest.CaptureFixture[str]) -> None:
    sizes = [report(resolution=size, resize="x") for size in (6, 8)]
    results.print_reports(["a", "b"], sizes, "t")
    header, *rows, _ = capfd.readouterr().out.splitlines()
    assert header.split()[:2] == ["network", "resolution"]
    assert [row.split()[:2] for row in rows] == [["a", "6"], ["b", "8"]]


def test_a_race_says_how_many_were_dropped_and_what_that_saved(
    capfd: pytest.CaptureFixture[str],
) -> None:
    soups = [{"images": n, "beaten_by": by} for n, by in ((40, None), (10, 0), (30, 0), (20, 2))]
    found = {"soups": soups, "goal": "best", "metric": "union", "confidence": 0.95}
    results.print_race(found, 4, 40)
    assert capfd.readouterr().out == (
        "3 of 4 soups were dropped as not the best in union, after 10 to 30 images and with 95% "
        "confidence for all of them together; 62% of all verdicts were needed\n"
    )
    found |= {"goal": "front", "soups": [{"images": 40, "beaten_by": None}] * 4}
    results.print_race(found, 4, 40)
    assert capfd.readouterr().out == (
        "none of 4 soups was dropped; 100% of all verdicts were needed\n"
    )
    found["soups"] = [*found["soups"][:3], {"images": 1, "beaten_by": 0}]
    results.print_race(found, 4, 40)
    assert capfd.readouterr().out == (
        "1 of 4 soups was dropped as neither the best in union nor on its front with clean "
        "accuracy, after 1 image and with 95% confidence for all of them together; 76% of all "
        "verdicts were needed\n"
    )


def test_what_judging_cost_is_summed() -> None:
    keys = ("gradient_evaluations", "forward_evaluations", "seconds")
    costs = [dict(zip(keys, row, strict=True)) for row in ((1, 2, 0.5), (10, 20, 0.25))]
    reports = [sm.Report(report().data, report().flags, {}, cost=cost) for cost in costs]
    assert results.cost(reports) == {keys[0]: 11, keys[1]: 22, keys[2]: 0.75}
    assert results.cost([report()]) == dict.fromkeys(keys, 0)


def test_doubts_stand_below_with_their_network_and_their_page(
    capfd: pytest.CaptureFixture[str],
) -> None:
    doubt = {"name": "chance", "what": "it\x1b guesses", "fix": "look again"}
    results.print_doubts(["a", "b"], [report(), report(notes={"doubts": [doubt]})])
    assert capfd.readouterr().out == (
        "doubt: b: chance: it\\x1b guesses; look again (docs/flags.md#chance)\n"
    )


# ---- Commands.


def test_a_plan_of_an_evaluation_lists_what_would_be_judged(
    soupmerge: Typed, tables: Tables, ingredients: list[Path]
) -> None:
    line = ["eval", *ingredients[:2], *FEW, "--threat", "linf:0.1", "--dry-run"]
    (rows,) = tables(soupmerge(*line))
    assert rows == [{"network": str(p), "images": "12", "threats": "1"} for p in ingredients[:2]]
    (rows,) = tables(soupmerge(*line, "--data", "blur-2:digits", "--resolution", "6,10"))
    assert [list(row.values()) for row in rows] == [
        [str(ingredient), ref, size, "12", "1"]
        for ingredient in ingredients[:2]
        for ref in ("digits", "blur-2:digits")
        for size in ("6", "10")
    ]
    assert list(rows[0]) == ["network", "data", "resolution", "images", "threats"]


@pytest.mark.parametrize("command", ["mix", "select", "learn"])
def test_what_is_exported_beside_a_soup_is_told(
    soupmerge: Typed,
    tables: Tables,
    ingredients: list[Path],
    larder: Path,
    tmp_path: Path,
    command: str,
) -> None:
    words = {
        "mix": ["mix", *ingredients[:2], "-w", "uniform"],
        "select": ["select", larder / "grid"],
        "learn": [
            "learn",
            *ingredients[:2],
            *FEW,
            "--eps",
            "0",
            "--epochs",
            1,
            "--augment",
            "none",
        ],
    }[command]
    for as_json in ([], ["--json"]):
        home = tmp_path / f"{command}{len(as_json)}"
        home.mkdir()
        out = home / ("run" if command == "learn" else "soup.safetensors")
        said = soupmerge(*words, "-o", out, "--export", home / "folder", *as_json)
        assert said.status == 0, said.err
        soup = sm.load(home / "folder")[0]
        if as_json:
            parsed = json.loads(said.out)
            assert command != "mix" or parsed["export"] == str(home / "folder")
        else:
            (row,) = tables(said)[-1]
            assert (row["folder"], row["sha256"]) == (str(home / "folder"), soup.sha256)
            assert row["loaded back by"] == "soupmerge"
            assert "only soupmerge loads the folder" in said.err


TITLES: dict[str, list[str]] = {
    "eval": ["accuracy"],
    "grid": ["coefficients of a, b"],
    "greedy": ["", "soup"],
    "path": ["coefficients of a, b", ""],
    "adapt": ["accuracy, %", "soups"],
    "learn": ["", "accuracy"],
    "sweep": ["mean coefficients", "accuracy", ""],
    "check": ["", "signs", "barriers"],
    "landscape": ["landscape"],
    "select": ["of 3 soups"],
}


@pytest.mark.parametrize("name", TITLES)
def test_tables_have_titles_on_a_terminal(
    soupmerge: Typed,
    ingredients: list[Path],
    larder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    judged = ["--judge-split", "test", "--judge-limit", 12, "--threat", "linf:0.1", "--steps", 1]
    learn = [
        "learn",
        *ingredients[:2],
        *FEW,
        "--eps",
        "0",
        "--epochs",
        1,
        "--augment",
        "none",
        *judged,
    ]
    lines: dict[str, list[Any]] = {
        "eval": ["eval", ingredients[0], *FEW],
        "grid": ["grid", *ingredients[:2], *FEW, "--step", 1],
        "greedy": ["greedy", *ingredients[:2], *FEW],
        "path": ["path", *ingredients[:2], *FEW, "--points", 3],
        "adapt": ["adapt", *ingredients[:2], *FEW, "--shots", 3, "--step", 1],
        "learn": learn,
        "sweep": [*learn, "--seeds", 2],
        "check": ["check", *ingredients[:2], *FEW, "--points", 3],
        "landscape": ["landscape", *ingredients, *FEW, "--points", 2],
        "select": ["select", larder / "grid"],
    }
    out = [] if name in ("eval", "check", "select") else ["-o", tmp_path / "run"]
    titles: list[str] = []
    monkeypatch.setattr(show, "table", lambda headers, rows, title="": titles.append(title))
    assert soupmerge(*lines[name], *out).status == 0
    assert titles == TITLES[name]


def test_a_terminal_gets_a_title_and_numbers_at_the_right(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    rows = [["[b]a", "1", "x"], ["c", "200", "-"], ["d", "–", "longer"]]
    show.table(["name", "n", "word"], rows, "a title")
    title, *lines = capfd.readouterr().out.splitlines()
    assert title.strip() == "a title"
    cells = [line.split("│")[1:-1] for line in lines if "│" in line]
    assert [[cell.strip() for cell in row] for row in cells] == rows, "names are no mark-up"
    assert [row[1] for row in cells] == ["   1 ", " 200 ", "   – "], "numbers at the right"
    assert [row[2] for row in cells] == [" x      ", " -      ", " longer "], "words are not"


def test_bars_are_drawn_on_a_terminal_and_begin_again_with_each_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with show.Progress() as progress:
        for done, total in ((0, 4), (3, 4), (4, 4), (0, 6), (5, 6)):
            progress("images", done, total, "a note")
        (task,) = progress.bars.tasks
        assert (task.completed, task.total, task.fields["note"]) == (5, 6, "(a note)")
        progress("soups", 1, 2)
        assert [t.description for t in progress.bars.tasks] == ["images", "soups"]


def test_points_that_could_not_be_measured_are_holes_and_the_first_says_why(
    soupmerge: Typed,
    tables: Tables,
    ingredients: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def point(x: float, loss: float | None = None) -> Any:
        metrics = {} if loss is None else {"clean": loss}
        hole = "its variance is negative" if loss is None else None
        weights, accuracy = (1 - x, x, 0.0), {"clean": 0.5} if metrics else {}
        return SimpleNamespace(
            x=x, y=0.25, weights=weights, loss=metrics, accuracy=accuracy, hole=hole
        )

    for points, losses in (
        ([point(0), point(0.5, 2.0), point(1, 3.0), point(2, 1.0)], ["0.5", "1", "2"]),
        ([point(0), point(0.5), point(1), point(2)], []),
    ):
        holes = tuple(p for p in points if p.hole)
        fake = SimpleNamespace(names=tuple("abc"), points=points, holes=holes, summary=dict)
        monkeypatch.setattr(sm, "landscape", lambda *args, fake=fake, **options: fake)
        said = soupmerge("landscape", *ingredients, *FEW, "-o", tmp_path / "run")
        (rows,) = tables(said)
        assert [row["point"] for row in rows] == ["a", "b", "c"] + ["lowest clean loss"] * bool(
            losses
        )
        assert (rows[0]["clean loss"], rows[0]["clean accuracy"]) == ("hole", "hole")
        assert (rows[0]["x"], rows[0]["y"], rows[0]["coefficients"]) == ("0", "0.25", "1 0 0")
        if losses:
            assert (rows[1]["clean loss"], rows[1]["clean accuracy"]) == ("2.0000", "50.0%")
            assert (rows[3]["x"], rows[3]["clean loss"]) == ("2", "1.0000")
        count = "1 point" if losses else "4 points"
        assert f"not measured: {count}; the first: its variance is negative" in said.err
        assert f"draw it with: soupmerge report {tmp_path}/run" in said.err
