"""Colours, as eyes without one kind of cone see them (Machado et al. 2009), in linear light."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from soupmerge.figures import palette
from tests.figures.colours import contrast, light

CONES = {
    "all": np.eye(3),
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}


@pytest.mark.parametrize("cones", CONES)
@pytest.mark.parametrize("shades", [palette.COLOURS, palette.DARK], ids=["light", "dark"])
def test_metrics_are_told_apart_by_every_eye(shades: dict[str, str], cones: str) -> None:
    seen = {m: np.clip(CONES[cones] @ light(c), 0, 1) ** (1 / 2.2) for m, c in shades.items()}
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 0.17, (a, b)


@pytest.mark.parametrize(("shades", "ground"), [("COLOURS", "#ffffff"), ("DARK", "#14171b")])
def test_metrics_stand_out_from_the_ground(shades: str, ground: str) -> None:
    for metric, shade in getattr(palette, shades).items():
        # As WCAG 2.2 asks of graphics, 1.4.11.
        assert contrast(shade, ground) >= 3, metric


@pytest.mark.parametrize("dark", [False, True])
def test_a_metric_has_the_colour_of_its_norm_whatever_its_radius(dark: bool) -> None:
    shades = palette.DARK if dark else palette.COLOURS
    assert palette.colour("linf:8/255", dark=dark) == shades["linf"]
    assert palette.colour("clean", dark=dark) == shades["clean"]
    other = palette.colour("l0:3", dark=dark)
    assert other == (palette.OTHER_DARK if dark else palette.OTHER)
    assert other not in shades.values()


def test_metrics_are_written_for_readers() -> None:
    assert palette.pretty("linf:8/255") == "Linf 8/255"
    assert palette.pretty("l2:0.5") == "L2 0.5"
    assert palette.pretty("union") == "union"


@pytest.mark.parametrize("colours", [palette.INGREDIENTS, palette.INGREDIENTS_DARK])
def test_ingredients_have_colours_of_their_own(colours: tuple[str, ...]) -> None:
    assert len(set(colours)) == 8
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in colours)
    assert not set(colours) & {*palette.COLOURS.values(), *palette.DARK.values()}
