"""Soups for shifted images: a few labelled ones choose, the others judge."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.soups.lattice import lattice
from soupmerge.soups.search.adapt import best_of
from soupmerge.soups.search.adaptation import Adaptation
from soupmerge.soups.search.shots import draw
from soupmerge.weights import ledger
from tests.shared import Outcome, Stop, files_of, stop_at
from tests.soups.planted import Planted, Row, first, images, make_ingredients, report, some_flags

N, SHOTS, REFS = 40, 15, ("npz:one.npz", "npz:two.npz")
LATTICE = list(lattice(3, 2))


# ---- the choice


@given(st.integers(0, 10_000))
def test_the_best_on_all_sets_and_on_each_are_those_of_the_highest_counts(seed: int) -> None:
    draw = np.random.default_rng(seed)
    counts = draw.integers(0, 4, (7, 3))
    reports = [[report(*first(int(n), n=4)) for n in row] for row in counts]
    among = [int(i) for i in draw.permutation(7)[:5]]
    single, specific = best_of(reports, among)
    assert single in among
    assert counts[single].sum() == max(counts[i].sum() for i in among)
    for s, chosen in enumerate(specific):
        top = [i for i in among if counts[i, s] == max(counts[j, s] for j in among)]
        assert chosen in top
        assert counts[chosen].sum() == max(counts[i].sum() for i in top)


def test_of_soups_that_are_equal_on_a_set_the_better_on_all_is_taken() -> None:
    """The first two have 3 of 4 right on the first set; the second is better on both together."""
    reports = [[report(*first(n, n=4)) for n in row] for row in ((3, 0), (3, 2), (1, 3))]
    assert best_of(reports, range(3)) == (1, (1, 2))


# ---- adapting


def sets() -> list[sm.Images]:
    """Return two sets of the same ids, whose images ask for rows 0 and 1 of the table."""
    found = []
    for row, ref in enumerate(REFS):
        data = images(N, ref)
        data.pixels[:, 0, 0, 2] = row
        found.append(data)
    return found


def adapt(tmp_path: Path, table: Any, **options: Any) -> Adaptation:
    ingredients = make_ingredients(tmp_path / "in", 3)
    settings, net = {"shots": SHOTS, "step": 0.5, **options}, Planted(3, table)
    net.soupmerge_ref = "planted"  # type: ignore[assignment]
    return sm.adapt(net, ingredients, sets(), **settings)


def rights(table: Any, row: Row) -> tuple[Any, Any]:
    """Return how many of the choosing and of the judging images are right, for each set."""
    parts = draw(sets()[0], SHOTS, 0)
    flags = np.asarray(table(row))
    chose, judged = (flags[:, [int(id) for id in part.ids]].sum(1) for part in parts)
    return chose, judged


@pytest.mark.parametrize("seed", range(3))
def test_what_chose_and_what_judged_are_those_of_the_table(tmp_path: Path, seed: int) -> None:
    table = some_flags(seed, N)
    found = adapt(tmp_path, table)
    assert found.sets == ("one.npz", "two.npz")
    assert [recipe.weights for recipe in found.recipes] == [(row,) for row in LATTICE]
    assert {recipe.origin for recipe in found.recipes} == {"adapt"}
    chose = {row: rights(table, row)[0] for row in LATTICE}
    for row, reports in zip(LATTICE, found.choosing, strict=True):
        assert [r.correct("clean") for r in reports] == chose[row].tolist()
        assert [r.n for r in reports] == [SHOTS, SHOTS]
    single, specific = best_of(found.choosing, range(len(LATTICE)))
    assert found.single.weights == (LATTICE[single],)
    assert [recipe.weights for recipe in found.specific] == [(LATTICE[i],) for i in specific]
    pure = [LATTICE.index(tuple(row)) for row in np.eye(3).tolist()]
    best, best_of_each = best_of(found.choosing, pure)
    expected = {
        "0": [pure[0]] * 2,
        "1": [pure[1]] * 2,
        "2": [pure[2]] * 2,
        f"best individual, {pure.index(best)}": [best] * 2,
        "best individual for each set": list(best_of_each),
        "single soup": [single] * 2,
        "a soup for each set": list(specific),
    }
    judged = {row.name: row for row in found.rows}
    for name, soups in expected.items():
        right = [int(rights(table, LATTICE[i])[1][s]) for s, i in enumerate(soups)]
        assert [r.correct("clean") for r in judged[name].reports] == right
        assert judged[name].accuracies == pytest.approx([n / (N - SHOTS) for n in right])
        assert judged[name].mean == pytest.approx(sum(right) / 2 / (N - SHOTS))
        assert judged[name].passes == 1
    assert [row.name for row in found.rows if row.name not in expected] == [
        "prob ensemble",
        "logit ensemble",
    ]


def test_ensembles_ask_every_ingredient_and_the_most_sure_wins(tmp_path: Path) -> None:
    """Members give logits 1 and 0, so an ensemble is right where two of three are."""
    table = some_flags(0, N)
    found = {row.name: row for row in adapt(tmp_path, table).rows}
    judging = [int(id) for id in draw(sets()[0], SHOTS, 0)[1].ids]
    flags = np.array([table(tuple(row)) for row in np.eye(3).tolist()])
    expected = (flags.sum(0) >= 2)[:, judging].sum(1).tolist()
    for name in ("prob ensemble", "logit ensemble"):
        assert found[name].passes == 3
        assert [r.correct("clean") for r in found[name].reports] == expected


def test_a_run_keeps_recipes_roles_and_the_table(tmp_path: Path) -> None:
    run, table = tmp_path / "run", some_flags(0, N)
    found = adapt(tmp_path, table, run=sm.Run(run))
    parsed = json.loads((run / "adapted.json").read_text())
    assert parsed == json.loads(json.dumps(found.summary()))
    assert parsed["soups"] == len(LATTICE)
    assert parsed["single"] == found.single.to_json()
    assert parsed["specific"] == {
        name: recipe.to_json() for name, recipe in zip(found.sets, found.specific, strict=True)
    }
    assert list(parsed["sets"]) == ["one.npz", "two.npz"]
    for data in parsed["sets"].values():
        assert (data["chosen on"]["n"], data["judged on"]["n"]) == (SHOTS, N - SHOTS)
    for row, kept in zip(found.rows, parsed["rows"], strict=True):
        assert (kept["name"], kept["passes"], kept["mean"]) == (row.name, row.passes, row.mean)
        right = [kept["sets"][name]["correct"] for name in found.sets]
        assert right == [r.correct("clean") for r in row.reports]
    with open(run / "images.csv") as file:
        roles = list(csv.DictReader(file))
    assert len(roles) == 2 * N
    parts = [draw(data, SHOTS, 0) for data in sets()]
    assert [(row["set"], row["id"], row["role"]) for row in roles] == [
        (name, id, part.role)
        for name, both in zip(found.sets, parts, strict=True)
        for part in both
        for id in part.ids
    ]
    assert all(int(row["label"]) == int(row["id"]) % 10 for row in roles)
    prints = [part.fingerprint()["sha256"] for part, _ in parts]
    files = {
        "recipe.json": prints,
        "best/one.npz.json": prints[:1],
        "best/two.npz.json": prints[1:],
    }
    chosen = (found.single, *found.specific)
    for (name, seen), recipe in zip(files.items(), chosen, strict=True):
        kept = sm.Recipe.from_json(json.loads((run / name).read_text()))
        assert kept.weights == recipe.weights
        assert [entry["sha256"] for entry in kept.seen] == seen
        assert {(e["by"], e["purpose"]) for e in kept.seen} == {("adapt", ledger.CHOSEN)}
    soup = sm.load(run / "soup.safetensors")[0]
    ingredients = make_ingredients(tmp_path / "in", 3)
    assert torch.equal(soup["weight"], sm.mix(ingredients, found.single)["weight"])
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["command"], manifest["device"]) == ("adapt", "cpu")
    assert manifest["model"] == soup.model == "planted"
    assert [source["sha256"] for source in manifest["inputs"]] == list(ingredients.hashes)
    assert manifest["settings"] == {"step": "1/2", "shots": SHOTS, "seed": 0}
    for key, side in (("chosen on", 0), ("judged on", 1)):
        assert manifest[key] == [both[side].fingerprint() for both in parts]
    with pytest.raises(UsageError, match="contains an input"):
        adapt(tmp_path, table, run=sm.Run(tmp_path / "in", force=True))


def test_an_adaptation_goes_on_where_it_was_cut_and_asks_nothing_twice(tmp_path: Path) -> None:
    asked: list[Row] = []

    def table(row: Row) -> Any:
        asked.append(row)
        return some_flags(0, N)(row)

    whole = adapt(tmp_path, table, run=sm.Run(tmp_path / "whole"))
    every = len(asked)
    asked.clear()
    for n in (3, 10):
        with pytest.raises(Stop):
            adapt(tmp_path, table, run=sm.Run(tmp_path / "run", progress=stop_at(n, "networks")))
    assert adapt(tmp_path, table, run=sm.Run(tmp_path / "run")) == whole
    probes = 2 * 2 + 2  # of each set, at each beginning but the first
    assert len(asked) <= every + probes
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")
    asked.clear()
    assert adapt(tmp_path, table, run=sm.Run(tmp_path / "run")) == whole
    assert len(asked) == 2


def test_progress_counts_soups_then_contenders_and_the_images_of_each(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    run = sm.Run(progress=lambda what, done, total, note="": calls.append((what, done, total)))
    adapt(tmp_path, some_flags(0, N), run=run)
    networks = [(done, total) for what, done, total in calls if what == "networks"]
    soups, contenders = len(LATTICE), networks[-1][1]
    assert networks[: soups + 1] == [(i, soups) for i in range(soups + 1)]
    assert networks[soups + 1 :] == [(i, contenders) for i in range(contenders + 1)]
    assert {what for what, _, _ in calls} > {"networks"}


def test_records_of_other_networks_are_not_believed(tmp_path: Path) -> None:
    run, table = tmp_path / "run", some_flags(0, N)
    adapt(tmp_path, table, run=sm.Run(run))
    for name in ("trials", "judged"):
        path = run / f"{name}.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        for harm, says in (
            (lines[::-1], "another network"),
            (lines * 2, "holds .* records for .* networks"),
        ):
            path.write_bytes(b"".join(harm))
            with pytest.raises(InputError, match=rf"{name}\.jsonl: .*{says}.*--force"):
                adapt(tmp_path, table, run=sm.Run(run))
        path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"shots": 16}, "settings.shots was 15, now 16"),
        ({"seed": 1}, "settings.seed was 0, now 1"),
        ({"step": 1}, "settings.step was '1/2', now '1'"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    tmp_path: Path, settings: dict[str, Any], key: str
) -> None:
    run, table = tmp_path / "run", some_flags(0, N)
    adapt(tmp_path, table, run=sm.Run(run))
    with pytest.raises(UsageError) as refused:
        adapt(tmp_path, table, run=sm.Run(run), **settings)
    assert key in refused.value.problems
    found = adapt(tmp_path, table, run=sm.Run(run, force=True), **settings)
    assert found == adapt(tmp_path, table, **settings)


def test_another_batch_size_is_the_same_run(tmp_path: Path) -> None:
    run, table = tmp_path / "run", some_flags(0, N)
    assert adapt(tmp_path, table, run=sm.Run(run)) == adapt(
        tmp_path, table, run=sm.Run(run), batch_size=7
    )


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    ingredients, net = make_ingredients(tmp_path / "in", 3), Planted(3, some_flags(0, N))
    same = images(N, "npz:another-name.npz")
    for data, says in (([], "no data set"), ([images(N), same], "given more than once")):
        with pytest.raises(UsageError, match=f"^data: .*{says}"):
            sm.adapt(net, ingredients, data, shots=SHOTS, run=sm.Run(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_network_for_other_images_is_refused(ingredients: sm.Ingredients) -> None:
    wide = sm.Images.of(torch.rand(9, 3, 8, 8), torch.zeros(9, dtype=torch.long))
    net: nn.Module = sm.model(like=ingredients)
    with pytest.raises(InputError, match="cannot take images"):
        sm.adapt(net, ingredients, [wide], shots=4)


# ---- the command


def test_the_command_prints_the_table_and_its_recipes_make_soups(
    soupmerge: Callable[..., Outcome], ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "soup.safetensors"
    refs = [ingredient.ref for ingredient in ingredients][:2]
    words = ("adapt", *refs, "--data=jpeg-5:digits", "--limit", 30, "--shots", 20, "-o", run)
    typed = soupmerge(*words, "--step", 0.5)
    assert typed.status == 0, typed.err
    assert "MEAN" in typed.out
    assert "×2" in typed.out
    parsed = json.loads(soupmerge(*words, "--step", 0.5, "--json").out)
    assert parsed.pop("cost")["forward_evaluations"] == 0
    assert parsed == json.loads((run / "adapted.json").read_text())
    assert soupmerge("mix", "--recipe", run / "best" / "jpeg-5-digits.json", "-o", out).status == 0
    assert out.read_bytes() == (run / "soup.safetensors").read_bytes()
    assert soupmerge("report", run).status == 0
    page = (run / "report.html").read_text()
    for row in parsed["rows"]:
        assert f">{row['name']}<" in page
        assert f"{row['mean']:.1%}" in page


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--data digits --data digits", "more than once"),
        ("--data digits --shots 300", "1 to 299"),
        ("--data blurr-3:digits", "'blur'"),
        ("--data digits --step 0.3", "0.3"),
    ],
)
def test_what_cannot_be_meant_makes_no_run(
    soupmerge: Callable[..., Outcome],
    ingredients: sm.Ingredients,
    tmp_path: Path,
    words: str,
    expected: str,
) -> None:
    refs = [ingredient.ref for ingredient in ingredients]
    found = soupmerge("adapt", *refs, *words.split(), "-o", tmp_path / "run")
    assert found.status == 2
    assert expected in found.err
    assert not (tmp_path / "run").exists()
