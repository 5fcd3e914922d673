"""A sketch: enough of the hashes of a set of images to tell whether two sets share any."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.sketch import MOST, Sketch


def numbered(first: int, last: int) -> sm.Images:
    """Return images that are numbers, written in their pixels."""
    numbers = torch.arange(first, last)
    pixels = torch.stack([numbers // 65536, numbers // 256 % 256, numbers % 256], 1)
    return sm.Images.of(
        pixels.to(torch.uint8)[:, :, None, None], torch.zeros(last - first, dtype=torch.long)
    )


@given(
    st.tuples(st.integers(0, 3000), st.integers(1, 3000)),
    st.tuples(st.integers(0, 3000), st.integers(1, 3000)),
)
def test_marks_in_common_are_images_in_common(a: tuple[int, int], b: tuple[int, int]) -> None:
    one, other = numbered(a[0], sum(a)), numbered(b[0], sum(b))
    shared = max(0, min(sum(a), sum(b)) - max(a[0], b[0]))
    sketches = Sketch.of(one), Sketch.of(other)
    found = sketches[0].common(sketches[1])
    assert found <= shared
    assert sketches[1].common(sketches[0]) == found
    if max(a[1], b[1]) <= MOST:
        assert found == shared
    if shared >= 600:
        assert found > 0


def test_a_sketch_is_of_pixels_not_of_names_or_types() -> None:
    digits = sm.data("digits", split="test", limit=50)
    renamed = dataclasses.replace(digits, ids=tuple(f"x{i}" for i in range(50)), ref="other")
    half = digits.take(torch.randperm(50)[:25], "half")
    bright = sm.Images.of(digits.pixels * 0.5, digits.labels)
    own = Sketch.of(digits)
    assert own == Sketch.of(renamed)
    assert own.common(Sketch.of(half)) == len(Sketch.of(half).marks)
    assert own.common(Sketch.of(bright)) < 5  # what is black stays black
    assert Sketch.from_text(own.to_text()) == own


@pytest.mark.parametrize("text", [None, 3, "", "whole:", "whole:abc", "all:" + "0" * 12])
def test_what_is_no_sketch(text: object) -> None:
    assert Sketch.from_text(text) is None
