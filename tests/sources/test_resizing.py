"""Images at another resolution: Pillow's interpolation, and what identifies them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.sources.images.resizing import Resized, resize


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    return (255 * (0.5 + 0.4 * np.sin(5 * x) * np.cos(4 * y))).astype(np.uint8)


@pytest.mark.parametrize("side", [1, 5, 12, 24, 40])
@pytest.mark.parametrize("shape", [(24, 36), (37, 24), (24, 24)])
def test_resizing_is_pillow_s_bicubic_by_the_shorter_side(
    shape: tuple[int, int], side: int
) -> None:
    image = picture(*shape)
    height, width = (side * length // 24 for length in shape)
    theirs = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    ours = resize(torch.from_numpy(image)[None, None] / 255, side)
    assert ours.shape == (1, 1, height, width)
    assert np.abs(ours[0, 0].numpy() * 255 - np.asarray(theirs)).max() <= 1.1


def test_what_overshoots_goes_back_into_the_box() -> None:
    edges = torch.zeros(1, 3, 8, 8)
    edges[..., 4:] = 1
    plain = torch.nn.functional.interpolate(edges, (13, 13), mode="bicubic", antialias=True)
    assert float(plain.min()) < 0 < 1 < float(plain.max())
    assert torch.equal(resize(edges, 13), plain.clamp(0, 1))


def test_images_of_that_size_stay_as_they_are() -> None:
    x = torch.rand(2, 3, 8, 11)
    assert resize(x, 8) is x


def test_a_resized_set_is_the_set_at_another_size() -> None:
    plain = sm.data("digits", limit=9)
    data = Resized(plain, 13)
    x, y = data.batch(torch.tensor([4, 0]))
    assert torch.equal(x, resize(plain.batch(torch.tensor([4, 0]))[0], 13))
    assert torch.equal(y, plain.labels[[4, 0]])
    assert torch.equal(x[:1], data.batch(torch.tensor([4]))[0])  # an image depends on no other
    for name in ("ref", "ids", "classes"):
        assert getattr(data, name) == getattr(plain, name)
    assert torch.equal(data.labels, plain.labels)
    assert len(data) == 9
    found = {"resolution": 13, "resize": "bicubic, antialiased"}
    assert data.fingerprint() == {**plain.fingerprint(), **found}


@pytest.mark.parametrize(
    ("side", "known"), [(0, False), (1, True), (4096, True), (4097, False), (-5, False)]
)
def test_resolutions_are_pixels(side: int, known: bool) -> None:
    plain = sm.data("digits", limit=1)
    if known:
        assert Resized(plain, side).resolution == side
        return
    with pytest.raises(UsageError, match=rf"resolution: {side} is not in 1…4096; give pixels"):
        Resized(plain, side)
