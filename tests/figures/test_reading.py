"""What figures and pages read from run folders: fronts, chords, names, depth, what is missing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.figures import reading
from soupmerge.figures.reading import ends, name_of, read_run, short_names
from soupmerge.figures.remarks import remarks
from soupmerge.pareto import front
from soupmerge.weights.groups import block_of
from tests.figures.planted import Runs

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30)


@given(POINTS)
def test_the_ends_of_a_chord_are_the_ends_of_the_front(points: list[tuple[float, float]]) -> None:
    kept = front(points)
    assert ends(points) == (points[kept[0]], points[kept[-1]])


@pytest.mark.parametrize(
    ("places", "values", "line"),
    [
        ([0, 0.5, 1], [2, 9, 4], [2, 3, 4]),
        ([-0.5, 0, 1, 1.5], [9, 2, 4, 9], [1, 2, 4, 5]),
        ([0.25, 0.5, 0.75], [2, 9, 4], [2, 3, 4]),  # a race dropped the ingredients
        ([0.25, 0.5, 1], [1, 9, 4], [1, 2, 4]),
        ([0.5], [3], [3]),
    ],
)
def test_a_chord_goes_through_the_ingredients(
    places: list[float], values: list[float], line: list[float]
) -> None:
    assert reading.chord(places, values) == line


def test_names_tell_the_depth_of_blocks_where_no_run_does() -> None:
    names = sm.model("resnet18-cifar?width=2").state_dict()
    blocks = list(dict.fromkeys(map(block_of, names)))
    assert sorted(sorted(blocks), key=reading.depth) == blocks
    transformer = ["patch_embed.proj", "blocks.0.norm1", "blocks.2.attn", "blocks.10.attn", "head"]
    assert sorted(sorted(transformer), key=reading.depth) == transformer


def test_the_order_of_groups_that_a_run_notes_is_taken(runs: Runs) -> None:
    found, _ = runs.learn
    order = list(reversed(found.trials[0]["depth"]))
    other = dataclasses.replace(found, trials=[{**found.trials[0], "depth": order}])
    assert (reading.coefficients(other) or ([], []))[0] == order
    wrong = dataclasses.replace(found, trials=[{**found.trials[0], "depth": order[1:]}])
    assert (reading.coefficients(wrong) or ([], []))[0] == sorted(order, key=reading.depth)


@pytest.mark.parametrize(
    ("refs", "names"),
    [
        (["a/x.pt", "b/y.pt"], ["x", "y"]),
        (["a/x.pt", "b/x.pt", "c/y.pt"], ["a/x.pt", "b/x.pt", "y"]),
        (["a/x.pt", "a/x.pt"], ["x", "x"]),
        (["run/soup.safetensors", "soup.safetensors"], ["run", "soup"]),
        (["a\x1bb.pt"], ["a\\x1bb"]),
    ],
)
def test_names_are_as_short_as_tells_them_apart(refs: list[str], names: list[str]) -> None:
    assert short_names(refs) == names


def test_data_and_resolution_are_named_where_they_differ() -> None:
    def record(ref: str, size: int | None = None) -> dict[str, Any]:
        return {"ref": "net.pt", "data": {"ref": ref, **({"resolution": size} if size else {})}}

    one, other = record("folder:/a/b"), record("cifar10")
    assert [name_of(r, [one, other]) for r in (one, other)] == ["net b", "net cifar10"]
    small, large = record("cifar10", 32), record("cifar10", 64)
    assert [name_of(r, [small, large]) for r in (small, large)] == ["net 32", "net 64"]
    assert name_of(one, [one, one]) == "net"


@pytest.mark.parametrize(
    ("metrics", "stand"),
    [
        (["clean"], ["clean"]),
        (["clean", "l2:1", "union"], ["l2:1"]),
        (["clean", "l2:1", "l1:2", "union"], ["l2:1", "l1:2", "union"]),
        (["clean", "union"], ["union"]),
    ],
)
def test_what_stands_against_clean(metrics: list[str], stand: list[str]) -> None:
    assert reading.plotted_metrics({"metrics": dict.fromkeys(metrics, {})}) == stand


FINISHED = "lattice pair race greedy path search learn sweep adapt finetune judged landscape check"


@pytest.mark.parametrize("kind", FINISHED.split())
def test_of_a_finished_run_nothing_is_remarked(runs: Runs, kind: str) -> None:
    assert list(remarks(getattr(runs, kind)[0])) == []


@pytest.mark.parametrize("kind", ["finetune", "landscape"])
def test_a_run_that_lacks_records_is_not_finished(runs: Runs, kind: str) -> None:
    found, _ = getattr(runs, kind)
    some = {"finetune": {"history": found.history[:-1]}, "landscape": {"trials": found.trials[:-1]}}
    (first, *_) = remarks(dataclasses.replace(found, **some[kind]))
    assert first.startswith("The run is not finished")


def test_a_run_without_its_last_file_is_not_finished(runs: Runs, tmp_path: Path) -> None:
    found, _ = runs.lattice
    for name in ("manifest.json", "trials.jsonl"):
        (tmp_path / name).write_bytes((found.path / name).read_bytes())
    (remark,) = remarks(read_run(tmp_path))
    assert remark.startswith("The run is not finished")


def test_a_run_is_called_by_its_folder_and_command(runs: Runs) -> None:
    assert runs.lattice[0].title == "lattice (grid)"
