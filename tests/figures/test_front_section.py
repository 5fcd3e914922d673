"""The front on a page: its positions, coefficients, names and commands, as the script gets them."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soupmerge as sm
from soupmerge.figures.judged_front import by_depth
from soupmerge.figures.page import front_section, panels, writing
from soupmerge.figures.page.contents import contents
from soupmerge.figures.reading import RunRecord, read_run
from tests.figures.pages import HOSTILE, Tags
from tests.figures.planted import THREE, Runs

Typed = Callable[..., Any]


def front_of(*runs: RunRecord) -> tuple[Any, Any]:
    """Return the data of a page of *runs*, and those of its front."""
    data = contents(runs)
    (front,) = data["fronts"]
    return data, front


def unjudged(run: RunRecord) -> RunRecord:
    return dataclasses.replace(run, trials=[], manifest={**run.manifest, "benchmark": None})


def test_the_slider_has_every_hundredth_and_every_judged_point(runs: Runs) -> None:
    run, learned = runs.front
    data, front = front_of(run)
    shares = [round(second, 12) for _, second in front["at"]]
    assert shares == [step / 100 for step in range(101)]
    assert front["objectives"] == ["clean", "Linf 0.1"]
    places = [i for i, soup in enumerate(front["judged"]) if soup is not None]
    assert places == [0, 20, 40, 60, 80, 100]
    for place, trial in zip(places, learned.points, strict=True):
        soup = data["soups"][front["judged"][place]]
        assert soup["name"] == front["names"][place] == f"λ = {place / 100:g}"
        assert soup["metrics"]["0"][0] == trial.judged().accuracy("clean")
    beside = [(data["soups"][i]["name"], data["soups"][i]["kind"]) for i in front["beside"]]
    assert beside[:4] == [*((name, "ingredient") for name in THREE), ("uniform", "uniform")]
    assert beside[4:] == [("grid-clean", "grid"), ("grid-union", "grid")]
    assert front["axes"] == [0, 1]


def test_a_judged_point_between_two_hundredths_is_a_position_of_its_own(runs: Runs) -> None:
    run, _ = runs.front
    third = {"clean": 1 - 1 / 3, "linf:0.1": 1 / 3}
    record = {**run.trials[1], "recipe": {**run.trials[1]["recipe"], "front": {"at": third}}}
    _, front = front_of(dataclasses.replace(run, trials=[record, *run.trials[2:]]))
    assert len(front["at"]) == 102
    assert list(front["at"][34]) == list(third.values())
    assert front["judged"][34] is not None


def test_coefficients_are_those_of_the_front_in_thousandths(runs: Runs) -> None:
    for run in (runs.front[0], runs.front_of_three[0]):
        _, front = front_of(run)
        assert run.front is not None
        for shares, table in zip(front["at"], front["coefficients"], strict=True):
            groups, rows = by_depth(run.front, shares)
            np.testing.assert_allclose(np.array(table) / front["scale"], rows, atol=0.0005001)
        assert front["groups"] == groups
        assert (front["least"], front["most"]) == (0, 1000)


def test_of_very_many_coefficients_there_are_fewer_positions(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 11 * 3 * 101
    for most, positions in ((size, 101), (size - 1, 21)):
        monkeypatch.setattr(front_section, "MOST_NUMBERS", most)
        assert len(front_of(runs.front[0])[1]["at"]) == positions


def test_every_option_is_the_preference_of_its_position(runs: Runs) -> None:
    for run in (runs.front[0], runs.front_of_three[0]):
        _, front = front_of(run)
        assert run.front is not None
        for shares, option in zip(front["at"], front["options"], strict=True):
            assert run.front.shares(option) == shares
    assert front["options"][:2] == ["1,0,0", "0.5,0.5,0"]


def test_three_objectives_have_their_judged_points_and_else_their_ends(runs: Runs) -> None:
    run, learned = runs.front_of_three
    _, front = front_of(run)
    shares = [tuple(dict(t.recipe.front or {})["at"].values()) for t in learned.points]
    assert front["at"] == shares
    assert front["names"][0] == "λ = (1, 0, 0)"
    data, front = front_of(unjudged(run))
    assert front["at"] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert (front["judged"], front["axes"], data["soups"]) == ([None] * 3, [], [])


def test_the_commands_name_the_front_and_the_preference(runs: Runs) -> None:
    run, _ = runs.front
    data, front = front_of(run)
    assert shlex.split(front["command"]) == [
        *("soupmerge", "mix", "--recipe", str(run.path / "front.json"))
    ]
    heads = [soup["make"][0] for soup in data["soups"]]
    assert heads[1] == f"{front['command']} --at 0.2 -o soup-2.safetensors"
    assert heads[6].startswith("soupmerge mix -w 1.0,0.0,0.0 ")


@pytest.mark.parametrize(("kind", "place"), [("front", 37), ("front_of_three", 4)])
def test_the_command_writes_the_soup_that_it_stands_beside(
    runs: Runs,
    soupmerge: Typed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    place: int,
) -> None:
    run, learned = getattr(runs, kind)
    _, front = front_of(run)
    monkeypatch.chdir(tmp_path)
    line = f"{front['command']} --at {front['options'][place]} -o soup.safetensors"
    assert soupmerge(*shlex.split(line)[1:]).status == 0
    made = sm.load("soup.safetensors")[0].notes_of_soupmerge["recipe"]
    wanted = learned.front.at(front["at"][place])
    assert made["weights"] == wanted.to_json()["weights"]
    assert made["front"] == {"sha256": learned.front.sha256, "at": dict(wanted.front["at"])}


def test_a_front_that_nobody_judged_has_a_page_too(runs: Runs) -> None:
    run = unjudged(runs.front[0])
    page = writing.page([run])
    tags = Tags(page).tags
    hidden = {attrs["id"] for _, attrs in tags if "hidden" in attrs and "id" in attrs}
    assert {"front-0-map", "front-0-back", "front-0-on", "all"} <= hidden
    assert '<input type="range" id="front-0-at" min="0" max="100"' in page


@pytest.mark.usefixtures("short")
def test_names_of_objectives_make_no_tag(runs: Runs) -> None:
    for found in (runs.front[0], runs.front_of_three[0]):
        assert found.front is not None
        names = tuple(HOSTILE[: len(found.front.objectives)])
        front = dataclasses.replace(found.front, objectives=names)
        trials = json.loads(json.dumps(found.trials))
        for record in trials:
            if point := record["recipe"].get("front"):
                point["at"] = dict(zip(names, point["at"].values(), strict=True))
        wild = Tags(writing.page([dataclasses.replace(found, front=front, trials=trials)]))
        mild = Tags(writing.page([found]))
        shapes = [[(tag, sorted(attrs)) for tag, attrs in one.tags] for one in (mild, wild)]
        assert shapes[0] == shapes[1]


@pytest.mark.usefixtures("short")
def test_a_section_says_what_lambda_is_and_of_several_runs_which(runs: Runs) -> None:
    two, three = runs.front[0], runs.front_of_three[0]
    texts = " ".join(Tags(writing.page([two])).texts)
    assert "Front between clean and Linf 0.1 " in texts
    assert "λ is the share of Linf 0.1: at 0, only clean counts." in texts
    texts = " ".join(Tags(writing.page([two, three])).texts)
    assert "Front between clean and Linf 0.1, front (front)" in texts
    assert "Front between clean, Linf 0.1 and L2 0.5, front of three (front)" in texts
    assert "λ has the shares of clean, Linf 0.1, L2 0.5, in this order." in texts


def test_losses_and_gaps_have_a_column_for_each_objective(runs: Runs) -> None:
    run, _ = runs.front
    found = {panel.title: panel for panel in panels.panels(run)}
    assert "Path between two ingredients" not in found
    for title, key in (
        ("Loss of each objective", "losses"),
        ("Frank-Wolfe gap at each end", "gaps"),
    ):
        panel = found[title]
        assert panel.header == ["epoch", "clean", "Linf 0.1"]
        for trace, name in zip(panel.data, ("clean", "linf:0.1"), strict=True):
            assert trace["y"] == [record[key][name] for record in run.history]
            assert trace["line"]["color"] == f"@metric:{name}"


def test_the_hash_of_the_front_is_on_the_page(runs: Runs, short: None) -> None:
    import hashlib

    run, _ = runs.front
    digest = hashlib.sha256((run.path / "front.json").read_bytes()).hexdigest()
    page = writing.page([read_run(run.path)])
    assert "sha256 of front.json" in page
    assert digest in page
