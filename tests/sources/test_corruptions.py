"""Corruptions: each strength by another implementation, and that images do not touch each other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
from scipy import stats

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.sources.images.corruptions import corrupt

BLUR = (0.015, 0.025, 0.035, 0.05, 0.07)
NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)
CONTRAST = (0.75, 0.5, 0.35, 0.2, 0.1)
JPEG = (60, 40, 25, 15, 8)
NAMES = ("blur", "noise", "low_contrast", "jpeg")


def picture(count: int = 2, channels: int = 3, height: int = 40, width: int = 56) -> torch.Tensor:
    """Return smooth images with some detail, as bytes."""
    generator = np.random.default_rng(0)
    coarse = generator.random((count, channels, height // 8, width // 8))
    fine = scipy.ndimage.zoom(coarse, (1, 1, 8, 8), order=3).clip(0, 1)
    return torch.from_numpy((255 * fine).round().astype(np.uint8))


def corrupted(x: torch.Tensor, name: str, strength: int) -> np.ndarray:
    found = corrupt(x, [f"id {i}" for i in range(len(x))], name, strength)
    assert (found.shape, found.dtype) == (x.shape, torch.uint8)
    return found.numpy().astype(float)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", range(1, 6))
def test_blur_is_scipy_s_gaussian_of_a_part_of_the_shorter_side(
    strength: int, channels: int
) -> None:
    x = picture(channels=channels)
    sigma = BLUR[strength - 1] * 40
    expected = scipy.ndimage.gaussian_filter(
        x.numpy().astype(float),
        (0, 0, sigma, sigma),
        mode="mirror",
        radius=(0, 0, *[int(np.ceil(3 * sigma))] * 2),
    )
    assert np.abs(corrupted(x, "blur", strength) - expected).max() < 0.6  # rounded to bytes


def test_blur_reaches_as_far_as_a_small_image_can_be_reflected() -> None:
    x = picture(height=16, width=16)[:, :, :2, :3]
    assert corrupted(x, "blur", 5).shape == (2, 3, 2, 3)
    one = corrupted(x[:, :, :1, :], "blur", 5)
    assert np.array_equal(one, x[:, :, :1].numpy())  # nothing to reflect: nothing to blur


@pytest.mark.parametrize("strength", range(1, 6))
def test_contrast_draws_numbers_to_the_mean_of_the_grey_image(strength: int) -> None:
    x, factor = picture(), CONTRAST[strength - 1]
    luma = np.einsum("nchw,c->nhw", x.numpy().astype(float), (0.2989, 0.587, 0.114))
    mean = luma.mean((1, 2))[:, None, None, None]
    expected = mean + factor * (x.numpy() - mean)
    assert np.abs(corrupted(x, "low_contrast", strength) - expected).max() < 0.6
    grey = x[:, :1]
    expected = grey.numpy().mean((2, 3), keepdims=True) * (1 - factor) + factor * grey.numpy()
    assert np.abs(corrupted(grey, "low_contrast", strength) - expected).max() < 0.6


@pytest.mark.parametrize("strength", range(1, 6))
def test_noise_is_gaussian_of_its_deviation(strength: int) -> None:
    grey = torch.full((8, 3, 32, 32), 128, dtype=torch.uint8)
    found = corrupted(grey, "noise", strength) - 128
    steps = np.arange(-128, 128)
    edges = stats.norm(0, 255 * NOISE[strength - 1]).cdf(np.r_[-np.inf, steps[:-1] + 0.5, np.inf])
    shares = np.diff(edges)  # of each byte; what leaves the box is cut
    assert found.std() == pytest.approx(np.sqrt(shares @ steps**2), rel=0.015)
    counts = np.bincount((found + 128).astype(int).ravel(), minlength=256)
    off = np.abs(np.cumsum(counts) / counts.sum() - np.cumsum(shares)).max()
    assert off < 1.63 / np.sqrt(counts.sum())  # Kolmogorov's bound for one in a hundred


def test_noise_is_the_same_at_all_strengths_and_an_image_s_own() -> None:
    grey = torch.full((2, 1, 16, 16), 128, dtype=torch.uint8)
    weak, strong = (corrupted(grey, "noise", s) - 128 for s in (1, 2))
    assert np.abs(strong / 2 - weak).max() <= 1
    assert np.abs(np.corrcoef(weak[0].ravel(), weak[1].ravel())[0, 1]) < 0.3
    again = corrupt(grey[:1], ["id 1"], "noise", 1).numpy() - 128.0
    assert np.array_equal(again[0], weak[1])  # by its id, wherever it is


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


def jpeg_by_hand(image: np.ndarray, quality: int) -> np.ndarray:
    """Return what is left of one grey block of 8×8: its DCT in steps of a table (T.81, annex K)."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = np.clip(np.floor((scale * LUMINANCE + 50) / 100), 1, 255)
    rounded = table * np.round(scipy.fft.dctn(image - 128, norm="ortho") / table)
    return (scipy.fft.idctn(rounded, norm="ortho") + 128).clip(0, 255)


