"""Figures and pages say which outputs accuracies are of, where these are not all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

import soupmerge as sm
from soupmerge.figures import drawing, style
from soupmerge.figures.page.writing import write_page
from soupmerge.figures.reading import read_run
from soupmerge.figures.remarks import outputs_that_count, remarks
from tests.sources.levels import Levels, saved

OUTPUTS = sm.Outputs(((3,), (8,)), of=10, ref="pets")


def images(ref: str = "folder:pets", outputs: sm.Outputs | None = OUTPUTS) -> sm.Images:
    pixels, labels = torch.rand(12, 1, 4, 4), torch.arange(12) % 2
    ids = [f"{ref}/{i}" for i in range(12)]
    return sm.Images(ref, "val", ids, pixels, labels, 2, ("cat", "ship"), outputs)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    nets = sm.load(*(saved(tmp_path / f"{s}.safetensors", s) for s in (1.0, 2.0)))
    sm.grid(Levels(), nets, sm.Benchmark(images()), step="0.5", run=sm.Run(tmp_path / "run"))
    return tmp_path / "run"


def test_a_page_says_which_outputs_count(grid: Path, tmp_path: Path) -> None:
    run = read_run(grid)
    assert outputs_that_count(run) == ["2 of 10 outputs"]
    assert "Accuracies are those of 2 of 10 outputs." in list(remarks(run))
    page = Path(write_page([run], tmp_path / "page.html")).read_text()
    assert "12 images of folder:pets (val), 2 of 10 outputs, sha256" in page
    assert "Accuracies are those of 2 of 10 outputs." in page


def test_every_figure_says_which_outputs_count(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = style.save

    def keeping(figure: Figure, *more: Any) -> list[str]:
        drawn.append(figure)
        return save(figure, *more)

    monkeypatch.setattr(style, "save", keeping)
    drawing.draw(grid)
    assert drawn
    assert {figure.get_suptitle() for figure in drawn} == {"2 of 10 outputs"}


def test_sets_are_named_where_there_are_several(tmp_path: Path) -> None:
    nets = sm.load(*(saved(tmp_path / f"{s}.safetensors", s) for s in (1.0, 2.0)))
    plain = sm.Images.of(torch.rand(12, 1, 4, 4), torch.arange(12) % 10, ref="folder:air")
    sets, run = [images("folder:pets"), plain], sm.Run(tmp_path / "run")
    sm.adapt(Levels(), nets, sets, shots=4, step=1, run=run)
    assert outputs_that_count(read_run(tmp_path / "run")) == ["folder:pets: 2 of 10 outputs"]


def test_all_outputs_are_not_spoken_of(tmp_path: Path) -> None:
    figure = style.new_figure(3, 2)
    style.say_outputs(figure, [])
    assert figure.get_suptitle() == ""
    style.say_outputs(figure, ["$x: 2 of 10 outputs", "a-long-name: 3 of 10 outputs"])
    lines = figure.get_suptitle().splitlines()
    assert lines[0].startswith(r"\$x: 2 of 10 outputs;")
    assert max(map(len, lines)) <= 49
