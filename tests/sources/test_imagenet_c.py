"""ImageNet-C's corruptions: by the formulas and constants of Hendrycks & Dietterich's code."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as nd
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image

import soupmerge as sm
from soupmerge.choices import IMAGENET_C, IMAGENET_C_EXTRA
from soupmerge.errors import InputError, OutputError
from soupmerge.sources.images import imagenet_c
from soupmerge.sources.images.corruptions import corrupt
from tests.sources.test_corruptions import picture

KINDS = (*IMAGENET_C, *IMAGENET_C_EXTRA)
RANDOM = {*KINDS} - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"}
RANDOM -= {"jpeg_compression", "gaussian_blur", "saturate"}

Array = np.ndarray

X = picture(count=1, height=48, width=64)
strengths = pytest.mark.parametrize("strength", range(1, 6))
kinds = pytest.mark.parametrize("kind", KINDS)


def corrupted(x: torch.Tensor, kind: str, strength: int, id: str = "a.jpg") -> Array:
    """Return the corrupted image *x*, ``(1, C_in, H, W)``, as ``(H, W, C_in)`` from 0 to 255."""
    found = corrupt(x, [id], kind, strength)
    assert (found.shape, found.dtype) == (x.shape, torch.uint8)
    return found[0].permute(1, 2, 0).numpy().astype(float)


def plain(value: int, side: int = 64) -> torch.Tensor:
    return torch.full((1, 3, side, side), value, dtype=torch.uint8)


# ---- Corruptions without randomness, each by another implementation.


def defocused(x: Array, strength: int) -> Array:
    radius, blur = [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)][strength - 1]
    reach, width = (8, 1) if radius <= 8 else (radius, 2)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (rows**2 + columns**2 <= radius**2).astype(float)
    disk = nd.gaussian_filter(disk / disk.sum(), blur, mode="mirror", radius=width)
    return nd.correlate(x, disk[..., None], mode="mirror")


def zoomed(x: Array, strength: int) -> Array:
    end, step = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)][strength - 1]
    sizes, layers = x.shape[:2], [x]
    for factor in np.arange(1, end, step):
        cut = [int(np.ceil(side / factor)) for side in sizes]
        grids = [
            (side - part) // 2 + np.arange(side) * (part - 1) / (round(part * factor) - 1)
            for side, part in zip(sizes, cut, strict=True)
        ]
        places = np.meshgrid(*grids, indexing="ij")
        layers.append(
            np.stack([nd.map_coordinates(c, places, order=1) for c in x.transpose(2, 0, 1)], -1)
        )
    return np.mean(layers, axis=0)


def brightened(x: Array, strength: int) -> Array:
    hsv = rgb_to_hsv(x)
    hsv[..., 2] += strength / 10
    return hsv_to_rgb(hsv.clip(0, 1))


def saturated(x: Array, strength: int) -> Array:
    factor, more = [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)][strength - 1]
    hsv = rgb_to_hsv(x)
    hsv[..., 1] = hsv[..., 1] * factor + more
    return hsv_to_rgb(hsv.clip(0, 1))


def contrasted(x: Array, strength: int) -> Array:
    mean = x.mean((0, 1))
    return mean + (x - mean) * [0.4, 0.3, 0.2, 0.1, 0.05][strength - 1]


def pixelated(x: Array, strength: int) -> Array:
    part = [0.6, 0.5, 0.4, 0.3, 0.25][strength - 1]
    height, width = x.shape[:2]
    image = Image.fromarray((x * 255).round().astype(np.uint8))
    small = image.resize((int(width * part), int(height * part)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX)) / 255


def compressed(x: Array, strength: int) -> Array:
    file = io.BytesIO()
    image = Image.fromarray((x * 255).round().astype(np.uint8))
    image.save(file, "JPEG", quality=[25, 18, 15, 10, 7][strength - 1])
    return np.asarray(Image.open(file)) / 255


def blurred(x: Array, strength: int) -> Array:
    sigma = [1, 2, 3, 4, 6][strength - 1]
    return nd.gaussian_filter(x, (sigma, sigma, 0), mode="nearest", truncate=4)


BY_FORMULA: dict[str, Callable[[Array, int], Array]] = {
    "defocus_blur": defocused,
    "zoom_blur": zoomed,
    "brightness": brightened,
    "contrast": contrasted,
    "pixelate": pixelated,
    "jpeg_compression": compressed,
    "gaussian_blur": blurred,
    "saturate": saturated,
}


@strengths
@pytest.mark.parametrize("kind", BY_FORMULA)
def test_corruptions_are_those_of_their_formulas(kind: str, strength: int) -> None:
    x = X[0].permute(1, 2, 0).numpy() / 255
    expected = 255 * BY_FORMULA[kind](x, strength).clip(0, 1)
    off = corrupted(X, kind, strength) - expected
    assert off.min() > -1.001  # cut off to bytes, not rounded, as by ImageNet-C's authors
    assert off.max() < 0.001


# ---- Noise, by its distribution.


@strengths
def test_gaussian_noise_has_its_deviation(strength: int) -> None:
    sigma = [0.08, 0.12, 0.18, 0.26, 0.38][strength - 1]
    found = corrupted(plain(128, 96), "gaussian_noise", strength)
    inside = found[(found > 0) & (found < 255)]
    cut = np.random.default_rng(0).normal(128, 255 * sigma, 10**6).clip(0, 255)
    assert inside.std() == pytest.approx(cut[(cut > 0) & (cut < 255)].std(), rel=0.02)
    assert (found == 255).mean() == pytest.approx((cut == 255).mean(), abs=0.01)


@strengths
def test_shot_noise_counts_photons(strength: int) -> None:
    photons = [60, 25, 12, 5, 3][strength - 1]
    found = corrupted(plain(51, 96), "shot_noise", strength) / 255  # 0.2: hardly any is cut
    assert found.mean() == pytest.approx(0.2, abs=0.01)
    assert found.var() == pytest.approx(0.2 / photons, rel=0.1)
    assert len(np.unique(found)) <= photons + 1


@strengths
def test_impulse_noise_is_salt_and_pepper(strength: int) -> None:
    share = [0.03, 0.06, 0.09, 0.17, 0.27][strength - 1]
    found = corrupted(plain(100, 96), "impulse_noise", strength)
    for value, part in ((0, share / 2), (255, share / 2), (100, 1 - share)):
        assert (found == value).mean() == pytest.approx(part, abs=0.01)


@strengths
def test_speckle_noise_grows_with_brightness(strength: int) -> None:
    sigma = [0.15, 0.2, 0.35, 0.45, 0.6][strength - 1]
    for value in (40, 60):
        found = corrupted(plain(value, 96), "speckle_noise", strength)
        cut = np.random.default_rng(0).normal(value, sigma * value, 10**6).clip(0, 255)
        assert found.std() == pytest.approx(cut.std(), rel=0.03)


# ---- The others, by what their formulas imply.


@strengths
def test_motion_blur_draws_a_dot_out_into_half_a_gaussian(strength: int) -> None:
    radius, sigma = [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)][strength - 1]
    x = plain(0, 95)
    x[..., 46:49, 46:49] = 255
    found = corrupted(x, "motion_blur", strength)[..., 0]
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    rows, columns = (np.average(grid, weights=found) - 47 for grid in np.mgrid[:95, :95])
    assert np.hypot(rows, columns) == pytest.approx(np.average(steps, weights=weights), rel=0.1)
    assert abs(rows) <= abs(columns) + 1  # the angle is at most 45°


@strengths
def test_fog_is_a_veil_between_its_formula_s_ends(strength: int) -> None:
    veil = [1.5, 2, 2.5, 2.5, 3][strength - 1]
    found, v = corrupted(plain(204), "fog", strength), 0.8
    assert found.min() == int(255 * v * v / (v + veil) + 1e-6)  # where there is no fog
    assert found.max() == pytest.approx(204, abs=1)  # where it is thickest
    assert np.array_equal(found[..., 0], found[..., 2])


@strengths
def test_frost_lies_over_the_image(strength: int) -> None:
    share = [1, 0.8, 0.7, 0.65, 0.6][strength - 1]
    dark, light = (corrupted(plain(value), "frost", strength) for value in (0, 50))
    unclipped = light < 255
    assert unclipped.mean() > 0.05
    assert (light - dark)[unclipped] == pytest.approx(share * 50, abs=1)
    assert dark.std() > 5


@strengths
def test_snow_falls_on_a_lightened_image(strength: int) -> None:
    share = [0.8, 0.7, 0.7, 0.65, 0.55][strength - 1]
    found, v = corrupted(plain(51), "snow", strength), 0.2
    ground = share * v + (1 - share) * (1.5 * v + 0.5)
    assert found.min() >= int(255 * ground) - 1
    assert found.max() > 255 * ground + 20


@pytest.mark.parametrize(("strength", "colour"), [(1, "water"), (3, "water"), (4, "mud")])
def test_spatter_is_water_and_then_mud(strength: int, colour: str) -> None:
    found = corrupted(plain(120, 160), "spatter", strength)
    changed = (found != 120).any(-1)
    assert 0.001 < changed.mean() < 0.5
    if colour == "water":
        assert (found >= 120).all()
        assert found[changed][:, 1].mean() > found[changed][:, 0].mean()
    else:
        assert found[changed].min(0) == pytest.approx((63, 42, 20), abs=1)


def test_an_image_that_no_drop_hits_stays_as_it_is() -> None:
    x = plain(120, 32).expand(60, -1, -1, -1)
    found = corrupt(x, [f"{i}" for i in range(60)], "spatter", 1)
    same = (found == x).flatten(1).all(1)
    assert 0 < same.sum() < 10  # and none is black, as 0 / 0 would be
    assert (found >= 120).all()


@pytest.mark.parametrize("kind", ["defocus_blur", "glass_blur", "motion_blur", "gaussian_blur"])
def test_blurs_leave_a_plain_image(kind: str) -> None:
    assert np.abs(corrupted(plain(90), kind, 5) - 90).max() <= 2


def behind_glass(x: Array, strength: int, draw: np.random.Generator) -> Array:
    """Return *x*, ``(H, W, 3)`` in [0, 1], blurred, seen through glass, and blurred again.

    The published code means to exchange two pixels, but overwrites one with the other.
    """
    sigma, reach, times = [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)][
        strength - 1
    ]
    x = nd.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")
    height, width = x.shape[:2]
    for _ in range(times):
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                down, right = draw.integers(-reach, reach, 2)
                other = row + down, column + right
                x[row, column] = x[other]
    return nd.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


@strengths
def test_glass_blur_shows_pixels_from_nearby(strength: int) -> None:
    x, draw = X[0].permute(1, 2, 0).numpy() / 255, np.random.default_rng(0)
    found = [corrupted(X, "glass_blur", strength, f"{i}") / 255 for i in range(4)]
    expected = [behind_glass(x.copy(), strength, draw) for _ in range(4)]
    far, as_far = (np.mean([np.square(y - x).mean() for y in ys]) for ys in (found, expected))
    assert far == pytest.approx(as_far, rel=0.15)
    apart, as_apart = (np.square(ys[0] - ys[1]).mean() for ys in (found, expected))
    assert apart == pytest.approx(as_apart, rel=0.3)


@pytest.mark.parametrize(
    ("strength", "scale", "sigma"), [(3, 0.05, 0.01), (4, 0.07, 0.01), (5, 0.12, 0.01)]
)
def test_elastic_transform_displaces_as_its_constants_say(
    strength: int, scale: float, sigma: float
) -> None:
    side = 224
    ramp = np.broadcast_to(np.arange(side, dtype=np.uint8), (side, side))
    image = np.stack([ramp, ramp.T, ramp], -1)
    found = imagenet_c.elastic_transform(image, strength, np.random.RandomState(3)).astype(float)
    inner = (slice(24, -24), slice(24, -24))
    rows, columns = np.indices((side, side))
    # What remains of the displacements (dx, dy) after the best affine map is their own part.
    basis = np.stack([rows[inner].ravel(), columns[inner].ravel(), np.ones(176**2)], 1)
    for channel in (0, 1):
        moved = found[..., channel][inner].ravel()
        rest = moved - basis @ np.linalg.lstsq(basis, moved, rcond=None)[0]
        # Uniform noise of deviation 1/√3, smoothed by a Gaussian of width s: 1/(2 √(π) s) of it.
        expected = scale * 244 / np.sqrt(3) / (2 * np.sqrt(np.pi) * sigma * 244)
        assert rest.std() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("strength", "shift"), [(1, 0.1), (2, 0.2), (3, 0.02)])
def test_elastic_transform_shifts_corners_within_their_limits(strength: int, shift: float) -> None:
    image, far = np.zeros((224, 224, 3), np.uint8), []
    image[92:132, 92:132] = 255  # the centre of mass of which moves with the corners
    for seed in range(8):
        found = imagenet_c.elastic_transform(image, strength, np.random.RandomState(seed))
        centre = [np.average(grid, weights=found[..., 0]) for grid in np.mgrid[:224, :224]]
        far.append(max(abs(c - 111.5) for c in centre))
    # Twice the limit: the centre is the mean of two corners, and pixels are displaced as well.
    assert max(far) < 2 * 244 * shift
    assert max(far) > 0.1 * 244 * shift


# ---- Of all.


@kinds
def test_a_result_depends_on_kind_strength_id_and_pixels_alone(kind: str) -> None:
    x = X.expand(2, -1, -1, -1)
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
    both = corrupt(x, ["a", "b"], kind, 3)
    after = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
    assert before == after
    np.random.seed(2)
    assert torch.equal(corrupt(x[1:], ["b"], kind, 3)[0], both[1])
    assert torch.equal(corrupt(x.float() / 255, ["a", "b"], kind, 3), both)
    assert torch.equal(both[0], both[1]) != (kind in RANDOM)


@pytest.mark.parametrize("kind", ["gaussian_noise", "impulse_noise", "glass_blur", "snow"])
def test_threads_do_not_disturb_each_other(kind: str) -> None:
    ids = [f"{i}" for i in range(12)]
    expected = [corrupted(X, kind, 2, id) for id in ids]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda id: corrupted(X, kind, 2, id), ids))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@kinds
def test_grey_images_stay_grey(kind: str) -> None:
    grey = X[:, :1]
    found = corrupted(grey, kind, 2)
    assert found.shape == (48, 64, 1)
    assert 0 < np.abs(found - grey[0].permute(1, 2, 0).numpy()).mean() < 128 or kind == "saturate"


@kinds
def test_images_may_be_of_any_shape(kind: str) -> None:
    for height, width in ((32, 32), (33, 71), (90, 40)):
        x = picture(count=1, height=96, width=96)[..., :height, :width]
        assert corrupted(x, kind, 5).shape == (height, width, 3)


def test_images_of_fewer_pixels_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        sm.data("fog-3:digits", limit=2)
    assert str(caught.value) == (
        "fog: images have 8×8 pixels, and it needs 32×32 or more; "
        "enlarge them, or take blur, noise, low_contrast or jpeg"
    )


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imagenet_c, "PACKAGE", "imagecorruptions-of-nobody")
    with pytest.raises(OutputError) as caught:
        sm.data("gaussian-noise-3:digits", limit=2)
    assert caught.value.exit_status == 5
    assert str(caught.value).endswith("; pip install 'soupmerge[corruptions]'")
    assert len(sm.data("noise-3:digits", limit=2)) == 2  # needs none


def test_stored_images_are_corrupted_after_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label, image in enumerate(picture(count=3, height=80, width=96)):
        (tmp_path / f"{label}").mkdir()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{label}" / "a.png")
    ref = f"folder:{tmp_path}?resize=48&crop=40"
    plain, foggy = sm.data(ref), sm.data(f"fog-4:{ref}")
    indices = torch.tensor([2, 0])
    ids = [plain.ids[2], plain.ids[0]]
    assert torch.equal(foggy.pixels[indices], corrupt(plain.pixels[indices], ids, "fog", 4))
    assert foggy.fingerprint()["corrupted by"].startswith("imagecorruptions-imaug ")
    assert foggy.sha256 not in (plain.sha256, sm.data(f"fog-3:{ref}").sha256)
    monkeypatch.setattr(imagenet_c, "PACKAGE", "imagecorruptions-of-nobody")
    with pytest.raises(OutputError):  # before any image is asked for
        sm.data(f"fog-4:{ref}")
