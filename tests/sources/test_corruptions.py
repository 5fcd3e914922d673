"""Corrupted images: each by itself, by its strength, as other implementations have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.sources.corrupting import STRENGTHS, corrupt

NAMES = tuple(STRENGTHS)


def pixels(ref: str, limit: int = 40) -> torch.Tensor:
    images = sm.data(ref, limit=limit)
    return images.batch(torch.arange(len(images)))[0]


@pytest.mark.parametrize("name", NAMES)
def test_what_becomes_of_an_image_depends_on_no_other(name: str) -> None:
    few, all_of_them = sm.data(f"{name}-3:digits", limit=7), sm.data(f"{name}-3:digits")
    places = torch.tensor([list(all_of_them.ids).index(id) for id in few.ids])
    assert torch.equal(few.pixels, all_of_them.pixels[places])
    plain = sm.data("digits", limit=7)
    assert (few.ids, few.labels.tolist()) == (plain.ids, plain.labels.tolist())
    assert few.fingerprint()["sha256"] != plain.fingerprint()["sha256"]


@pytest.mark.parametrize("name", NAMES)
def test_a_greater_strength_changes_more(name: str) -> None:
    plain = pixels("digits")
    far = [float((pixels(f"{name}-{i}:digits") - plain).square().mean()) for i in range(1, 6)]
    assert all(b >= a - 1e-6 for a, b in zip(far[:-1], far[1:], strict=True))
    assert far[-1] > 2 * far[0]


def jpeg_by_hand(image: np.ndarray, quality: int) -> np.ndarray:
    """Return what is left of one grey block of 8×8: its DCT in steps of a table (T.81, annex K)."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = np.clip(np.floor((scale * LUMINANCE + 50) / 100), 1, 255)
    rounded = table * np.round(scipy.fft.dctn(image * 255 - 128, norm="ortho") / table)
    return (scipy.fft.idctn(rounded, norm="ortho") + 128).clip(0, 255) / 255


LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


@pytest.mark.parametrize("strength", [1, 5])
def test_corruptions_agree_with_other_implementations(strength: int) -> None:
    sigma, quality, factor = (STRENGTHS[n][strength - 1] for n in ("blur", "jpeg", "contrast"))
    reach = int(np.ceil(3 * 8 * sigma))
    found = {name: pixels(f"{name}-{strength}:digits").squeeze(1).numpy() for name in NAMES}
    off: dict[str, list[float]] = {"blur": [], "contrast": [], "jpeg": []}
    for i, image in enumerate(pixels("digits").squeeze(1).numpy()):
        stored = (image * 255).round() / 255
        ours = {
            "blur": scipy.ndimage.gaussian_filter(image, 8 * sigma, mode="mirror", radius=reach),
            "contrast": image.mean() + factor * (image - image.mean()),
            "jpeg": jpeg_by_hand(stored, int(quality)),
        }
        for name, expected in ours.items():
            off[name].append(255 * np.abs(found[name][i] - expected).max())
    assert max(off["blur"] + off["contrast"]) < 0.6
    # A coefficient halfway between two steps may go either way.
    assert np.quantile(off["jpeg"], 0.8) < 1.6


def test_colours_are_corrupted_too() -> None:
    images = sm.Images.of(torch.rand(3, 3, 16, 16), [0, 1, 2])
    for name in NAMES:
        out = corrupt(images.pixels, images.ids, name, 2)
        assert out.shape == images.pixels.shape
        assert out.dtype == torch.uint8


def test_noise_has_its_deviation_and_is_the_same_at_all_strengths() -> None:
    grey = torch.full((64, 3, 16, 16), 128, dtype=torch.uint8)
    weak, strong = (corrupt(grey, [str(i) for i in range(64)], "noise", s).float() for s in (1, 2))
    assert float(weak.std()) / 255 == pytest.approx(STRENGTHS["noise"][0], rel=0.02)
    assert torch.allclose((strong - 128) / 2, weak - 128, atol=1)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("blur-0:digits", ("'0'", "1 to 5")),
        ("blur-6:digits", ("'6'", "1 to 5")),
        ("blur-x:digits", ("'x'", "1 to 5")),
        ("blurr-3:digits", ("'blurr'", "'blur'")),
        ("blur-1:noise-2:digits", ("once",)),
    ],
)
def test_what_cannot_be_meant_is_said(ref: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        sm.data(ref)
    assert all(word in str(caught.value) for word in words)


def test_accuracy_falls_with_strength(trained: list[Path]) -> None:
    pot = sm.load(trained[0])[0]
    net = sm.bind(sm.model(like=pot), pot)
    for name in NAMES:
        judged = [
            sm.Benchmark(sm.data(f"{name}-{i}:digits"))(net).accuracy("clean") for i in range(1, 6)
        ]
        assert all(b <= a + 0.03 for a, b in zip(judged[:-1], judged[1:], strict=True)), name
        assert judged[-1] <= judged[0]
