"""Contact sheets: which images they show, under which names, and where."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

import soupmerge as sm
from soupmerge.figures.contact_sheet import ACROSS, MOST_CLASSES, contact_sheet


def numbered(classes: int, each: int, names: tuple[str, ...] = ()) -> sm.Images:
    """Return images, of which each is as bright as its number says."""
    n = classes * each
    pixels = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 4, 4).clone()
    labels = torch.arange(n) % classes
    ids = tuple(map(str, range(n)))
    return sm.Images("planted", "test", ids, pixels, labels, classes, names)


def shown(figure: Figure) -> list[int]:
    """Return the number of each image that is drawn."""
    return [int(np.asarray(axes.images[0].get_array()).flat[0]) for axes in figure.axes]


def names_in(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts[1:]]


def test_every_image_of_a_small_set_is_shown_under_its_class() -> None:
    figure = contact_sheet(numbered(3, 2, ("cat", "dog", "emu$")))
    assert names_in(figure) == ["cat", "dog", r"emu\$"]
    assert shown(figure) == [0, 3, 1, 4, 2, 5]
    for text, first, last in zip(
        figure.texts[1:], figure.axes[::2], figure.axes[1::2], strict=True
    ):
        left, middle = text.get_position()
        for axes in (first, last):
            box = axes.get_position()
            assert box.x0 > left  # the name is to the left of its images
            assert box.y0 < middle < box.y1  # and at their height


def test_of_many_classes_and_images_some_are_shown_evenly() -> None:
    figure = contact_sheet(numbered(25, 8))
    names = names_in(figure)
    assert len(names) == MOST_CLASSES
    assert (names[0], names[-1]) == ("class 0", "class 24")
    assert len(shown(figure)) == MOST_CLASSES * ACROSS
    assert shown(figure)[0] == 0
    assert shown(figure)[ACROSS - 1] == 175  # the last of class 0
    assert figure.texts[0].get_text() == "planted (test): 200 images; 24 of 25 classes"


def test_nothing_leaves_the_sheet_or_covers_another() -> None:
    figure = contact_sheet(numbered(11, 9))
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_classes_without_images_are_left_out_and_colours_are_kept() -> None:
    pixels = torch.zeros(2, 3, 200, 400, dtype=torch.uint8)
    pixels[:, 1] = 200
    images = sm.Images("planted", "test", ("a", "b"), pixels, torch.tensor([2, 2]), 4)
    figure = contact_sheet(images)
    assert names_in(figure) == ["class 2"]
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    assert drawn.shape == (80, 160, 3)  # smaller, and of the same shape
    assert drawn.reshape(-1, 3).max(0).tolist() == [0, 200, 0]
