"""Names beside dots: inside the panel, and over neither dots nor each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from soupmerge.figures import style
from soupmerge.figures.labels import write_names
from tests.figures import drawn

PLACE = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda p: (p[0] / 20, p[1] / 20))
NAME = st.sampled_from(["a", "λ = 0.5", "resnet18_l2_128_255", "W" * 8, "two\nlines"])


def panel() -> Any:
    figure = style.new_figure(5, 4)
    axes = figure.add_subplot()
    axes.set(xlim=(-0.2, 1.2), ylim=(-0.2, 1.2))
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return axes


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(NAME, PLACE), max_size=6, unique_by=lambda pair: pair[1]))
def test_names_are_inside_and_cover_neither_dots_nor_each_other(names: list[Any]) -> None:
    axes = panel()
    dots = [place for _, place in names]
    axes.plot(*zip(*dots, strict=True), "o", markersize=5) if dots else None
    write_names(axes, names, dots)
    assert drawn.unreadable(axes.figure) == []
    frame = axes.get_window_extent()
    assert [(text.get_text(), text.xy) for text in axes.texts] == names
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 - 1 <= box.x0 <= box.x1 <= frame.x1 + 1
        assert not any(box.contains(*axes.transData.transform(dot)) for dot in dots)


def test_what_is_not_needed_is_left_out_where_there_is_no_room_beside_its_dot() -> None:
    middle, apart = (0.5, 0.5), (1.0, 0.0)
    crowd = [(0.5 + i / 20, 0.5 + j / 20) for i in range(-3, 4) for j in range(-3, 4)]
    for as_extras in (False, True):
        axes = panel()
        names = [("middle", middle), ("apart", apart)]
        write_names(axes, [] if as_extras else names, crowd, extras=names if as_extras else ())
        assert [t.get_text() for t in axes.texts] == (
            ["apart"] if as_extras else ["middle", "apart"]
        )


def test_a_name_far_from_its_dot_is_joined_to_it() -> None:
    axes = panel()
    crowd = [(0.5 + i / 30, 0.5 + j / 30) for i in range(-2, 3) for j in range(-2, 3)]
    write_names(axes, [("middle", (0.5, 0.5)), ("apart", (1.0, 0.0))], crowd)
    joined = {text.get_text(): text.arrow_patch is not None for text in axes.texts}
    assert joined == {"middle": True, "apart": False}


def test_a_name_for_which_there_is_no_room_at_all_is_still_written() -> None:
    axes = panel()
    write_names(axes, [("W" * 200, (0.5, 0.5))], [(0.5, 0.5)])
    assert [text.get_text() for text in axes.texts] == ["W" * 200]


@pytest.mark.parametrize("place", [(-0.2, -0.2), (1.2, 1.2), (-0.2, 1.2), (1.2, -0.2)])
def test_names_at_corners_point_inwards(place: tuple[float, float]) -> None:
    axes = panel()
    write_names(axes, [("corner", place)], [place])
    box, frame = axes.texts[0].get_window_extent(), axes.get_window_extent()
    assert frame.x0 < box.x0 < box.x1 < frame.x1
    assert frame.y0 < box.y0 < box.y1 < frame.y1
