"""Augmentations keep labels: every image is a shifted original, mirrored half the time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from soupmerge.choices import AUGMENTATIONS, implementation
from soupmerge.training.augment import crop_flip, none


@pytest.mark.parametrize(("padding", "height", "width"), [(2, 8, 8), (1, 5, 7), (4, 9, 6)])
def test_crop_and_flip_shift_images_over_black_and_mirror_some(
    padding: int, height: int, width: int
) -> None:
    """By -padding … padding in each direction, each as likely as the others."""
    x = torch.rand(400, 2, height, width, generator=torch.Generator().manual_seed(0)) + 0.1
    noise = {"padding": padding} if padding != 4 else {}
    moved = crop_flip(x, torch.Generator().manual_seed(1), **noise)
    assert moved.shape == x.shape
    assert moved.is_contiguous()
    padded, size = F.pad(x, [padding] * 4), 2 * padding + 1
    rows, columns, mirrored = [], [], 0
    for image, source in zip(moved, padded, strict=True):
        found = [
            (i, j, flipped)
            for i in range(size)
            for j in range(size)
            for flipped in (False, True)
            for crop in [source[:, i : i + height, j : j + width]]
            if torch.equal(image, crop.flip(2) if flipped else crop)
        ]
        assert len(found) == 1
        rows.append(found[0][0])
        columns.append(found[0][1])
        mirrored += found[0][2]
    assert 160 < mirrored < 240
    for shifts in (rows, columns):
        counts = torch.tensor(shifts).bincount(minlength=size)
        assert len(counts) == size
        assert counts.min() > 400 / size / 2.5
    assert rows != columns


def test_what_is_drawn_comes_from_the_generator_alone() -> None:
    x = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    random = torch.get_rng_state()
    first = crop_flip(x, torch.Generator().manual_seed(1))
    assert torch.equal(first, crop_flip(x, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, crop_flip(x, torch.Generator().manual_seed(2)))
    assert torch.equal(torch.get_rng_state(), random)


def test_there_are_two_augmentations_and_none_does_nothing() -> None:
    made = {name: implementation(AUGMENTATIONS, name, "augment") for name in AUGMENTATIONS}
    assert made == {"crop-flip": crop_flip, "none": none}
    x = torch.rand(3, 1, 4, 4)
    assert torch.equal(none(x, torch.Generator()), x)
