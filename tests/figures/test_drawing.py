"""Which figures a run has, in which files, and that all that is written in them can be read."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.figures import style
from soupmerge.figures.drawing import PICTURES, draw
from soupmerge.figures.reading import RunRecord, read_run
from tests.figures import drawn
from tests.figures.planted import THREE, Runs, judge

FIGURES = {
    "lattice": ["ternary", "front"],
    "pair": ["path", "front"],
    "race": ["front"],
    "greedy": ["front"],
    "path": ["path", "front"],
    "beyond": ["path", "front"],
    "search": ["front"],
    "learn": ["learning", "coefficients"],
    "front": ["trade-off", "coefficients-over-preference", "learning"],
    "front_of_three": ["front", "preferences", "learning"],
    "sweep": ["sweep"],
    "adapt": ["shifts"],
    "finetune": ["learning"],
    "judged": ["comparison"],
    "clean": ["comparison"],
    "landscape": ["landscape"],
    "check": ["barriers"],
}
"""Kind of run → its figures, in the order in which they are drawn."""


@pytest.mark.parametrize("kind", FIGURES)
def test_every_run_has_its_figures_and_all_that_is_written_can_be_read(
    runs: Runs, kind: str
) -> None:
    found: RunRecord = getattr(runs, kind)[0]
    figures = {name: figure for name, of in PICTURES.items() if (figure := of(found))}
    assert list(figures) == FIGURES[kind]
    for name, figure in figures.items():
        assert drawn.unreadable(figure) == [], name


PANELS = {
    "ternary": 4, "front": 3, "path": 4, "sweep": 3, "comparison": 3, "learning": 5, "landscape": 4,
    "barriers": 3, "trade-off": 1, "preferences": 4,
}  # fmt: skip
"""Figure → its panels, of a run of three ingredients, or of a path."""

LEARNED_FRONT = ("front_of_three", "learning")
"""What has a panel more than `PANELS` says, for the losses of each objective."""


@pytest.mark.parametrize(
    "kind", ["lattice", "path", "sweep", "judged", "learn", "landscape", "check", "front_of_three"]
)
def test_panels_are_of_a_size_to_be_read_and_fill_their_paper(runs: Runs, kind: str) -> None:
    found = getattr(runs, kind)[0]
    for name in set(FIGURES[kind]) & set(PANELS):
        figure = drawn.some(PICTURES[name](found))
        drawn.words(figure)  # lays it out
        inches = figure.dpi_scale_trans.inverted()
        real = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        boxes = [axes.get_window_extent().transformed(inches) for axes in real]
        boxes = [box for box in boxes if box.height > 0.5]  # the others are bars of colour
        assert len(boxes) == (6 if (kind, name) == LEARNED_FRONT else PANELS[name])
        for box in boxes:
            assert 1.2 < box.height < 3.4, name
            assert 1.9 < box.width < 4.2, name
        width, height = figure.get_size_inches()
        filled = sum(box.width * box.height for box in boxes) / (width * height)
        assert 0.3 < filled < 0.85, f"{name} is lost on its paper, or leaves no room for words"


@pytest.mark.parametrize("kind", ["lattice", "race", "sweep", "long sweep", "judged"])
def test_names_of_dots_stay_inside_their_panels(runs: Runs, kind: str) -> None:
    found = getattr(runs, kind.removeprefix("long "))[0]
    if kind.startswith("long"):
        named = {f"{name}.safetensors": f"{name}-{'W' * 40}" for name in THREE}
        trials = [{**r, "ref": named.get(Path(r["ref"]).name, r["ref"])} for r in found.trials]
        found = dataclasses.replace(found, trials=trials)
    (figure,) = (f for name, of in PICTURES.items() if name != "ternary" and (f := of(found)))
    drawn.words(figure)  # lays it out
    for axes in figure.axes:
        frame = axes.get_window_extent()
        for text in axes.texts:
            if text.get_text().count("\n") < 5:  # else it is the list of all names
                box = text.get_window_extent()
                assert frame.x0 - 1 < box.x0 < box.x1 < frame.x1 + 1, text
                assert frame.y0 - 1 < box.y0 < box.y1 < frame.y1 + 1, text


LONG = (
    "resnet18_linf_8_255_epoch_200",
    "resnet18_l2_128_255_epoch_200",
    "clean-and-as-long-a-name",
)


@pytest.mark.parametrize(
    "kind", ["lattice", "pair", "beyond", "landscape", "learn", "adapt", "front"]
)
def test_wide_names_are_not_cut_off_or_written_over_each_other(runs: Runs, kind: str) -> None:
    found = getattr(runs, kind)[0]
    inputs = [{"ref": letter * 40} for letter in "WMQ"[: len(found.names)]]
    found = dataclasses.replace(found, manifest={**found.manifest, "inputs": inputs})
    for of in PICTURES.values():
        if (figure := of(found)) is not None:
            assert drawn.unreadable(figure) == []


@pytest.mark.parametrize("kind", ["ternary", "front", "path", "landscape", "barriers"])
def test_long_names_are_not_cut_off_or_written_over_each_other(runs: Runs, kind: str) -> None:
    ingredients, home = runs.ingredients(LONG), runs.home / "long"
    if kind == "landscape":
        found, _ = runs.plane("long plane", LONG)
    elif kind == "barriers":
        found, _ = runs.segments("long segments", LONG)
    elif kind == "path":
        settings = {"points": 5, "beyond": 0.25, "buffers": sm.Buffers("base")}
        sm.path(
            runs.net, runs.ingredients(LONG[:2]), judge(), run=sm.Run(home / "path"), **settings
        )
        found = read_run(home / "path")
    else:
        sm.grid(runs.net, ingredients, judge(), run=sm.Run(home / "grid"))
        found = read_run(home / "grid")
    assert drawn.unreadable(drawn.some(PICTURES[kind](found))) == []


def test_figures_are_files_of_their_formats_and_the_same_each_time(runs: Runs) -> None:
    found, _ = runs.finetune
    formats = ("png", "svg", "pdf")
    paths = draw(found.path, formats)
    assert paths == [str(found.path / "figures" / f"learning.{form}") for form in formats]
    before = [Path(path).read_bytes() for path in paths]
    assert [data[:5] for data in before] == [b"\x89PNG\r", b"<?xml", b"%PDF-"]
    draw(read_run(found.path), formats)
    assert [Path(path).read_bytes() for path in paths] == before
    for data in before[1:]:
        assert not re.search(rb"<dc:date>|CreationDate|Matplotlib v", data)


def test_figures_are_png_unless_other_formats_are_asked_for(runs: Runs) -> None:
    found, _ = runs.finetune
    assert draw(found.path) == [str(found.path / "figures" / "learning.png")]


def test_a_dark_screen_shows_what_paper_does(runs: Runs) -> None:
    png, svg = draw(runs.check[0], ("png", "svg"))
    with Image.open(png) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
        assert picture.info["dpi"] == pytest.approx((200, 200), abs=1)
    assert (pixels[..., 3] == 255).all()
    assert (pixels[0, 0] == 255).all()
    ground = Path(svg).read_text().partition('id="patch_1"')[2].partition("/>")[0]
    assert "fill: #ffffff" in ground


def test_letters_that_the_font_lacks_are_boxes_and_no_warning(tmp_path: Path) -> None:
    figure = style.new_figure(2, 2)
    figure.add_subplot().set_title("\u4e2d\u6587 \U0001f372")
    assert style.save(figure, tmp_path / "a.b", ("png",)) == [str(tmp_path / "a.png")]


def test_what_is_no_run_or_holds_nothing_finished_cannot_be_drawn(
    runs: Runs, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        draw(tmp_path)
    empty = dataclasses.replace(runs.lattice[0], trials=[], recipe=None)
    with pytest.raises(InputError, match="no results to draw yet from grid"):
        draw(empty)


def test_a_record_that_lacks_something_is_named(runs: Runs) -> None:
    found, _ = runs.pair
    records = json.loads(json.dumps(found.trials))
    del records[1]["metrics"]["union"]
    with pytest.raises(
        InputError, match=r"pair: a record is incomplete or damaged: .*union.*; run its"
    ):
        draw(dataclasses.replace(found, trials=records))


def test_accuracies_are_written_in_percent_without_noise() -> None:
    assert [style.PERCENT(x) for x in (0.5, 0.125, 0.1 + 0.2, 1.0)] == [
        "50%",
        "12.5%",
        "30%",
        "100%",
    ]


@pytest.mark.parametrize(("which", "axes"), [("xy", "xy"), ("x", "x"), ("y", "y")])
def test_axes_in_percent_have_few_ticks(which: str, axes: str) -> None:
    panel = style.new_figure(4, 4).add_subplot()
    panel.set(xlim=(0, 0.93), ylim=(0, 0.93))
    style.percent_axes(panel, which)
    for letter in "xy":
        axis = getattr(panel, f"{letter}axis")
        assert (axis.get_major_formatter() is style.PERCENT) == (letter in axes)
        if letter in axes:
            assert 3 <= len(axis.get_ticklocs()) <= 7
    assert panel.xaxis.get_gridlines()[0].get_visible()


@pytest.mark.parametrize("most", [12, 28])
def test_a_label_is_cut_in_the_middle_to_its_length_and_width(most: int) -> None:
    name = "abcdefghijklmnopqrstuvwxyz0123456789"
    assert style.label(name[:most], most) == name[:most]
    cut = style.label(name, most)
    head, tail = cut.split("…")
    assert len(cut) == most
    assert name.startswith(head)
    assert name.endswith(tail)
    assert len(tail) == most * 2 // 5
    wide = style.label("W" * 40, most)
    assert len(wide) < most
    assert style.width(wide) <= most * style.DIGIT
    assert style.width(wide[:1] + wide) > most * style.DIGIT, "no shorter than it must be"
    assert style.label("i" * 40, most) == style.label("i" * 41, most)
    assert len(style.label("i" * 40, most)) == most, "never longer, however narrow"


def test_figures_are_of_the_size_that_is_asked_for() -> None:
    figure = style.new_figure(3, 2)
    assert tuple(figure.get_size_inches()) == (3, 2)
    assert type(figure.get_layout_engine()).__name__ == "ConstrainedLayoutEngine"
    assert style.new_figure(3, 2, layout=None).get_layout_engine() is None


def test_an_earlier_figure_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("old")
    (tmp_path / "b.png").write_text("mine")
    figure = style.new_figure(2, 2)
    assert style.save(figure, tmp_path / "a") == [str(tmp_path / "a.png")]
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "b.png").read_text() == "mine"
