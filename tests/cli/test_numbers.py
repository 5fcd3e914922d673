"""What is printed has the numbers of the JSON, command by command."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import soupmerge as sm

Typed = Callable[..., Any]
Tables = Callable[[Any], "list[list[dict[str, str]]]"]
FEW = ["--data", "digits", "--limit", 12]
JUDGE = [*FEW, "--threat", "linf:0.1", "--threat", "l2:0.5", "--steps", 1]
METRICS = ["clean", "linf:0.1", "l2:0.5", "union"]
CAPTION = "95% intervals; accuracies under attack are upper bounds"


def percent(expected: dict[str, Any]) -> str:
    low, high = (100 * end for end in expected["ci95"])
    return f"{100 * expected['accuracy']:.1f}% ({low:.1f}–{high:.1f})"


def accuracies(row: dict[str, str]) -> dict[str, str]:
    return {name: row[name] for name in METRICS}


def both(soupmerge: Typed, *words: object) -> tuple[Any, Any]:
    """Type a command that has *words*, with ``--json`` and without; return both outcomes."""
    output = soupmerge(*words, "--json")
    said = soupmerge(*words)
    assert output.status == said.status, said.err
    return json.loads(output.out), said


# ---- Tables have the numbers of the JSON.


def test_eval_prints_what_its_json_says(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], tmp_path: Path
) -> None:
    words = ["eval", *ingredients, *JUDGE, "--no-doubts", "-o", tmp_path / "run"]
    found, said = both(soupmerge, *words)
    (rows,) = tables(said)
    assert [row["network"] for row in rows] == [ingredient.name for ingredient in ingredients]
    for row, report in zip(rows, found["reports"], strict=True):
        assert accuracies(row) == {m: percent(t) for m, t in report["metrics"].items()}
        assert report["data"]["n"] == report["metrics"]["union"]["n"] == 12
    caption = f"12 images of digits (test, 12 of it); under apgd-ce, 1 step; {CAPTION}"
    assert said.out.splitlines()[-1] == caption
    assert said.err == ""


def test_eval_says_which_verdicts_are_kept_and_of_what_data(
    soupmerge: Typed, tables: Tables, ingredients: list[Path]
) -> None:
    words = ["eval", *ingredients[:2], *FEW, "--data", "blur-2:digits", "--ensemble", "prob"]
    found, said = both(soupmerge, *words)
    (rows,) = tables(said)
    assert [(row["data"], row["n"]) for row in rows] == [("digits", "12"), ("blur-2:digits", "12")]
    assert {row["forward passes"] for row in rows} == {"×2"}
    assert [r["forward_passes"] for r in found["reports"]] == [2, 2]
    assert found["reports"][0]["members"] == [str(ingredient) for ingredient in ingredients[:2]]
    assert [row["clean"] for row in rows] == [
        percent(r["metrics"]["clean"]) for r in found["reports"]
    ]
    assert "-o RUN keeps them" in said.err
    assert "clean only" in said.out


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["grid", "--step", "0.5"], "grid"),
        (["grid", "--step", "0.5", "--race"], "race"),
        (["path", "--points", 3], "path"),
        (["search", "-n", 3], "search"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_search_prints_every_soup_that_its_json_has(
    soupmerge: Typed,
    tables: Tables,
    ingredients: list[Path],
    tmp_path: Path,
    words: list[object],
    kind: str,
) -> None:
    command, *options = words
    line = [command, *ingredients[:2], *JUDGE, *options, "-o", tmp_path / "run"]
    found, said = both(soupmerge, *line)
    rows, *others = tables(said)
    assert len(rows) == len(found["trials"]) > 2
    for row, trial in zip(rows, found["trials"], strict=True):
        assert row["network"] == " ".join(f"{w:.3g}" for w in trial["weights"])
        assert accuracies(row) == {m: percent(t) for m, t in trial["metrics"].items()}
    best = found["trials"][found["best"]["union"]]
    assert f"best: {', '.join(f'{w:.3g}' for w in best['weights'])}; " in said.err
    assert f"written to {tmp_path}/run/soup.safetensors" in said.err
    assert said.err.splitlines()[1].startswith(f"resuming {tmp_path}/run: ")
    if kind == "path":
        for row, point in zip(others[0], found["path"], strict=True):
            assert float(row["t"]) == point["t"]
            gains = {m: 100 * gap["mean"] for m, gap in point["gain"].items()}
            shown = {m: float(row[f"{m} over chord"].partition(" ")[0]) for m in METRICS}
            assert shown == pytest.approx(gains, abs=0.051)
            if point["lift"] is not None:
                assert float(row["lift"]) == pytest.approx(100 * point["lift"], abs=0.051)
    if kind == "race":
        race = found["race"]
        dropped = [soup["images"] for soup in race["soups"] if soup["beaten_by"] is not None]
        were = f"{len(dropped)} of 3 soups w" if dropped else "none of 3 soups was dropped"
        assert were in said.out


def test_a_search_says_how_much_there_is_to_do(soupmerge: Typed, ingredients: list[Path]) -> None:
    line = [*ingredients, *JUDGE, "-o", "run", "--dry-run"]
    for words, soups in (
        (["grid", "--step", "0.5"], 6),
        (["search", "-n", 7], 11),
        (["greedy"], 5),
        (["greedy", "--prune", "--orders", 2], 15),
    ):
        said = soupmerge(*words, *line)
        # Soups × images × steps, of both threats.
        found = f"{soups} soups of 3 ingredients, 12 images, 2 threats"
        assert said.err.startswith(f"{found}; at most {soups * 12 * 2} gradient evaluations")
        assert said.out == ""
    said = soupmerge("path", *ingredients[:2], *JUDGE, "--points", 5, "--beyond", "0.5", *line[-3:])
    assert said.err.startswith("9 soups of 2 ingredients")


def test_greedy_prints_every_decision(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], tmp_path: Path
) -> None:
    line = ["greedy", *ingredients, *JUDGE, "--orders", 1, "--prune", "-o", tmp_path / "run"]
    found, said = both(soupmerge, *line)
    rows, chosen = tables(said)
    decisions = found["greedy"]["decisions"]
    assert len(rows) == len(decisions) > 2
    for row, d in zip(rows, decisions, strict=True):
        assert row == {
            "pass": "best first" if d["order"] == 0 else f"order {d['order']}",
            "try": d["action"],
            "ingredient": "abc"[d["ingredient"]],
            "metric": f"{d['before']:.1%} → {d['after']:.1%}",
            "done": "yes" if d["accepted"] else "no",
            "why": d["reason"],
        }
    (soup,) = chosen
    assert accuracies(soup) in [accuracies_of(trial) for trial in found["trials"]]
    assert f"greedy soup: {soup['network'].replace(' ', ', ')}; written to" in said.err


def accuracies_of(trial: dict[str, Any]) -> dict[str, str]:
    return {metric: percent(entry) for metric, entry in trial["metrics"].items()}


def test_select_prints_what_its_json_says(soupmerge: Typed, tables: Tables, larder: Path) -> None:
    found, said = both(soupmerge, "select", larder / "grid")
    (rows,) = tables(said)
    (row,) = rows
    assert row["network"] == " ".join(f"{w:.3g}" for w in found["recipe"]["weights"]["model"])
    assert {m: row[m] for m in found["metrics"]} == {
        m: percent(t) for m, t in found["metrics"].items()
    }
    ties = re.findall(r"^tied: (.*); the chosen soup is (\S+) points", said.err, re.MULTILINE)
    assert [t[0] for t in ties] == [
        ", ".join(f"{w:.3g}" for w in t["weights"]) for t in found["ties"]
    ]
    gaps = [100 * tie["gap"]["mean"] for tie in found["ties"]]
    assert [float(gap) for _, gap in ties] == pytest.approx(gaps, abs=0.051)


@pytest.mark.parametrize(
    ("words", "x", "y"),
    [([], "clean", "union"), (["--x", "union", "--y", "clean"], "union", "clean")],
)
def test_the_knee_is_the_library_s(
    soupmerge: Typed, larder: Path, tmp_path: Path, words: list[str], x: str, y: str
) -> None:
    """On soups of which each is the answer to another question: best, knee, and both ways round."""
    flags = [(9, 1), (8, 4), (5, 7), (2, 8), (7, 5)]
    home = shutil.copytree(larder / "grid", tmp_path / "run")
    trials = planted(home, flags)
    chosen = json.loads(soupmerge("select", home, "--knee", *words, "--json").out)
    knee = trials.knee(x, y)
    assert chosen["recipe"]["weights"]["model"] == list(knee.recipe.mean_weights)
    others = [trials.best(m).recipe.mean_weights for m in ("clean", "union")]
    assert knee.recipe.mean_weights not in others


def planted(home: Path, counts: list[tuple[int, int]]) -> sm.Trials:
    """Replace the trials of the grid at *home* by soups that get so many of ten images right."""
    import torch

    from soupmerge.soups.judge.trials import Trial
    from soupmerge.storage.journal import Journal

    file = home / "trials.jsonl"
    found = Journal(file).records[0]
    file.unlink()
    trials = []
    for i, (clean, robust) in enumerate(counts):
        recipe = sm.Recipe.from_json({**found["recipe"], "weights": {"model": [1 - i / 8, i / 8]}})
        flags = {"clean": torch.arange(10) < clean, "linf:0.1": torch.arange(10) < robust}
        attacks = {"linf:0.1": {"attack": "apgd-ce", "steps": 1}}
        trials.append(Trial(recipe, sm.Report({"ref": "x", "n": 10}, flags, attacks)))
        Journal(file).append(trials[-1].to_record())
    return sm.Trials(tuple(trials))


def test_adapt_prints_what_its_json_says(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], tmp_path: Path
) -> None:
    words = [
        "adapt",
        *ingredients[:2],
        *FEW,
        "--data",
        "blur-2:digits",
        "--shots",
        3,
        "--step",
        "0.5",
    ]
    found, said = both(soupmerge, *words, "-o", tmp_path / "run")
    rows, soups = tables(said)
    assert len(rows) == len(found["rows"])
    for row, known in zip(rows, found["rows"], strict=True):
        assert (row["network"], row["#FP"]) == (known["name"], f"×{known['passes']}")
        for name, metric in known["sets"].items():
            assert row[name] == f"{100 * metric['accuracy']:.1f}"
        assert row["MEAN"] == f"{100 * known['mean']:.1f}"
    chosen = {"all sets": found["single"], **found["specific"]}
    for row in soups:
        weights = chosen.pop(row["chosen on"])["weights"]["model"]
        assert row["coefficients of a, b"] == " ".join(f"{w:.3g}" for w in weights)
    assert chosen == {}
    assert "judged on 9 images of each set, which chose nothing" in said.out


def test_learn_prints_what_its_json_says(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], tmp_path: Path
) -> None:
    learning = ["learn", *ingredients[:2], *FEW, "--epochs", 1, "--augment", "none", "--eps", "0"]
    judged = ["--judge-split", "test", "--judge-limit", 12, *JUDGE[4:]]
    found, said = both(soupmerge, *learning, *judged, "-o", tmp_path / "run")
    mixed, rows = tables(said)
    (trial,) = found["trials"]
    shown = {row["ingredient"]: float(row["mean coefficient"]) for row in mixed}
    assert shown == pytest.approx(dict(zip("ab", trial["weights"], strict=True)), abs=1e-4)
    assert accuracies(rows[0]) == accuracies_of(trial)
    assert said.err.startswith("2 ingredients, 12 images, 1 step: linf-0")


def test_a_sweep_prints_what_its_json_says(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], larder: Path, tmp_path: Path
) -> None:
    learning = [
        "learn",
        *ingredients[:2],
        *FEW,
        "--epochs",
        1,
        "--augment",
        "none",
        "--eps",
        "0,0.1",
    ]
    judged = ["--judge-split", "test", "--judge-limit", 12, "--threat", "linf:0.1", "--steps", 1]
    more = ["--seeds", 2, "--seed", 3, "--beside", larder / "grid"]
    result, said = both(soupmerge, *learning, *judged, *more, "-o", tmp_path / "run")
    mixed, rows, spread = tables(said)
    names = ["linf-0-seed3", "linf-0-seed4", "linf-0.1-seed3", "linf-0.1-seed4"]
    assert [trial["name"] for trial in result["trials"]] == names == [row["soup"] for row in mixed]
    for row, trial in zip(mixed, result["trials"], strict=True):
        assert [float(row[n]) for n in "ab"] == pytest.approx(trial["weights"], abs=1e-4)
    known = {trial["name"]: trial["metrics"] for trial in result["trials"]}
    known |= {name: found["metrics"] for name, found in result["baselines"].items()}
    assert {row["network"] for row in rows} == set(known)
    for row in rows:
        assert {m: row[m] for m in known[row["network"]]} == {
            m: percent(t) for m, t in known[row["network"]].items()
        }
    for row in spread:
        goal = row["mean (lowest–highest) of 2 seeds"]
        for metric, found in result["spread"].items():
            mean, low, high = (100 * n for n in found[goal])
            assert row[metric] == f"{mean:.1f}% ({low:.1f}–{high:.1f})"
    assert said.err.startswith("2 ingredients, 12 images, 4 soups, 1 step each: linf-0, linf-0.1")


def test_beside_a_sweep_are_the_bests_of_the_grid_and_the_uniform_soup(
    soupmerge: Typed, ingredients: list[Path], larder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: dict[str, Any] = {}

    def sweep(*args: Any, **settings: Any) -> Any:
        caught.update(settings)
        raise sm.errors.UsageError("enough")

    monkeypatch.setattr(sm, "sweep", sweep)
    line = [
        "learn",
        *ingredients[:2],
        *FEW,
        "--eps",
        "0",
        "--judge-split",
        "test",
        "--threat",
        "linf:0.1",
    ]
    soupmerge(*line, "--beside", larder / "grid", "-o", "run")
    bests = [(larder / "grid" / "best" / f"{m}.json") for m in ("clean", "linf-0.1", "union")]
    weights = [tuple(json.loads(path.read_text())["weights"]["model"]) for path in bests]
    assert {r.weights[0] for r in caught["beside"].values()} == {(0.5, 0.5), *weights}
    assert "uniform" in caught["beside"]


def test_landscape_prints_what_its_json_says(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], tmp_path: Path
) -> None:
    words = ["landscape", *ingredients, *FEW, "--points", 2, "--threat", "linf:0.1", "--steps", 1]
    result, said = both(soupmerge, *words, "-o", tmp_path / "run")
    (rows,) = tables(said)
    points = dict(zip("abc", result["points"], strict=False))
    for metric in ("clean", "linf:0.1"):
        points[f"lowest {metric} loss"] = min(
            result["points"], key=lambda p: p["metrics"][metric]["loss"]
        )
    assert [row["point"] for row in rows] == list(points)
    for row, point in zip(rows, points.values(), strict=True):
        assert (float(row["x"]), float(row["y"])) == pytest.approx(
            (point["x"], point["y"]), rel=1e-3, abs=1e-6
        )
        for metric, found in point["metrics"].items():
            assert row[f"{metric} loss"] == f"{found['loss']:.4f}"
            assert row[f"{metric} accuracy"] == f"{found['accuracy']:.1%}"
    assert said.err.startswith("7 points, 12 images, 1 threat")


def test_check_prints_what_its_json_says(
    soupmerge: Typed, tables: Tables, ingredients: list[Path]
) -> None:
    result, said = both(soupmerge, "check", *ingredients, *FEW, "--points", 3)
    assert (result["compatible"], result["problems"]) == (True, [])
    assert set(result["basin"]) == {"verdict", "barriers", "reasons"}
    verdict, signs, barriers = tables(said)
    assert verdict[0]["compatible"] == "yes: 3 checkpoints of 20 tensors"
    assert verdict[0]["family"].startswith("unknown")
    assert set(result["family"]) <= set("abc")
    assert verdict[0]["basin"].startswith(result["basin"]["verdict"])
    assert [row["pair"] for row in barriers] == ["a – b", "a – c", "b – c"]
    for row, found in zip(barriers, result["basin"]["barriers"], strict=True):
        assert (
            row["barrier, points of error"] == f"{100 * found['height']:+.1f} at {found['at']:.1f}"
        )
        low, high = (100 * end for end in found["interval"])
        assert row["interval"] == f"{low:+.1f} to {high:+.1f}"
        ends = [point["error"] for point in (found["points"][0], found["points"][-1])]
        assert row["error at its ends"] == ", ".join(f"{end:.1%}" for end in ends)
        assert row["verdict"].startswith(found["verdict"])
    assert [row["block"] for row in signs] == [
        block["block"] for block in result["signs"]["blocks"]
    ]


def test_mix_prints_what_its_json_says(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    found, said = both(soupmerge, "mix", *ingredients, "-w", "1/2,1/4,1/4", "-o", out, "--force")
    (rows,) = tables(said)
    soup = sm.load(out)[0]
    assert rows == [
        {
            "soup": str(out),
            "tensors": str(len(soup)),
            "bytes": str(found["bytes"]),
            "sha256": found["sha256"],
        }
    ]
    assert found["sha256"] == soup.sha256
    assert found["bytes"] == sum(t.numel() * t.element_size() for t in soup.values())
    assert found["recipe"]["weights"] == {"model": [0.5, 0.25, 0.25]}


def test_a_plan_says_what_would_be_written(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "folder"
    line = [
        "mix",
        *ingredients[:2],
        "-w",
        "0.25,0.75",
        "-o",
        out,
        "--max-shard-size",
        "1KB",
        "--head",
        "skip",
    ]
    found, said = both(soupmerge, *line, "--dry-run")
    assert not out.exists()
    (rows,) = tables(said)
    plan = {row["plan"]: row[""] for row in rows}
    assert plan["a"] == "coefficient 0.25"
    assert plan["b"] == "coefficient 0.75"
    assert soupmerge(*line).status == 0
    written = sm.load(out)[0]
    assert found["tensors"] == len(written)
    assert found["bytes"] == sum(t.numel() * t.element_size() for t in written.values())
    assert found["files"] == len(list(out.glob("*.safetensors"))) > 1
    files, size = found["files"], found["bytes"]
    assert plan["would write"] == f"{out}: {len(written)} tensors, {size:,} bytes, {files} files"
    read = sum(Path(ingredient).stat().st_size for ingredient in ingredients[:2])
    assert plan["would read"] == f"{read:,} bytes, twice (once to hash)"
    assert plan["copied, left out"] == "0 tensors, 2 tensors"
    assert plan["groups"].startswith("1 (by model)")


def test_inspect_prints_what_its_json_says(
    soupmerge: Typed, larder: Path, ingredients: list[Path]
) -> None:
    found, said = both(soupmerge, "inspect", ingredients[0], larder / "grid" / "soup.safetensors")
    first, second = found
    assert first["ref"] == str(ingredients[0])
    for value in (first["sha256"], second["sha256"]):
        assert value in said.out
    assert second["notes"]["recipe"]["origin"] == "grid"
    assert "digits, val, 8 of it" in second["images behind it"]
    assert all(line in said.out for line in second["family"])


def test_export_prints_what_its_json_says(
    soupmerge: Typed, tables: Tables, ingredients: list[Path], tmp_path: Path
) -> None:
    parsed = json.loads(soupmerge("export", ingredients[0], "-o", tmp_path / "one", "--json").out)
    said = soupmerge("export", ingredients[0], "-o", tmp_path / "two")
    ((row,),) = tables(said)
    assert row | {"folder": ""} == parsed | {"folder": ""}
    assert (parsed["folder"], row["folder"]) == (str(tmp_path / "one"), str(tmp_path / "two"))
    assert parsed["sha256"] == sm.load(tmp_path / "one")[0].sha256
    assert float(parsed["largest difference of logits"]) <= 1e-4


def test_the_list_of_a_site_is_the_same_in_json(soupmerge: Typed, tables: Tables) -> None:
    found, said = both(soupmerge, "pull", "--list", "rb:cifar10/L2")
    (rows,) = tables(said)
    assert [row["checkpoint"] for row in rows] == [entry["ref"] for entry in found]
    assert [float(row["robust"]) for row in rows] == [float(entry["robust"]) for entry in found]
    assert len(found) > 10
