"""Images at another resolution: as Pillow has them, each by itself."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

import soupmerge as sm
from soupmerge.sources.resizing import Resized, resize


def test_resizing_is_pillow_s_bicubic() -> None:
    y, x = np.mgrid[0:24, 0:36] / 36
    picture = (255 * (0.5 + 0.4 * np.sin(5 * x) * np.cos(4 * y))).astype(np.uint8)
    for side in (12, 24, 40):
        theirs = Image.fromarray(picture).resize((side * 36 // 24, side), Image.Resampling.BICUBIC)
        ours = resize(torch.from_numpy(picture)[None, None] / 255, side)
        assert ours.shape[-2:] == (side, side * 36 // 24)
        assert float((ours[0, 0] * 255 - torch.from_numpy(np.array(theirs))).abs().max()) <= 1.01


def test_a_resized_image_depends_on_no_other_and_stays_in_its_box() -> None:
    data = Resized(sm.data("digits"), 13)
    x, y = data.batch(torch.arange(9))
    assert x.shape == (9, 1, 13, 13)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    assert torch.equal(x[4:5], data.batch(torch.tensor([4]))[0])
    assert torch.equal(y, data.labels[:9])
    assert data.fingerprint()["resolution"] == 13
    assert data.fingerprint() != Resized(sm.data("digits"), 14).fingerprint()