@pytest.mark.parametrize("strength", range(1, 6))
def test_jpeg_is_the_standard_s_of_its_quality(strength: int) -> None:
    x = picture(count=40, channels=1, height=8, width=8)
    found = corrupted(x, "jpeg", strength)[:, 0]
    expected = [jpeg_by_hand(image.astype(float), JPEG[strength - 1]) for image in x[:, 0].numpy()]
    off = np.abs(found - expected).max((1, 2))
    assert np.quantile(off, 0.8) < 1.6  # a coefficient halfway between two steps may go either way


@pytest.mark.parametrize("quality", JPEG)
def test_jpeg_of_colours_is_pillow_s(quality: int) -> None:
    import io

    from PIL import Image

    x = picture()
    for image, found in zip(x, corrupted(x, "jpeg", JPEG.index(quality) + 1), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        assert np.array_equal(found.transpose(1, 2, 0), np.asarray(Image.open(file)))


@pytest.mark.parametrize("name", NAMES)
def test_a_greater_strength_changes_more(name: str) -> None:
    x = picture()
    far = [np.square(corrupted(x, name, s) - x.numpy()).mean() for s in range(1, 6)]
    assert all(b > a for a, b in zip(far[:-1], far[1:], strict=True))
    assert far[-1] > 2 * far[0]


@pytest.mark.parametrize("name", NAMES)
def test_bytes_and_numbers_are_corrupted_alike_however_many_there_are(name: str) -> None:
    x = picture(count=3, height=8, width=8).repeat(90, 1, 1, 1)  # more than go at a time
    ids = [str(i) for i in range(len(x))]
    whole = corrupt(x, ids, name, 3)
    assert torch.equal(whole, corrupt(x.float() / 255, ids, name, 3))
    for i in (0, 255, 256, 269):
        assert torch.equal(whole[i : i + 1], corrupt(x[i : i + 1], ids[i : i + 1], name, 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_corrupted_set_is_the_set_but_for_its_pixels(name: str) -> None:
    plain, ref = sm.data("digits", limit=7), f"{name}-3:digits"
    images = sm.data(ref, limit=7)
    assert (images.ids, images.labels.tolist()) == (plain.ids, plain.labels.tolist())
    assert (images.ref, images.split, images.classes) == (ref, plain.split, plain.classes)
    assert torch.equal(images.pixels, corrupt(plain.pixels, plain.ids, name, 3))
    assert images.sha256 != plain.sha256


def test_several_corruptions_of_a_set_read_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from soupmerge.sources.images import reading as data

    asked: list[str] = []
    digits = data.READERS["digits"]
    monkeypatch.setitem(
        data.READERS, "digits", lambda *settings: asked.append(settings[1]) or digits(*settings)
    )
    refs = ["blur-1:digits", "digits", "noise-2:digits"]
    sets = data.data_sets(refs, split="val", limit=5)
    assert [images.ref for images in sets] == refs
    assert asked == ["val"]
    assert torch.equal(sets[1].pixels, sm.data("digits", split="val", limit=5).pixels)


def test_a_kind_may_be_written_with_dashes() -> None:
    images = sm.data("low-contrast-2:digits", limit=4)
    assert images.ref == "low_contrast-2:digits"
    assert images.sha256 == sm.data("low_contrast-2:digits", limit=4).sha256


def test_an_unknown_corruption_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown corruption 'fogg'; did you mean 'fog'"):
        sm.data("fogg-1:digits")
